"""What each command of the command line does. Heavy imports stay inside: --help needs none of them."""

import csv
import os
import shlex
import sys
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from glob import glob
from pathlib import Path

from classificador.errors import ClassificadorError, DataError, printable

# A setting's name, with which its error messages begin, and the option that sets it.
OPTIONS = {
    "preset": "--receita",
    "epochs": "--epocas",
    "batch_size": "--lote",
    "lr": "--lr",
    "seed": "--semente",
    "device": "--dispositivo",
    "symmetric": "--sem-espelho",
    "teacher": "--professor",
    "start_from": "--partir-de",
}


def train_command(options) -> tuple[int, dict]:
    """Train; when stopped by a signal the exit code is 128 plus its number (Ctrl-C: 130), and --retomar goes on."""
    from classificador import CNN, build, find_start, load_data, make_settings, processes
    from classificador.device import choose_device
    from classificador.network.build import network_sizes
    from classificador.training.resume import check_network, left_by_job, read_resume

    restarted = processes.restarted()
    left = processes.from_first(lambda: left_by_job(options.modelo, restarted))
    if left == "finished":
        print("Este treino já tinha terminado quando um dos processos morreu; nada a fazer.")
        return 0, {}
    goes_on = options.retomar or left == "interrupted"
    earlier = processes.from_first(lambda: read_resume(options.modelo).settings if goes_on else None)
    given = {name: getattr(options, option.strip("-").replace("-", "_")) for name, option in OPTIONS.items()}
    given = {name: value for name, value in given.items() if value is not None}
    settings = replace(earlier, **given) if earlier else make_settings(**given)
    choose_device(settings.device)  # a device that is missing is told before the data are fetched
    data = load_data(options.dados, options.fonte, options.lado, options.enquadrar)
    start = processes.from_first(lambda: find_start(settings.start_from, data.classes))
    if goes_on:
        sizes = network_sizes(settings, data, start)
        processes.from_first(lambda: check_network(options.modelo, settings, sizes, data.classes))
    model = build(settings, data, CNN, start)
    return _train(model, data, settings, options.modelo, resume=goes_on)


def teacher_command(options) -> tuple[int, dict]:
    """Train the teacher of the recipe `destilado`; stopped and resumed as in train_command."""
    from classificador import build, load_data
    from classificador.network.teacher import Teacher
    from classificador.recipes import TEACHER
    from classificador.training.resume import read_resume

    given = {"epochs": options.epocas, "batch_size": options.lote, "seed": options.semente}
    given |= {"device": options.dispositivo, "symmetric": options.sem_espelho}
    given = {name: value for name, value in given.items() if value is not None}
    earlier = read_resume(options.modelo).settings if options.retomar else None
    settings = replace(earlier or TEACHER, **given)
    data = load_data(options.dados, options.fonte, options.lado, options.enquadrar)
    # The mirror image is no part of it: twice the cost for each of its many answers.
    teacher = build(replace(settings, symmetric=False), data, Teacher)
    return _train(teacher, data, settings, options.modelo, options.retomar)


def _train(model, data, settings, path: str, resume: bool) -> tuple[int, dict]:
    """Train and say how it went; the exit code as train_command has it."""
    from torch import nn

    from classificador import fit, make_optimizer
    from classificador.portuguese import duration, number, percent

    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    history = fit(model, data, criterion, make_optimizer(model, settings), settings, path, resume=resume)
    if history.val_accuracy:
        best, seconds = percent(history.val_accuracy[history.best], 2), duration(history.seconds[-1])
        facts = f"época {history.best + 1}, n = {number(len(data.val), 0)}{', destilado' if settings.teacher else ''}"
        print(f"Melhor acurácia de validação: {best} ({facts}), em {seconds}: {path}")
    if history.interrupted:
        print("Para continuar: o mesmo comando, com --retomar.")
    return 128 + history.interrupted if history.interrupted else 0, history.to_dict()


def evaluate_command(options) -> tuple[int, dict]:
    """Evaluate on the test set."""
    from classificador import evaluate, load_data, load_model

    model = load_model(options.modelo)
    data = load_data(options.dados, options.fonte, model.info.side, model.info.framing)
    report = evaluate(model, data.test, data.classes)
    print(report.table(), report.summary(), sep="\n")
    return 0, report.to_dict()


