"""The command line: `python -m classificador treinar | avaliar | prever | …`; --help names all commands."""

import argparse
import contextlib
import json
import os
import sys
from typing import Any

from classificador.apps.commands import (
    OPTIONS,
    card_command,
    compare_command,
    data_command,
    diagnose_command,
    evaluate_command,
    example_command,
    export_command,
    notebook_command,
    page_command,
    predict_command,
    print_csv,
    standalone_command,
    teacher_command,
    train_command,
)
from classificador.errors import ClassificadorError, SettingsError, printable
from classificador.portuguese import speak_portuguese


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 failed (one line on stderr), 2 bad usage, 130 interrupted."""
    options = build_parser().parse_args(arguments)
    try:
        # With --json or --csv nothing else goes to standard output; progress and messages move to standard error.
        machine_readable = options.json or getattr(options, "csv", False)
        with contextlib.redirect_stdout(sys.stderr) if machine_readable else contextlib.nullcontext():
            code, result = _run(options)
    except ClassificadorError as error:
        if options.traceback:
            raise
        who = f" (processo {os.environ['RANK']})" if "RANK" in os.environ else ""
        if isinstance(error, SettingsError):
            error.field = OPTIONS.get(error.field, error.field)
        print(printable(f"erro{who}: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrompido.", file=sys.stderr)
        return 130
    if result is None:  # another of several processes has it
        return code
    if options.json:
        print(json.dumps(result, ensure_ascii=False, indent=2))
    elif machine_readable:
        print_csv(result)
    return code


def _run(options: argparse.Namespace) -> tuple[int, dict | None]:
    """Run the command; of the processes that torchrun started all train and evaluate, and only the first has a result.

    Without torchrun nothing of torch is imported here: diagnostico and --help do without.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return options.command(options)
    if os.environ["RANK"] != "0":
        os.environ["TQDM_DISABLE"] = "1"  # which it reads when it is imported
    from classificador.processes import run_among_processes

    together = options.command in (train_command, evaluate_command)
    return run_among_processes(lambda: options.command(options), together) or (0, None)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    speak_portuguese()
    parser = argparse.ArgumentParser(
        prog="python -m classificador",
        allow_abbrev=False,
        description="Treina, avalia e usa um classificador de imagens CIFAR-10: as mesmas funções que o caderno chama.",
        epilog="Exemplo: python -m classificador treinar --receita rapido && python -m classificador avaliar",
    )
    parsers = parser.add_subparsers(required=True, metavar="comando")
    for name, (function, text, options) in COMMANDS.items():
        command = parsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
        command.set_defaults(command=function)
        for option in ("--json --traceback " + options).split():
            command.add_argument(option.partition(":")[0], **ARGUMENTS[option])
    return parser


