"""The command line: `python -m classificador treinar | avaliar | prever | …`; --help names all commands."""

import argparse
import contextlib
import csv
import json
import os
import shlex
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

from classificador.errors import ClassificadorError, DataError, printable

# argparse speaks through gettext; these are its texts in Portuguese.
PORTUGUESE = {
    "usage: ": "uso: ",
    "options": "opções",
    "positional arguments": "argumentos",
    "show this help message and exit": "mostra esta ajuda e sai",
    "%(prog)s: error: %(message)s\n": "%(prog)s: erro: %(message)s Veja --help.\n",
    "argument %(argument_name)s: %(message)s": "%(argument_name)s: %(message)s.",
    "invalid %(type)s value: %(value)r": "valor inválido: %(value)r",
    "invalid choice: %(value)r (choose from %(choices)s)": "%(value)r não existe; use um destes: %(choices)s",
    "unrecognized arguments: %s": "argumento desconhecido: %s.",
    "the following arguments are required: %s": "falta dizer: %s.",
    "ignored explicit argument %r": "não aceita o valor %r",
    "expected one argument": "falta o valor",
    "expected at least one argument": "falta pelo menos um valor",
}

# A setting's name, with which its error messages begin, and the option that sets it.
OPTIONS = {
    "preset": "--receita",
    "epochs": "--epocas",
    "batch_size": "--lote",
    "lr": "--lr",
    "seed": "--semente",
    "device": "--dispositivo",
    "flip": "--sem-espelho",
}


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
        field, colon, rest = str(error).partition(":")
        who = f" (processo {os.environ['RANK']})" if _together() else ""
        print(printable(f"erro{who}: {OPTIONS.get(field, field)}{colon}{rest}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrompido.", file=sys.stderr)
        return 130
    if _together() and os.environ["RANK"] != "0":
        return code
    if options.json:
        print(json.dumps(result, ensure_ascii=False, indent=2))
    elif machine_readable:
        _print_csv(result)
    return code


def _together() -> bool:
    """Whether torchrun started this process, perhaps with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _run(options: argparse.Namespace) -> tuple[int, dict]:
    """Run the command; of the processes that torchrun started all train and evaluate, and only the first speaks."""
    if not _together() or options.command not in (train_command, evaluate_command):
        first = os.environ.get("RANK", "0") == "0" or not _together()
        return options.command(options) if first else (0, {})
    if os.environ["RANK"] != "0":
        os.environ["TQDM_DISABLE"] = "1"  # which it reads when it is imported
    from classificador.distributed import process_group

    with contextlib.ExitStack() as stack:
        if os.environ["RANK"] != "0":
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        stack.enter_context(process_group())
        return options.command(options)


def speak_portuguese() -> None:
    """Make argparse's own texts Portuguese."""
    argparse._ = lambda text: PORTUGUESE.get(text, text)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    speak_portuguese()
    parser = argparse.ArgumentParser(
        prog="python -m classificador",
        allow_abbrev=False,
        description="Treina, avalia e usa um classificador de imagens CIFAR-10: as mesmas funções que o caderno chama.",
        epilog="Exemplo: python -m classificador treinar --receita rapido && python -m classificador avaliar",
    )
    commands = parser.add_subparsers(required=True, metavar="comando")

    train = _command(commands, train_command, "treinar", "treina a rede e guarda os melhores pesos pela validação")
    train.add_argument("--receita", metavar="NOME", help="rapido, completo ou original (padrão: rapido)")
    train.add_argument(
        "--epocas", type=int, metavar="N", help="passagens pelas imagens de treino (padrão: o da receita)"
    )
    train.add_argument("--lote", type=int, metavar="N", help="imagens por passo (padrão: o da receita)")
    train.add_argument(
        "--lr", type=float, metavar="X", help="taxa de aprendizado máxima do Adam (padrão: a da receita)"
    )
    train.add_argument(
        "--semente",
        type=int,
        metavar="N",
        help="semente do sorteio; a mesma, na mesma CPU, dá os mesmos pesos (padrão: 42)",
    )
    train.add_argument(
        "--sem-espelho",
        action="store_const",
        const=False,
        help="não espelha as imagens: para letras, números e o que muda de sentido no espelho",
    )
    train.add_argument("--dispositivo", metavar="D", help="auto, cpu, cuda ou mps (padrão: auto)")
    train.add_argument(
        "--retomar",
        action="store_true",
        help="continua o treino interrompido de --modelo, com as opções que ele tinha",
    )
    train.add_argument(
        "--lado",
        type=int,
        default=32,
        metavar="N",
        help="pixels a que imagens suas são reduzidas: 32, 48, 64 ou 96 (padrão: 32)",
    )
    _data_options(train)
    _model_option(train)

    test = _command(commands, evaluate_command, "avaliar", "mede acurácia e F1 nas imagens de teste")
    _data_options(test)
    _model_option(test)

    predict = _command(commands, predict_command, "prever", "diz a classe de imagens suas, com a probabilidade")
    predict.add_argument(
        "imagens",
        nargs="+",
        metavar="IMAGEM",
        help="arquivos PNG, JPEG, GIF, WebP, BMP, TIFF ou PPM, ou pastas, lidas com as pastas dentro delas",
    )
    predict.add_argument("--csv", action="store_true", help="resultado em CSV na saída padrão, para uma planilha")
    _model_option(predict)

    demo = _command(commands, demo_command, "demo", "põe no ar uma página local que diz a classe de fotos suas")
    demo.add_argument(
        "--porta",
        type=_port,
        metavar="N",
        help="porta da página (padrão: a primeira livre desde 7860)",
    )
    _model_option(demo)

    compare = _command(commands, compare_command, "comparar", "põe treinos lado a lado, em uma tabela e uma figura")
    compare.add_argument("pastas", nargs="+", metavar="PASTA", help="pastas de treinos, ou runs, que tem todas")
    text = "onde gravar as curvas (padrão: comparacao.png)"
    compare.add_argument("--figura", default="comparacao.png", metavar="ARQUIVO", help=text)

    export = _command(commands, export_command, "exportar", "grava o modelo para outros programas, e o confere")
    export.add_argument("--formato", default="onnx", choices=("onnx", "pt2"), help="(padrão: onnx)")
    export.add_argument("--saida", metavar="ARQUIVO", help="(padrão: o nome de --modelo com o final do formato)")
    _data_options(export)
    _model_option(export)

    card = _command(commands, card_command, "ficha", "grava a ficha do modelo (model card), em português e inglês")
    text = "onde gravá-la (padrão: a pasta do modelo; para best_model.pth, docs)"
    card.add_argument("--saida", metavar="PASTA", help=text)
    _data_options(card)
    _model_option(card)

    data = _command(commands, data_command, "dados", "traz e confere o CIFAR-10, ou conta as imagens de uma pasta sua")
    _data_options(data)

    example = _command(commands, example_command, "exemplo", "grava números escritos à mão, para treinar classes suas")
    example.add_argument("pasta", metavar="PASTA", help="pasta nova, em que cada classe terá a sua")

    check = _command(
        commands, diagnose_command, "diagnostico", "mostra o que um relato de problema precisa e o que está errado"
    )
    _data_options(check)
    _model_option(check)
    return parser


def train_command(options) -> tuple[int, dict]:
    """Train; when stopped by a signal the exit code is 128 plus its number (Ctrl-C: 130), and --retomar goes on."""
    from torch import nn

    from classificador import CNN, build, distributed, fit, load_data, make_optimizer, make_settings
    from classificador.brazilian import duration, percent
    from classificador.device import choose_device
    from classificador.resume import is_of_this_job, resumed_settings

    restarted = distributed.restarted()

    def resumed():
        """The settings of the run to go on with, or None. One that torchrun started anew goes on by itself."""
        goes_on = options.retomar or is_of_this_job(options.modelo, restarted)
        return resumed_settings(options.modelo) if goes_on else None

    given = {name: getattr(options, option.strip("-").replace("-", "_")) for name, option in OPTIONS.items()}
    given = {name: value for name, value in given.items() if value is not None}
    earlier = distributed.from_first(resumed)
    settings = replace(earlier, **given) if earlier else make_settings(**given)
    choose_device(settings.device)  # a device that is missing is told before the data are fetched
    data = load_data(options.dados, options.fonte, options.lado)
    model = build(settings, data, CNN)
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    optimizer = make_optimizer(model, settings)
    history = fit(model, data, criterion, optimizer, settings, options.modelo, resume=bool(earlier))
    if history.val_accuracy:
        best, seconds = percent(history.val_accuracy[history.best], 2), duration(history.seconds[-1])
        print(f"Melhor acurácia de validação: {best} (época {history.best + 1}), em {seconds}: {options.modelo}")
    if history.interrupted:
        print("Para continuar: o mesmo comando, com --retomar.")
    return 128 + history.interrupted if history.interrupted else 0, history.to_dict()


def evaluate_command(options) -> tuple[int, dict]:
    """Evaluate on the test set, single view and with test-time augmentation."""
    from classificador import evaluate, load_data, load_model

    model = load_model(options.modelo)
    data = load_data(options.dados, options.fonte, model.info["architecture"].get("side", 32))
    single, augmented = (evaluate(model, data.test, data.classes, tta=tta) for tta in (False, True))
    print(single.table(), single.summary(), augmented.summary(), sep="\n")
    return 0, {"single_view": single.to_dict(), "with_tta": augmented.to_dict()}


def predict_command(options) -> tuple[int, dict]:
    """Classify pictures; a bad one is reported and the others still predicted, exit code 1."""
    from classificador import ImageError, is_doubtful, load_model, predict_image
    from classificador.brazilian import percent
    from classificador.folders import find_pictures

    if options.csv and options.json:
        raise ClassificadorError("Use --csv ou --json, não os dois.")
    model, results, code = load_model(options.modelo), {}, 0
    for path in _picture_paths(options.imagens):
        try:
            if os.path.isdir(path):
                find_pictures(path)  # says what is wrong with it
            results[path] = predict_image(model, path)
        except (DataError, ImageError) as error:
            print(printable(f"erro: {error}"), file=sys.stderr)
            results[path], code = {"error": str(error)}, 1
            continue
        best = list(results[path].items())[:3]
        doubt = "; talvez nenhuma das classes" if is_doubtful(model, results[path]) else ""
        text = ", ".join(f"{name} {percent(probability)}" for name, probability in best)
        print(printable(f"{path}: {text}{doubt}"))
    return code, results


def _picture_paths(arguments: list[str]) -> list[str]:
    """The files given, and those in the folders given; a folder without any stays, to be told as a bad file is."""
    from classificador.folders import find_pictures

    paths = []
    for argument in arguments:
        try:
            paths += map(str, find_pictures(argument)) if os.path.isdir(argument) else [argument]
        except DataError:
            paths.append(argument)
    return paths


def _print_csv(results: dict[str, dict]) -> None:
    """One line a picture: file, class and its probability, what was wrong with it, and every class's probability."""
    failed = {path: result["error"] for path, result in results.items() if isinstance(result.get("error"), str)}
    classes = sorted({name for path, result in results.items() if path not in failed for name in result})
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["arquivo", "classe", "probabilidade", "erro", *classes])
    for path, result in results.items():
        if path in failed:
            rows.writerow([path, "", "", failed[path]])
        else:
            rows.writerow([path, *next(iter(result.items())), "", *(result[name] for name in classes)])


