"""The command line: `python -m classificador treinar | avaliar | prever | …`; --help names all commands."""

import argparse
import contextlib
import json
import os
import sys
from typing import Any

from classificador.apps import commands, predict, train
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
            error.field = OPTION_OF.get(error.field, error.field)
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
        predict.print_csv(result)
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

    together = options.command in (train.train_command, commands.evaluate_command)
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


def _value(metavar: str, text: str, **more) -> dict[str, Any]:
    """What argparse is told of an argument with a value."""
    return {"metavar": metavar, "help": text, **more}


def _flag(text: str) -> dict[str, Any]:
    """What argparse is told of an option without one."""
    return {"action": "store_true", "help": text}


# By name; after a colon, what tells apart two of one name. dest: the field of Settings that an option sets.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "imagens": _value(
        "IMAGEM",
        "arquivos PNG, JPEG, GIF, WebP, AVIF, BMP, TIFF ou PPM, ou pastas, lidas com as pastas dentro delas",
        nargs="+",
    ),
    "pasta": _value("PASTA", "pasta nova, em que cada classe terá a sua"),
    "pastas": _value("PASTA", "pastas de treinos, ou runs, que tem todas", nargs="+"),
    "--receita": _value("NOME", "rapido, completo ou destilado (padrão: rapido)", dest="preset"),
    "--epocas": _value("N", "passagens pelas imagens de treino (padrão: o da receita)", type=int, dest="epochs"),
    "--lote": _value("N", "imagens por passo (padrão: o da receita)", type=int, dest="batch_size"),
    "--lr": _value("X", "taxa de aprendizado máxima do Adam (padrão: a da receita)", type=float, dest="lr"),
    "--semente": _value(
        "N", "semente do sorteio; a mesma, na mesma CPU, dá os mesmos pesos (padrão: 42)", type=int, dest="seed"
    ),
    "--dispositivo": _value("D", "auto, cpu, cuda ou mps (padrão: auto)", dest="device"),
    "--partir-de": _value(
        "ARQUIVO",
        "o modelo treinado de cujos pesos partir; zero: de nenhum (padrão: best_model.pth, para classes suas)",
        dest="start_from",
    ),
    "--professor": _value("ARQUIVO", "o professor da receita destilado (padrão: professor.pth)", dest="teacher"),
    "--retomar": _flag("continua o treino interrompido de --modelo, com as opções que ele tinha"),
    "--retomar:caderno": _flag("continua o treino interrompido: RESUME = True"),
    "--predicao": _flag("só a seção de predição, com o modelo que existe"),
    "--gravar": _flag("grava as saídas também no Pytorch.ipynb"),
    "--sem-espelho": {
        "action": "store_const",
        "const": False,
        "dest": "symmetric",
        "help": "não espelha as imagens: para letras, números e o que muda de sentido no espelho",
    },
    "--lado": _value(
        "N", "pixels a que imagens suas são reduzidas: 32, 48, 64 ou 96 (padrão: %(default)s)", type=int, default=32
    ),
    "--enquadrar": _value(
        "MODO",
        "de cada imagem sua, o centro, ou a inteira, sobre fundo branco: centro, inteira (padrão: %(default)s)",
        default="centro",
    ),
    "--dados": _value(
        "PASTA",
        "o lugar do CIFAR-10, ou uma pasta sua com uma pasta de imagens para cada classe (padrão: %(default)s)",
        default="data",
    ),
    "--fonte": _value(
        "CAMINHO", "pasta ou arquivo seu com o CIFAR-10, sem usar a rede (padrão: a variável CLASSIFICADOR_DADOS)"
    ),
    "--modelo": _value("ARQUIVO", "os pesos (padrão: %(default)s)", default="best_model.pth"),
    "--modelo:professor": _value("ARQUIVO", "(padrão: %(default)s)", default="professor.pth"),
    "--csv": _flag("resultado em CSV na saída padrão, para uma planilha"),
    "--figura": _value("ARQUIVO", "onde gravar as curvas (padrão: %(default)s)", default="comparacao.png"),
    "--formato": {"default": "onnx", "choices": ("onnx", "pt2", "pesos", "safetensors"), "help": "(padrão: onnx)"},
    "--saida:exportar": _value("ARQUIVO", "(padrão: o nome de --modelo com o final do formato)"),
    "--saida:ficha": _value("PASTA", "onde gravá-la (padrão: a pasta do modelo; para best_model.pth, docs)"),
    "--saida:pagina": _value("ARQUIVO", "(padrão: o nome de --modelo, em dist, com .html)"),
    "--abrir": _flag("e a abre no navegador"),
    "--saida:avulso": _value("ARQUIVO", "onde gravá-lo (padrão: %(default)s)", default="dist/Pytorch.ipynb"),
    "--json": _flag("resultado em JSON na saída padrão, para outro programa ler"),
    "--traceback": _flag("em caso de erro, mostra onde no código ele surgiu"),
}
OPTION_OF = {argument["dest"]: option for option, argument in ARGUMENTS.items() if "dest" in argument}
RUN = "--epocas --lote --semente --dispositivo --retomar --sem-espelho --lado --enquadrar --dados --fonte"
MODEL = "--dados --fonte --modelo"
# Each command: its function, what it does, and its arguments.
COMMANDS = {
    "treinar": (
        train.train_command,
        "treina a rede e guarda os melhores pesos pela validação",
        f"--receita {RUN} --lr --partir-de --professor --modelo",
    ),
    "professor": (
        train.teacher_command,
        "treina a rede mais funda de cujas respostas a receita destilado aprende",
        f"{RUN} --modelo:professor",
    ),
    "avaliar": (commands.evaluate_command, "mede acurácia e F1 nas imagens de teste", MODEL),
    "prever": (predict.predict_command, "diz a classe de imagens suas, com a probabilidade", "imagens --csv --modelo"),
    "comparar": (commands.compare_command, "põe treinos lado a lado, em uma tabela e uma figura", "pastas --figura"),
    "exportar": (
        commands.export_command,
        "grava o modelo para outros programas, e o confere",
        f"--formato --saida:exportar {MODEL}",
    ),
    "pagina": (
        commands.page_command,
        "grava uma página que classifica fotos em qualquer navegador, sem instalar nada, e a confere",
        f"--abrir --saida:pagina {MODEL}",
    ),
    "ficha": (
        commands.card_command,
        "grava a ficha do modelo (model card), em português e inglês",
        f"--saida:ficha {MODEL}",
    ),
    "caderno": (
        commands.notebook_command,
        "executa o Pytorch.ipynb de cima a baixo e guarda em runs/ o que ele mostra",
        "--predicao --receita --retomar:caderno --gravar",
    ),
    "avulso": (
        commands.standalone_command,
        "grava o caderno com o pacote dentro, para o Colab, o Kaggle ou outra pasta",
        "--saida:avulso",
    ),
    "dados": (
        commands.data_command,
        "traz e confere o CIFAR-10, ou conta as imagens de uma pasta sua",
        "--dados --fonte",
    ),
    "exemplo": (commands.example_command, "grava números escritos à mão, para treinar classes suas", "pasta"),
    "diagnostico": (commands.diagnose_command, "mostra o que um relato de problema precisa e o que está errado", MODEL),
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