def predict_command(options) -> tuple[int, dict]:
    """Classify pictures; a bad one is reported and the others still predicted, exit code 1.

    Interrupted, it returns what it has, with exit code 130.
    """
    from classificador import ImageError, is_doubtful, load_model, predict_image
    from classificador.data.finding import find_pictures
    from classificador.portuguese import percent

    if options.csv and options.json:
        raise ClassificadorError("Use --csv ou --json, não os dois.")
    model, code = load_model(options.modelo), 0
    results: dict[str, dict] = {}
    try:
        for path in _picture_paths(options.imagens):
            shown = printable(path)
            try:
                if os.path.isdir(path):
                    find_pictures(path)  # says what is wrong with it
                results[shown] = predict_image(model, path)
            except (DataError, ImageError) as error:
                print(printable(f"erro: {error}"), file=sys.stderr)
                results[shown], code = {"error": printable(str(error))}, 1
                continue
            best = list(results[shown].items())[:3]
            doubt = "; talvez nenhuma das classes" if is_doubtful(model, results[shown]) else ""
            text = ", ".join(f"{name} {percent(probability)}" for name, probability in best)
            print(printable(f"{shown}: {text}{doubt}"))
    except KeyboardInterrupt:
        print(f"Interrompido depois de {len(results)} imagens.", file=sys.stderr)
        code = 130
    return code, results


def _picture_paths(arguments: list[str]) -> list[str]:
    """The files given, those in the folders given, and those that a pattern names which no shell expanded.

    A folder without any, and what is not there, stay, to be told as a bad file is.
    """
    from classificador.data.finding import find_pictures

    paths: list[str] = []
    for argument in dict.fromkeys(arguments):
        try:
            if os.path.isdir(argument):
                paths += map(str, find_pictures(argument))
            else:
                matching = [] if os.path.exists(argument) else sorted(glob(argument, recursive=True))
                paths += matching or [argument]
        except DataError:
            paths.append(argument)
    return list(dict.fromkeys(paths))


def print_csv(results: dict[str, dict]) -> None:
    """One line a picture: file, class and its probability, what was wrong with it, and every class's probability.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """

    def text(value: str) -> str:
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t")) else value

    failed = {path: result["error"] for path, result in results.items() if isinstance(result.get("error"), str)}
    classes = sorted({name for path, result in results.items() if path not in failed for name in result})
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["arquivo", "classe", "probabilidade", "erro", *map(text, classes)])
    for path, result in results.items():
        if path in failed:
            rows.writerow([text(path), "", "", text(failed[path]), *("" for _ in classes)])
        else:
            best, probability = next(iter(result.items()))
            rows.writerow([text(path), text(best), probability, "", *(result[name] for name in classes)])


def compare_command(options) -> tuple[int, dict]:
    """Print a table of runs and draw their curves."""
    from classificador.apps.compare import comparison_table, draw_comparison, read_runs

    runs = read_runs(options.pastas)
    print(comparison_table(runs))
    print(f"Curvas em {draw_comparison(runs, options.figura)}.")
    scores = {"test_accuracy": "accuracy", "test_f1": "macro_f1"}
    named = [(run, {name: run.test and run.test[key] for name, key in scores.items()}) for run in runs]
    return 0, {"runs": [{"name": run.name} | tested | run.facts for run, tested in named]}


def export_command(options) -> tuple[int, dict]:
    """Write the model in another format, once the file gave the same answers on test images."""
    from classificador.apps.export import export_model

    ending = ".pesos.pth" if options.formato == "pesos" else f".{options.formato}"

    def write(model, data, path: Path) -> float:
        return export_model(model, data.test.images, path, options.formato)

    return _export(options, lambda: Path(options.modelo).with_suffix(ending), write)


def page_command(options) -> tuple[int, dict]:
    """Write the model as a web page, checked in the same way; and open it, if asked to."""
    from classificador.apps.page import write_page
    from classificador.portuguese import number

    code, result = _export(options, lambda: Path("dist", Path(options.modelo).with_suffix(".html").name), write_page)
    path = Path(result["file"])
    print(f"Um arquivo de {number(path.stat().st_size / 1e6, 1)} MB: abra-o em um navegador, ou envie-o a alguém.")
    if options.abrir and not webbrowser.open(path.resolve().as_uri()):
        print("Nenhum navegador respondeu.")
    return code, result