def demo_command(options) -> tuple[int, dict]:
    """Serve the web page until interrupted."""
    from classificador import load_model
    from classificador.demo import serve

    with serve(load_model(options.modelo), options.porta) as address:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # forget the pictures then, too
        print(f"A página está em {address} (só neste computador). Ctrl-C encerra.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0, {"address": address}


def compare_command(options) -> tuple[int, dict]:
    """Print a table of runs and draw their curves."""
    from classificador.compare import comparison_table, draw_comparison, read_runs

    runs = read_runs(options.pastas)
    print(comparison_table(runs))
    print(f"Curvas em {draw_comparison(runs, options.figura)}.")
    return 0, {"runs": [{"name": run.name, "test_accuracy": run.test_accuracy} | run.facts for run in runs]}


def export_command(options) -> tuple[int, dict]:
    """Write the model in another format, once the file gave the same answers on test images."""
    from classificador import load_data, load_model
    from classificador.export import CHECKED, export_model

    model = load_model(options.modelo)
    data = load_data(options.dados, options.fonte, model.info["architecture"].get("side", 32))
    if list(data.classes) != list(model.info["classes"]):
        raise DataError(f"As imagens de {options.dados} não são das classes deste modelo. Dê as dele com --dados.")
    path = Path(options.saida or Path(options.modelo).with_suffix(f".{options.formato}"))
    if path.exists() and path.samefile(options.modelo):
        raise DataError(f"{path} é o próprio modelo, que se perderia. Dê outro nome com --saida.")
    difference = export_model(model, data.test.images, path, options.formato)
    count = min(CHECKED, len(data.test))
    print(f"{path}: as mesmas respostas em {count} imagens de teste; diferença de no máximo {difference:.1e}")
    return 0, {"file": str(path), "images": count, "largest_difference": difference}


def card_command(options) -> tuple[int, dict]:
    """Write the model card."""
    from classificador import load_data, load_model
    from classificador.model_card import write_cards

    model = load_model(options.modelo)
    data = load_data(options.dados, options.fonte, model.info["architecture"].get("side", 32))
    path = Path(options.modelo)
    folder = Path(options.saida or ("docs" if options.modelo == "best_model.pth" else path.parent))
    files = [str(card) for card in write_cards(model, path, data, folder)]
    print(f"Gravadas: {', '.join(files)}")
    return 0, {"files": files}


def data_command(options) -> tuple[int, dict]:
    """Bring and verify CIFAR-10; of a folder of class folders, read and count what is in it."""
    from classificador import load_cifar10
    from classificador.brazilian import number
    from classificador.folders import has_class_folders, load_folder

    root = Path(os.path.expanduser(options.dados))
    own = not options.fonte and has_class_folders(root)
    data = load_folder(root) if own else load_cifar10(root, options.fonte)
    what = f"{len(data.classes)} classes em {root}" if own else "CIFAR-10 conferido"
    sizes = {name: len(getattr(data, name)) for name in ("train", "val", "test")}
    train, val, test = (number(size, 0) for size in sizes.values())
    print(f"{what}: {train} imagens de treino, {val} de validação, {test} de teste")
    return 0, sizes | {"classes": list(data.classes)}


def example_command(options) -> tuple[int, dict]:
    """Write a data set of class folders to try one's own classes with."""
    from classificador.folders import write_example

    count = write_example(options.pasta)
    print(f"{count} imagens em {options.pasta}, uma pasta por classe. Agora:")
    choices = "--epocas 20 --lote 32 --sem-espelho --modelo numeros.pth"
    print(f"python -m classificador treinar --dados {shlex.quote(options.pasta)} {choices}")
    return 0, {"images": count}


def diagnose_command(options) -> tuple[int, dict]:
    """Describe this machine and installation; exit code 1 when something is wrong."""
    from classificador.diagnostics import diagnose

    rows = diagnose(options.dados, options.fonte, options.modelo)
    for row in rows:
        print(f"{'✗' if row.problem else '✓'} {row.name}: {row.value}" + (f" — {row.problem}" if row.problem else ""))
    return int(any(row.problem for row in rows)), {
        row.name: {"value": row.value, "problem": row.problem} for row in rows
    }


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"a porta precisa ser de 1 a 65535; veio {port}")
    return port


def _command(commands, function, name: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
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


def _model_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--modelo", default="best_model.pth", metavar="ARQUIVO", help="os pesos (padrão: best_model.pth)"
    )


if __name__ == "__main__":
    # Windows would use a code page that lacks half of our characters. A stream that was closed is None.
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        sys.exit(main())
    except BrokenPipeError:  # the reader of our output went away, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
