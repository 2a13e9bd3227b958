"""The notebook that carries its package, in an empty folder and an environment without the package."""

import ast
import base64
import importlib.util
import json
import re
import subprocess
import sys
import sysconfig
import venv
from types import SimpleNamespace

import nbformat
import pytest
import torch
from IPython.core.inputtransformer2 import TransformerManager
from nbclient.exceptions import CellExecutionError
from test_notebook import outputs, with_parameters

from classificador.apps import cli, standalone
from classificador.apps import notebook as notebook_module
from classificador.apps.notebook import NOTEBOOK, PREDICTION_TAG, execute, read_notebook, save_figures
from classificador.apps.standalone import make_standalone
from classificador.files.model_file import load_model
from classificador.network.cnn import OriginalCNN
from conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A Python with this one's packages, but for the package itself; as JUPYTER_PATH, its kernel is `python3`."""
    folder = tmp_path_factory.mktemp("outro")
    venv.create(folder / "env")
    paths = {"base": str(folder / "env"), "platbase": str(folder / "env")}
    # Paths in a .pth file are searched, but the .pth files in them, as of an editable install, are not read.
    own = sysconfig.get_path("purelib")
    (next((folder / "env").rglob("site-packages")) / "rest.pth").write_text(own)
    python = sysconfig.get_path("scripts", vars=paths) + "/python"
    kernel = folder / "share" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    return folder / "share"


@pytest.fixture
def empty(elsewhere, tmp_path, monkeypatch, cifar10):
    """A folder with nothing in it, for a kernel without the package; the data are not brought once more."""
    monkeypatch.setenv("JUPYTER_PATH", str(elsewhere))
    monkeypatch.setenv("CLASSIFICADOR_DADOS", str(ROOT / "data" / "cifar-10.bin"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    folder = tmp_path / "pasta de ninguém"
    folder.mkdir()
    return folder


def from_prediction(notebook):
    """The prediction section alone."""
    start = next(i for i, cell in enumerate(notebook.cells) if PREDICTION_TAG in cell.metadata.get("tags", []))
    notebook.cells = notebook.cells[start:]
    return notebook


def test_it_runs_from_top_to_bottom_in_an_empty_folder(empty, photos, tmp_path):
    """On a few photos; the next test runs it on CIFAR-10."""
    own = {"DATA_DIR": photos, "START_FROM": "zero", "DEVICE": "cpu"}
    notebook = with_parameters(make_standalone(), EPOCHS=2, BATCH_SIZE=32, **own)
    metrics = execute(notebook, empty)
    assert metrics["test"]["accuracy"] == 1
    assert metrics["model"]["preset"] == "rapido"
    assert load_model(empty / "best_model.pth").info.classes == ("céu", "mato")
    left = sorted(path.name for path in empty.iterdir() if path.suffix != ".lock")
    assert left == ["best_model.pth", "rede_simples.pth", "runs"]
    assert "Época 2/2: perda" in outputs(notebook)
    assert save_figures(notebook, tmp_path / "figuras") >= 9  # fewer than of CIFAR-10: there is no mistake to show


def test_its_prediction_section_runs_alone_even_on_weights_of_the_original_network(empty, tmp_path):
    torch.manual_seed(0)
    torch.save({"state_dict": OriginalCNN((8, 16), hidden=32).state_dict()}, empty / "best_model.pth")
    notebook = from_prediction(make_standalone())
    metrics = execute(notebook, empty)
    assert metrics["test"]["images"] == 10_000
    assert metrics["model"] == {}
    assert "da rede original. Suponho imagens de 32 pixels" in outputs(notebook)
    assert save_figures(notebook, tmp_path / "figuras") == 8


@pytest.mark.parametrize("part", [lambda notebook: notebook, from_prediction], ids=["whole", "prediction"])
def test_the_ordinary_notebook_without_its_package_says_in_one_line_what_to_do(empty, part):
    notebook = part(read_notebook())
    with pytest.raises(CellExecutionError):
        execute(notebook, empty)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    (error,) = (output for output in shown if output.output_type == "error")
    assert "# falta? Abra o caderno na pasta do projeto" in error.traceback[2], "the line that failed says it"


def carrier() -> str:
    """The cell that brings the package."""
    return next(cell.source for cell in make_standalone().cells if cell.cell_type == "code")


def test_only_what_is_missing_is_installed_and_never_torch_where_torch_is(monkeypatch):
    ran, find = [], importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "anywidget" else find(name))
    monkeypatch.setattr(subprocess, "run", lambda command: ran.append(command) or SimpleNamespace(returncode=1))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(RuntimeError, match="A instalação falhou .* -m pip install --quiet anywidget"):
        exec(carrier(), {})
    ((_, *command, package),) = ran
    assert command == ["-m", "pip", "install", "--quiet"]
    assert package.startswith("anywidget>")


def test_a_torch_or_a_python_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(torch, "__version__", "2.6.0+cu124")
    with pytest.raises(RuntimeError, match=r"2.6.0\+cu124, é antigo demais"):
        exec(carrier(), {})
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with pytest.raises(RuntimeError, match="Python 3.11"):
        exec(carrier(), {})


def test_it_asks_for_all_that_the_package_imports():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "classificador").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    imported = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"classificador"}
    needed = ast.literal_eval(re.search(r"NEEDED = (.*)", carrier())[1])
    # The terminal's, extras, and what stands in every notebook's kernel.
    assert imported - set(needed) <= {"nbclient", "nbformat", "py_mini_racer", "pillow_heif", "IPython", "ipywidgets"}
    assert set(needed) <= imported


def test_no_line_of_the_package_is_taken_for_one_of_a_prompt(monkeypatch):
    """IPython takes ">>>" off lines, also within a text."""
    monkeypatch.setattr(base64, "b85encode", lambda data: b">>>%!?" * 200)
    source = carrier()
    assert ">>>%!?>>>%!?" in source and TransformerManager().transform_cell(source) == f"{source}\n"


def test_the_file_is_the_same_every_time_and_small(tmp_path):
    for name in ("a", "b"):
        assert cli.main(["avulso", "--saida", str(tmp_path / name / "Pytorch.ipynb")]) == 0
    first, second = ((tmp_path / name / "Pytorch.ipynb").read_bytes() for name in ("a", "b"))
    assert first == second
    assert 2 * len(carrier()) < 300_000, "the package, once for each section"
    assert "](data:image/png;base64," in first.decode() and "](docs/" not in first.decode()
    assert first.decode().count(standalone.REMEDY) == 0 < NOTEBOOK.read_text(encoding="utf-8").count(standalone.REMEDY)
    nbformat.validate(nbformat.reads(first.decode(), as_version=4))


def test_without_the_project_around_it_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebook_module, "NOTEBOOK", tmp_path / "Pytorch.ipynb")
    assert cli.main(["avulso"]) == 1
    assert "na pasta do projeto" in capsys.readouterr().err
