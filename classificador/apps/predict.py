"""`prever` and `avaliar`: what a model answers. Heavy imports stay inside: --help needs none of them."""

import csv
import io
import os
import sys
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from classificador.apps.arguments import DATA, MODEL, RESULT, add_command, path_argument
from classificador.apps.sorting import prepare_target, sort_pictures
from classificador.errors import ClassificadorError, DataError, WriteError, printable
from classificador.paths import as_path
from classificador.portuguese import first_few, number


def add_commands(commands) -> None:
    """Add both commands."""
    add_command(
        commands,
        "avaliar",
        evaluate_command,
        "mede acurácia e F1 nas imagens de teste ou, com poucas, por validação cruzada",
        DATA,
        MODEL,
        RESULT,
    )
    text = "diz a classe de imagens suas, com a probabilidade"
    add = add_command(commands, "prever", predict_command, text, MODEL, RESULT).add_argument
    text = "fotos (PNG, JPEG, GIF, WebP, AVIF, BMP, TIFF, PPM; HEIC com o pillow-heif), ou pastas, com as de dentro"
    add("imagens", metavar="IMAGEM", nargs="+", help=text)
    add("--csv", action="store_true", help="resultado em CSV na saída padrão, para uma planilha")
    text = "copia cada imagem para a pasta da classe dela em PASTA, e as de que se duvida para duvidosas"
    add("--separar", metavar="PASTA", type=path_argument, help=text)


def model_and_data(options) -> tuple:
    """The model that was asked for, and data framed as it sees pictures.

    Raises DataError, before any data are brought, where a model of one's own classes is given without its pictures.
    """
    from classificador import CLASSES, load_data, load_model
    from classificador.network.model_info import info_of

    model = load_model(options.modelo)
    info = info_of(model)
    if options.dados == "data" and not options.fonte and info.preset and not set(info.classes) & set(CLASSES):
        known = first_few(info.classes, 5)
        raise DataError(f"{options.modelo} conhece {known}, e não o CIFAR-10.", "Dê as imagens dele: --dados PASTA.")
    return model, load_data(options.dados, options.fonte, info.side, info.framing)


def evaluate_command(options) -> tuple[int, dict]:
    """Evaluate on the test set."""
    from classificador import evaluate

    model, data = model_and_data(options)
    report = evaluate(model, data.test, data.classes)
    print(report.table(), report.summary(), sep="\n")
    return 0, report.to_dict()


def predict_command(options) -> tuple[int, dict]:
    """Classify pictures; a bad one is reported and the others still predicted, exit code 1.

    Interrupted, it returns what it has, with exit code 130.
    """
    from classificador import ImageError, is_doubtful, load_model, predict_image
    from classificador.network.model_info import info_of
    from classificador.portuguese import percent

    if options.csv and options.json:
        raise ClassificadorError("Use --csv ou --json, não os dois.")
    model, code = load_model(options.modelo), 0
    target = Path(options.separar) if options.separar else None
    if target:
        prepare_target(target, options.imagens)
    results: dict[str, dict] = {}
    homes: dict[str, str] = {}
    try:
        for path, problem in _pictures(options.imagens).items():
            shown = printable(path)
            try:
                if problem:
                    raise problem
                answer = predict_image(model, path)
            except (DataError, ImageError) as error:
                print(printable(f"erro: {error}"), file=sys.stderr)
                results[shown], code = {"error": printable(str(error))}, 1
                continue
            best, is_doubted = list(answer.items())[:3], is_doubtful(model, answer)
            results[shown] = ({"doubtful": True} if is_doubted else {}) | answer
            doubt = "; duvidosa: talvez nenhuma das classes" if is_doubted else ""
            homes[path] = "" if is_doubted else best[0][0]
            text = ", ".join(f"{name} {percent(probability)}" for name, probability in best)
            print(printable(f"{shown}: {text}{doubt}"))
    except KeyboardInterrupt:
        print(f"Interrompido depois de {len(results)} imagens.", file=sys.stderr)
        code = 130
    if target:
        code = _sort(homes, target, info_of(model).classes) or code
    return code, results


def _sort(homes: dict[str, str], target: Path, classes: Sequence[str]) -> int:
    """Copy the pictures, and say so; return 1 where that fails, by which the answers are not lost."""
    try:
        print(printable(sort_pictures(homes, target, classes)))
    except WriteError as error:
        print(printable(f"erro: {error}"), file=sys.stderr)
        return 1
    return 0


def _pictures(arguments: list[str]) -> dict[str, DataError | None]:
    """The files given, those in the folders given, and those that a pattern names which no shell expanded.

    A folder without any comes with what is wrong with it. What is not there stays, to be told as a bad file is.
    """
    from classificador.data.finding import find_pictures

    found: dict[str, DataError | None] = {}
    for argument in dict.fromkeys(arguments):
        try:
            argument = str(as_path(argument))
            if os.path.isdir(argument):
                paths = [str(path) for path in find_pictures(argument)]
            else:
                paths = [] if os.path.exists(argument) else sorted(glob(argument, recursive=True))
            found |= dict.fromkeys(paths or [argument])
        except DataError as error:
            found[argument] = error
    return found


def as_csv(results: dict[str, dict]) -> str:
    """One line a picture: file, class, its probability, whether in doubt, what was wrong, every class's probability.

    As a Brazilian spreadsheet reads it: semicolons, and a comma in numbers. A text that it would take for a formula
    gets an apostrophe in front.
    """

    def text(value: str) -> str:
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t")) else value

    def share(value: float | str) -> str:
        return value if isinstance(value, str) else number(value, 4)

    # A class may be called "error" or "doubtful": then its value is a number.
    errors = {path: result["error"] for path, result in results.items() if isinstance(result.get("error"), str)}
    doubted = {path for path, result in results.items() if result.get("doubtful") is True}
    results = {path: {k: v for k, v in result.items() if v is not True} for path, result in results.items()}
    classes = sorted({name for path, result in results.items() if path not in errors for name in result})
    table = io.StringIO()
    rows = csv.writer(table, delimiter=";", lineterminator="\n")
    rows.writerow(["arquivo", "classe", "probabilidade", "duvidosa", "erro", *map(text, classes)])
    for path, result in results.items():
        best, error = (("", ""), errors[path]) if path in errors else (next(iter(result.items())), "")
        probabilities = ("" if path in errors else share(result[name]) for name in classes)
        doubt = "" if path in errors else "sim" if path in doubted else "não"
        rows.writerow([text(path), text(best[0]), share(best[1]), doubt, text(error), *probabilities])
    return table.getvalue()
