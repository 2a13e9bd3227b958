"""What each of the other commands does. Heavy imports stay inside: --help needs none of them."""

import os
import shlex
import webbrowser
from collections.abc import Callable
from pathlib import Path

from classificador.errors import DataError


def _model_and_data(options):
    """The model that was asked for, and data framed as it sees pictures."""
    from classificador import load_data, load_model
    from classificador.network.model_info import info_of

    model = load_model(options.modelo)
    return model, load_data(options.dados, options.fonte, info_of(model).side, info_of(model).framing)


def evaluate_command(options) -> tuple[int, dict]:
    """Evaluate on the test set."""
    from classificador import evaluate

    model, data = _model_and_data(options)
    report = evaluate(model, data.test, data.classes)
    print(report.table(), report.summary(), sep="\n")
    return 0, report.to_dict()


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

    return _export(options, write, ending)


def page_command(options) -> tuple[int, dict]:
    """Write the model as a web page, checked in the same way; and open it, if asked to."""
    from classificador.apps.page import write_page
    from classificador.portuguese import number

    code, result = _export(options, write_page, ".html", folder="dist")
    path = Path(result["file"])
    print(f"Um arquivo de {number(path.stat().st_size / 1e6, 1)} MB: abra-o em um navegador, ou envie-o a alguém.")
    if options.abrir and not webbrowser.open(path.resolve().as_uri()):
        print("Nenhum navegador respondeu.")
    return code, result


def _export(options, write: Callable, ending: str, folder: str = "") -> tuple[int, dict]:
    """Call write(model, data, path), which writes a file of the model and returns the largest difference.

    ending, folder: of the file, where --saida does not say; "": beside the model.
    """
    from classificador.apps.export import CHECKED
    from classificador.network.model_info import info_of, take_classes

    model, data = _model_and_data(options)
    take_classes(model, data.classes)
    if list(data.classes) != list(info_of(model).classes):
        raise DataError(f"As imagens de {options.dados} não são das classes deste modelo. Dê as dele com --dados.")
    beside = Path(options.modelo).with_suffix(ending)
    path = Path(options.saida or (Path(folder, beside.name) if folder else beside))
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
    from classificador.apps.model_card import write_cards

    model, data = _model_and_data(options)
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

    return 0, run_notebook(options.predicao, options.preset, options.retomar, options.gravar)


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