# What argparse is told of each argument; after a colon, what tells apart two of one name.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "imagens": {
        "nargs": "+",
        "metavar": "IMAGEM",
        "help": "arquivos PNG, JPEG, GIF, WebP, AVIF, BMP, TIFF ou PPM, ou pastas, lidas com as pastas dentro delas",
    },
    "pasta": {"metavar": "PASTA", "help": "pasta nova, em que cada classe terá a sua"},
    "pastas": {"nargs": "+", "metavar": "PASTA", "help": "pastas de treinos, ou runs, que tem todas"},
    "--receita": {"metavar": "NOME", "help": "rapido, completo ou destilado (padrão: rapido)"},
    "--epocas": {"type": int, "metavar": "N", "help": "passagens pelas imagens de treino (padrão: o da receita)"},
    "--lote": {"type": int, "metavar": "N", "help": "imagens por passo (padrão: o da receita)"},
    "--lr": {"type": float, "metavar": "X", "help": "taxa de aprendizado máxima do Adam (padrão: a da receita)"},
    "--semente": {
        "type": int,
        "metavar": "N",
        "help": "semente do sorteio; a mesma, na mesma CPU, dá os mesmos pesos (padrão: 42)",
    },
    "--dispositivo": {"metavar": "D", "help": "auto, cpu, cuda ou mps (padrão: auto)"},
    "--partir-de": {
        "metavar": "ARQUIVO",
        "help": "o modelo treinado de cujos pesos partir; zero: de nenhum (padrão: best_model.pth, para classes suas)",
    },
    "--professor": {
        "metavar": "ARQUIVO",
        "help": "o professor da receita destilado (padrão: professor.pth)",
    },
    "--retomar": {
        "action": "store_true",
        "help": "continua o treino interrompido de --modelo, com as opções que ele tinha",
    },
    "--retomar:caderno": {"action": "store_true", "help": "continua o treino interrompido: RESUME = True"},
    "--predicao": {"action": "store_true", "help": "só a seção de predição, com o modelo que existe"},
    "--gravar": {"action": "store_true", "help": "grava as saídas também no Pytorch.ipynb"},
    "--sem-espelho": {
        "action": "store_const",
        "const": False,
        "help": "não espelha as imagens: para letras, números e o que muda de sentido no espelho",
    },
    "--lado": {
        "type": int,
        "default": 32,
        "metavar": "N",
        "help": "pixels a que imagens suas são reduzidas: 32, 48, 64 ou 96 (padrão: 32)",
    },
    "--enquadrar": {
        "default": "centro",
        "metavar": "MODO",
        "help": "de cada imagem sua, o centro, ou a inteira, sobre fundo branco: centro, inteira (padrão: centro)",
    },
    "--dados": {
        "default": "data",
        "metavar": "PASTA",
        "help": "o lugar do CIFAR-10, ou uma pasta sua com uma pasta de imagens para cada classe (padrão: data)",
    },
    "--fonte": {
        "metavar": "CAMINHO",
        "help": "pasta ou arquivo seu com o CIFAR-10, sem usar a rede (padrão: a variável CLASSIFICADOR_DADOS)",
    },
    "--modelo": {"default": "best_model.pth", "metavar": "ARQUIVO", "help": "os pesos (padrão: best_model.pth)"},
    "--modelo:professor": {"default": "professor.pth", "metavar": "ARQUIVO", "help": "(padrão: professor.pth)"},
    "--csv": {"action": "store_true", "help": "resultado em CSV na saída padrão, para uma planilha"},
    "--figura": {
        "default": "comparacao.png",
        "metavar": "ARQUIVO",
        "help": "onde gravar as curvas (padrão: comparacao.png)",
    },
    "--formato": {"default": "onnx", "choices": ("onnx", "pt2", "pesos", "safetensors"), "help": "(padrão: onnx)"},
    "--saida:exportar": {"metavar": "ARQUIVO", "help": "(padrão: o nome de --modelo com o final do formato)"},
    "--saida:ficha": {
        "metavar": "PASTA",
        "help": "onde gravá-la (padrão: a pasta do modelo; para best_model.pth, docs)",
    },
    "--saida:pagina": {"metavar": "ARQUIVO", "help": "(padrão: o nome de --modelo, em dist, com .html)"},
    "--abrir": {"action": "store_true", "help": "e a abre no navegador"},
    "--saida:avulso": {
        "default": "dist/Pytorch.ipynb",
        "metavar": "ARQUIVO",
        "help": "onde gravá-lo (padrão: dist/Pytorch.ipynb)",
    },
    "--json": {"action": "store_true", "help": "resultado em JSON na saída padrão, para outro programa ler"},
    "--traceback": {"action": "store_true", "help": "em caso de erro, mostra onde no código ele surgiu"},
}
RUN = "--epocas --lote --semente --dispositivo --retomar --sem-espelho --lado --enquadrar --dados --fonte"
# Each command: its function, what it does, and its arguments.
COMMANDS = {
    "treinar": (
        train_command,
        "treina a rede e guarda os melhores pesos pela validação",
        f"--receita {RUN} --lr --partir-de --professor --modelo",
    ),
    "professor": (
        teacher_command,
        "treina a rede mais funda de cujas respostas a receita destilado aprende",
        f"{RUN} --modelo:professor",
    ),
    "avaliar": (evaluate_command, "mede acurácia e F1 nas imagens de teste", "--dados --fonte --modelo"),
    "prever": (predict_command, "diz a classe de imagens suas, com a probabilidade", "imagens --csv --modelo"),
    "comparar": (compare_command, "põe treinos lado a lado, em uma tabela e uma figura", "pastas --figura"),
    "exportar": (
        export_command,
        "grava o modelo para outros programas, e o confere",
        "--formato --saida:exportar --dados --fonte --modelo",
    ),
    "pagina": (
        page_command,
        "grava uma página que classifica fotos em qualquer navegador, sem instalar nada, e a confere",
        "--abrir --saida:pagina --dados --fonte --modelo",
    ),
    "ficha": (
        card_command,
        "grava a ficha do modelo (model card), em português e inglês",
        "--saida:ficha --dados --fonte --modelo",
    ),
    "caderno": (
        notebook_command,
        "executa o Pytorch.ipynb de cima a baixo e guarda em runs/ o que ele mostra",
        "--predicao --receita --retomar:caderno --gravar",
    ),
    "avulso": (
        standalone_command,
        "grava o caderno com o pacote dentro, para o Colab, o Kaggle ou outra pasta",
        "--saida:avulso",
    ),
    "dados": (data_command, "traz e confere o CIFAR-10, ou conta as imagens de uma pasta sua", "--dados --fonte"),
    "exemplo": (example_command, "grava números escritos à mão, para treinar classes suas", "pasta"),
    "diagnostico": (
        diagnose_command,
        "mostra o que um relato de problema precisa e o que está errado",
        "--dados --fonte --modelo",
    ),
}


def run() -> None:
    """Run main() as a program and exit with its code."""
    # Windows would use a code page that lacks half of our characters. A stream that was closed is None.
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        sys.exit(main())
    except BrokenPipeError:  # the reader of our output went away, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