def _export(options, place: Callable[[], Path], write: Callable) -> tuple[int, dict]:
    """Call write(model, data, path), which writes a file of the model and returns the largest difference.

    place: says where, when --saida does not.
    """
    from classificador import load_data, load_model
    from classificador.apps.export import CHECKED
    from classificador.files.model_info import take_classes

    model = load_model(options.modelo)
    data = load_data(options.dados, options.fonte, model.info.side, model.info.framing)
    take_classes(model, data.classes)
    if list(data.classes) != list(model.info.classes):
        raise DataError(f"As imagens de {options.dados} não são das classes deste modelo. Dê as dele com --dados.")
    path = Path(options.saida) if options.saida else place()
    if path.exists() and path.samefile(options.modelo):
        raise DataError(f"{path} é o próprio modelo, que se perderia. Dê outro nome com --saida.")
    count = min(CHECKED, len(data.test))
    print(f"Conferindo em {count} imagens de teste…")
    difference = write(model, data, path)
    largest = f"{difference:.1e}".replace(".", ",")
    print(f"{path}: as mesmas respostas; diferença de probabilidade de no máximo {largest}")
    return 0, {"file": str(path), "images": count, "largest_difference": difference}


def card_command(options) -> tuple[int, dict]:
    """Write the model card."""
    from classificador import load_data, load_model
    from classificador.apps.model_card import write_cards

    model = load_model(options.modelo)
    data = load_data(options.dados, options.fonte, model.info.side, model.info.framing)
    path = Path(options.modelo)
    folder = Path(options.saida or ("docs" if options.modelo == "best_model.pth" else path.parent))
    files = [str(card) for card in write_cards(model, path, data, folder)]
    print(f"Gravadas: {', '.join(files)}")
    return 0, {"files": files}


def data_command(options) -> tuple[int, dict]:
    """Bring and verify CIFAR-10; of a folder of class folders, read and count what is in it."""
    from classificador import load_cifar10
    from classificador.data.folders import is_for_cifar10, load_folder
    from classificador.portuguese import number

    root = Path(os.path.expanduser(options.dados))
    empty = root.is_dir() and not any(root.iterdir())  # made for CIFAR-10, then
    own = not (options.fonte or is_for_cifar10(root) or empty)
    data = load_folder(root) if own else load_cifar10(root, options.fonte)
    what = f"{len(data.classes)} classes em {root}" if own else "CIFAR-10 conferido"
    sizes = {name: len(getattr(data, name)) for name in ("train", "val", "test")}
    train, val, test = (number(size, 0) for size in sizes.values())
    print(f"{what}: {train} imagens de treino, {val} de validação, {test} de teste")
    return 0, sizes | {"classes": list(data.classes)}


def notebook_command(options) -> tuple[int, dict]:
    """Run the notebook as a whole, or its prediction section."""
    from classificador.apps.notebook import run_notebook

    return 0, run_notebook(options.predicao, options.receita, options.retomar, options.gravar)


def standalone_command(options) -> tuple[int, dict]:
    """Write the notebook that carries the package."""
    from classificador.apps.standalone import write_standalone

    path = Path(options.saida)
    write_standalone(path)
    print(f"{path}: o caderno com o pacote dentro. Leve este arquivo, e best_model.pth para só predizer.")
    return 0, {"file": str(path)}


def example_command(options) -> tuple[int, dict]:
    """Write a data set of class folders to try one's own classes with."""
    from classificador.data.folders import write_example

    count = write_example(options.pasta)
    print(f"{count} imagens em {options.pasta}, uma pasta por classe. Agora:")
    choices = "--sem-espelho --modelo numeros.pth"
    print(f"python -m classificador treinar --dados {shlex.quote(options.pasta)} {choices}")
    return 0, {"images": count}


def diagnose_command(options) -> tuple[int, dict]:
    """Describe this machine and installation; exit code 1 when something is wrong."""
    from classificador.apps.diagnostics import diagnose

    found = diagnose(options.dados, options.fonte, options.modelo)
    for name, (value, problem) in found.items():
        print(f"{'✗' if problem else '✓'} {name}: {value}" + (f" — {problem}" if problem else ""))
    wrong = any(problem for _, problem in found.values())
    return int(wrong), {name: {"value": value, "problem": problem} for name, (value, problem) in found.items()}
