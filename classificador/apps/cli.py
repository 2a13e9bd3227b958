"""The command line: `python -m classificador treinar | avaliar | prever | …`; --help names all commands."""

import argparse
import contextlib
import json
import os
import sys

from classificador.apps.commands import (
    OPTIONS,
    card_command,
    compare_command,
    data_command,
    demo_command,
    diagnose_command,
    evaluate_command,
    example_command,
    export_command,
    predict_command,
    print_csv,
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
    _add_training(parsers)
    _add_use(parsers)
    _add_results(parsers)
    _add_data(parsers)
    return parser


def _add_training(parsers) -> None:
    train = _command(parsers, train_command, "treinar", "treina a rede e guarda os melhores pesos pela validação")
    _train_options(train)

    text = "treina a rede mais funda de cujas respostas a receita destilado aprende"
    teacher = _command(parsers, teacher_command, "professor", text)
    _run_options(teacher)
    _data_options(teacher)
    _model_option(teacher, "professor.pth")


def _add_use(parsers) -> None:
    test = _command(parsers, evaluate_command, "avaliar", "mede acurácia e F1 nas imagens de teste")
    _data_options(test)
    _model_option(test)

    predict = _command(parsers, predict_command, "prever", "diz a classe de imagens suas, com a probabilidade")
    predict.add_argument(
        "imagens",
        nargs="+",
        metavar="IMAGEM",
        help="arquivos PNG, JPEG, GIF, WebP, AVIF, BMP, TIFF ou PPM, ou pastas, lidas com as pastas dentro delas",
    )
    predict.add_argument("--csv", action="store_true", help="resultado em CSV na saída padrão, para uma planilha")
    _model_option(predict)

    demo = _command(parsers, demo_command, "demo", "põe no ar uma página local que diz a classe de fotos suas")
    demo.add_argument(
        "--porta",
        type=_port,
        metavar="N",
        help="porta da página (padrão: a primeira livre desde 7860)",
    )
    _model_option(demo)


def _add_results(parsers) -> None:
    compare = _command(parsers, compare_command, "comparar", "põe treinos lado a lado, em uma tabela e uma figura")
    compare.add_argument("pastas", nargs="+", metavar="PASTA", help="pastas de treinos, ou runs, que tem todas")
    text = "onde gravar as curvas (padrão: comparacao.png)"
    compare.add_argument("--figura", default="comparacao.png", metavar="ARQUIVO", help=text)

    export = _command(parsers, export_command, "exportar", "grava o modelo para outros programas, e o confere")
    export.add_argument("--formato", default="onnx", choices=("onnx", "pt2"), help="(padrão: onnx)")
    export.add_argument("--saida", metavar="ARQUIVO", help="(padrão: o nome de --modelo com o final do formato)")
    _data_options(export)
    _model_option(export)

    card = _command(parsers, card_command, "ficha", "grava a ficha do modelo (model card), em português e inglês")
    text = "onde gravá-la (padrão: a pasta do modelo; para best_model.pth, docs)"
    card.add_argument("--saida", metavar="PASTA", help=text)
    _data_options(card)
    _model_option(card)


def _add_data(parsers) -> None:
    data = _command(parsers, data_command, "dados", "traz e confere o CIFAR-10, ou conta as imagens de uma pasta sua")
    _data_options(data)

    example = _command(parsers, example_command, "exemplo", "grava números escritos à mão, para treinar classes suas")
    example.add_argument("pasta", metavar="PASTA", help="pasta nova, em que cada classe terá a sua")

    check = _command(
        parsers,
        diagnose_command,
        "diagnostico",
        "mostra o que um relato de problema precisa e o que está errado",
    )
    _data_options(check)
    _model_option(check)


def _train_options(train: argparse.ArgumentParser) -> None:
    train.add_argument("--receita", metavar="NOME", help="rapido, completo ou destilado (padrão: rapido)")
    _run_options(train)
    train.add_argument(
        "--lr", type=float, metavar="X", help="taxa de aprendizado máxima do Adam (padrão: a da receita)"
    )
    text = "o modelo treinado de cujos pesos partir; zero: de nenhum (padrão: best_model.pth, para classes suas)"
    train.add_argument("--partir-de", metavar="ARQUIVO", help=text)
    text = "o professor da receita destilado (padrão: professor.pth)"
    train.add_argument("--professor", metavar="ARQUIVO", help=text)
    _data_options(train)
    _model_option(train)


def _run_options(train: argparse.ArgumentParser) -> None:
    train.add_argument(
        "--epocas", type=int, metavar="N", help="passagens pelas imagens de treino (padrão: o da receita)"
    )
    train.add_argument("--lote", type=int, metavar="N", help="imagens por passo (padrão: o da receita)")
    text = "semente do sorteio; a mesma, na mesma CPU, dá os mesmos pesos (padrão: 42)"
    train.add_argument("--semente", type=int, metavar="N", help=text)
    train.add_argument("--dispositivo", metavar="D", help="auto, cpu, cuda ou mps (padrão: auto)")
    text = "continua o treino interrompido de --modelo, com as opções que ele tinha"
    train.add_argument("--retomar", action="store_true", help=text)
    train.add_argument(
        "--sem-espelho",
        action="store_const",
        const=False,
        help="não espelha as imagens: para letras, números e o que muda de sentido no espelho",
    )
    train.add_argument(
        "--lado",
        type=int,
        default=32,
        metavar="N",
        help="pixels a que imagens suas são reduzidas: 32, 48, 64 ou 96 (padrão: 32)",
    )
    text = "de cada imagem sua, o quadrado do centro ou ela inteira, sobre fundo branco (padrão: centro)"
    train.add_argument("--enquadrar", default="centro", choices=("centro", "inteira"), help=text)


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"a porta precisa ser de 1 a 65535; veio {port}")
    return port


def _command(parsers, function, name: str, text: str) -> argparse.ArgumentParser:
    parser = parsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    parser.set_defaults(command=function)
    parser.add_argument(
        "--json", action="store_true", help="resultado em JSON na saída padrão, para outro programa ler"
    )
    parser.add_argument("--traceback", action="store_true", help="em caso de erro, mostra onde no código ele surgiu")
    return parser


def _data_options(parser: argparse.ArgumentParser) -> None:
    text = "onde o CIFAR-10 fica guardado, ou uma pasta sua com uma pasta de imagens para cada classe (padrão: data)"
    parser.add_argument("--dados", default="data", metavar="PASTA", help=text)
    text = "pasta ou arquivo seu com o CIFAR-10, para trabalhar sem rede (padrão: a variável CLASSIFICADOR_DADOS)"
    parser.add_argument("--fonte", metavar="CAMINHO", help=text)


def _model_option(parser: argparse.ArgumentParser, default: str = "best_model.pth") -> None:
    parser.add_argument("--modelo", default=default, metavar="ARQUIVO", help=f"os pesos (padrão: {default})")


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
