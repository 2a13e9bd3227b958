"""`comparar`: runs side by side, in a table and a figure. Heavy imports stay inside: --help needs none of them."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from classificador.apps.arguments import RESULT, add_command, path_argument
from classificador.errors import DataError, WriteError, printable
from classificador.portuguese import duration, number, percent, reason, shorten

COLUMNS = ("epoch", "seconds", "val_accuracy")  # of history.csv
ABREAST, WIDEST = 4, 44  # settings that stand side by side, and letters of one that are shown


@dataclass(frozen=True)
class RunRecord:
    """What a run left in its folder."""

    result: dict  # its run.json, and how it did on the test images, where the whole notebook ran
    epochs: list[dict[str, float]]
    row: list[str]  # of the table, the name first
    settings: dict  # and what else may differ: the file that the run renewed, and the data that it learnt from


def add_commands(commands) -> None:
    """Add the command."""
    text = "põe treinos lado a lado, em uma tabela e uma figura"
    add = add_command(commands, "comparar", compare_command, text, RESULT).add_argument
    add("pastas", metavar="PASTA", type=path_argument, nargs="+", help="pastas de treinos, ou runs, que tem todas")
    text = "onde gravar as curvas (padrão: %(default)s)"
    add("--figura", metavar="ARQUIVO", type=path_argument, default="comparacao.png", help=text)


def compare_command(options) -> tuple[int, dict]:
    """Print a table of runs and draw their curves."""
    records = read_records(options.pastas)
    print(comparison_table(records))
    print(f"Curvas em {draw_comparison(records, options.figura)}.")
    return 0, {"runs": [run.result for run in records]}


def read_records(folders: list[str]) -> list[RunRecord]:
    """Return the runs in these folders, oldest first; a folder that holds folders of runs gives all of them.

    One that cannot be read is named, and the others are returned. Raises DataError when none is left.
    """
    files = [file for folder in map(Path, folders) for file in (*folder.glob("run.json"), *folder.glob("*/run.json"))]
    records = []
    for folder in sorted({file.parent.resolve() for file in files}, key=lambda folder: folder.name):
        try:
            records.append(_read(folder))
        except DataError as error:
            print(f"Ficou de fora: {error}")
    if not records:
        problem = f"Não há run.json de um treino em {', '.join(folders)}."
        raise DataError(problem, "Cada treino deixa o seu em uma pasta de runs/.")
    return records


def _read(folder: Path) -> RunRecord:
    from classificador.training.record import STATUS

    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
            epochs = [{name: float(row[name]) for name in COLUMNS} for row in csv.DictReader(file)]
        measured = folder / "metricas.json"
        test = json.loads(measured.read_text(encoding="utf-8"))["test"] if measured.exists() else {}
        metrics, data = record["metrics"], record["data"]
        row = [
            folder.name,
            f"{metrics['epochs']}/{record['settings']['epochs']}",
            f"{percent(metrics['val_accuracy'], 2)} ({metrics['best_epoch']})" if metrics["epochs"] else "—",
            f"{percent(test['accuracy'], 2)} ({number(test['macro_f1'], 4)})" if test else "—",
            duration(metrics["seconds"]) if metrics["epochs"] else "—",
            STATUS[record["status"]],
        ]
        images = f"{len(data['classes'])} classes, {data['train']} imagens, {data['crc32']}"
        seen = {"lado": data["side"], "enquadrar": data["framing"]}
        settings = record["settings"] | {"modelo": record["checkpoint"], "dados": images} | seen
        scores = {"test_accuracy": test.get("accuracy"), "test_f1": test.get("macro_f1")}
        return RunRecord({"name": folder.name} | scores | record, epochs, row, settings)
    except OSError as error:
        raise DataError(f"{folder} não pôde ser lida: {reason(error)}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, csv.Error) as error:
        raise DataError(f"{folder} não tem um run.json e um history.csv de um treino deste projeto.") from error


def comparison_table(records: list[RunRecord]) -> str:
    """Return the runs as aligned text, one a line, and below the settings in which they differ, a few at a time."""
    head = ["Treino", "Épocas", "Validação (época)", "Teste (F1 macro)", "Tempo", "Estado"]
    tables = [_aligned([head, *(run.row for run in records)])]
    names = dict.fromkeys(name for run in records for name in run.settings)
    other = [name for name in names if any(run.settings.get(name) != records[0].settings.get(name) for run in records)]
    for start in range(0, len(other), ABREAST):
        some = other[start : start + ABREAST]
        rows = [[run.row[0], *(_shown(run.settings.get(name)) for name in some)] for run in records]
        tables.append(_aligned([["O que difere", *some], *rows]))
    return "\n\n".join(tables)


def _aligned(rows: list[list[str]]) -> str:
    """Rows of texts as lines, the first column to the left and the others to the right, the head underlined."""
    rows = [[printable(text) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0])] + [text.rjust(w) for text, w in zip(row[1:], widths[1:], strict=True)])
        for row in rows
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def _shown(value: object) -> str:
    """A setting as a cell has room for it."""
    return shorten("—" if value in (None, "") else str(value), WIDEST)


def draw_comparison(records: list[RunRecord], path: str) -> str:
    """Write a figure of each run's validation accuracy over the epochs and over the time; return its place.

    path: with ".png" added where it has no suffix. Raises WriteError when it cannot be written.
    """
    from matplotlib import rc_context

    from classificador.show.style import COMMA, PERCENT, STYLE, new_figure

    place = path if Path(path).suffix else f"{path}.png"
    with rc_context(STYLE):
        figure, axes = new_figure(1, 2, figsize=(10, 3.6 + 0.2 * len(records)), sharey=True)
        for axis, name, label in zip(axes, ("epoch", "seconds"), ("época", "segundos"), strict=True):
            for index, run in enumerate(records):
                moments, accuracy = ([row[column] for row in run.epochs] for column in (name, "val_accuracy"))
                axis.plot(moments, accuracy, ("o-", "o--", "o:")[index // 10 % 3], label=run.row[0], markersize=3)
            axis.set(xlabel=label)
            axis.xaxis.set_major_formatter(COMMA)
            axis.grid(axis="y")
        axes[0].yaxis.set_major_formatter(PERCENT)
        axes[0].xaxis.get_major_locator().set_params(integer=True)
        figure.suptitle("acurácia de validação", fontsize=11)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        try:
            figure.savefig(place)
        except (OSError, ValueError) as error:  # ValueError: a suffix it does not know
            raise WriteError(f"A figura não pôde ser gravada em {place}: {reason(error)}.") from error
    return place
