# `make` alone lists the commands. The environment lives in .venv and is made when first needed.
PYTHON ?= python3
BIN := .venv/bin
UNFINISHED := .venv/.instalacao-incompleta
# Not compiled by pip: Python compiles what it imports, once, and only that. 270 MB less, and sooner done.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile
# On Linux, without an NVIDIA GPU: PyTorch's own index of builds without CUDA, 1.3 GB in all instead of 6. Elsewhere the
# ordinary builds have no CUDA. Another choice: `make run TORCH_INDEX=https://…`; the ordinary builds: TORCH_INDEX=
CPU_BUILDS := https://download.pytorch.org/whl/cpu
TORCH_INDEX ?= $(shell [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null && echo $(CPU_BUILDS))

.DEFAULT_GOAL := help
.PHONY: help run predict lab avulso demo test test-fast test-browser lint bench notebook model

help:  ## mostra esta lista
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

run: .venv/.pronto  ## instala, traz os dados e executa o caderno inteiro; resultados em runs/
	@$(BIN)/python -m classificador caderno

predict: .venv/.pronto  ## só a seção de predição, com o best_model.pth que existe
	@$(BIN)/python -m classificador caderno --predicao

lab: .venv/.pronto  ## abre o caderno no JupyterLab
	@$(BIN)/jupyter lab Pytorch.ipynb --ServerApp.use_redirect_file=False  # a file that snap's Firefox may not read

avulso: .venv/.pronto  ## grava dist/Pytorch.ipynb, o caderno em um arquivo só, para o Colab ou o Kaggle
	@$(BIN)/python -m classificador avulso

demo: .venv/.pronto-pagina  ## grava em dist/ e abre uma página que diz a classe de fotos suas
	@$(BIN)/python -m classificador pagina --abrir

test: .venv/.pronto-dev  ## executa os testes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal  # two at a time, a core each

test-fast: .venv/.pronto-dev  ## executa em menos de um minuto os testes rápidos
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow'

test-browser: .venv/.pronto-dev .venv/.pronto-browser  ## executa o caderno e a página em Chromium e Firefox sem tela
	@command -v chromium chromium-browser google-chrome >/dev/null || $(BIN)/playwright install --with-deps chromium
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup tests/browser

lint: .venv/.pronto-dev  ## confere o estilo e os tipos do código e do caderno
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: .venv/.pronto .venv/.pronto-onnx .venv/.pronto-pagina  ## mede tempo até cada acurácia, passo, predição, processos…; 5 sementes (uma a três horas)
	@$(BIN)/python -m benchmarks.step
	@$(BIN)/python -m benchmarks.prediction
	@$(BIN)/python -m benchmarks.use
	@$(BIN)/python -m benchmarks.robustness
	@$(BIN)/python -m benchmarks.unknown
	@$(BIN)/python -m benchmarks.scaling
	@$(BIN)/python -m benchmarks.export
	@$(BIN)/python -m benchmarks.page
	@$(BIN)/python -m benchmarks.time_to_accuracy
	@$(BIN)/python -m benchmarks.ratio

notebook: .venv/.pronto  ## executa a seção de predição e grava as saídas dela no caderno
	@$(BIN)/python -m classificador caderno --predicao --gravar

model: .venv/.pronto  ## treina de novo o best_model.pth do projeto; antes: python -m classificador professor
	@$(BIN)/python -m classificador treinar --receita destilado

# An install that was cut off leaves UNFINISHED behind: pip would take half-written packages for installed, so start anew.
.venv/.pronto: requirements.txt
	@$(PYTHON) classificador/apps/support.py
	@if [ -e $(UNFINISHED) ]; then echo "Uma instalação anterior não terminou; recomeçando."; rm -rf .venv; fi
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Instale o módulo venv do Python (no Debian e no Ubuntu: python3-venv)."; exit 1; }
	@touch $(UNFINISHED)
	@echo "Instalando as bibliotecas em .venv, só na primeira vez…"
	@if [ -n "$(TORCH_INDEX)" ]; then \
		$(INSTALL) --retries 1 --timeout 15 --index-url $(TORCH_INDEX) $(shell grep '^torch' requirements.txt) || \
		echo "$(TORCH_INDEX) não serviu: fica o PyTorch comum, de uns 6 GB no Linux."; fi
	@$(INSTALL) -r requirements.txt
	@rm $(UNFINISHED) && touch $@

# The extras of pyproject.toml.
.venv/.pronto-%: .venv/.pronto pyproject.toml
	@if [ -e $(UNFINISHED) ]; then rm -f .venv/.pronto; $(MAKE) .venv/.pronto; fi
	@touch $(UNFINISHED)
	@$(INSTALL) --quiet -r requirements.txt -e ".[$*]"
	@rm $(UNFINISHED) && touch $@
