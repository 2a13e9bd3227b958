"""Runs side by side: what `python -m classificador comparar` prints and draws."""

import csv
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt

from classificador.errors import DataError, printable
from classificador.portuguese import duration, number, percent, reason
from classificador.show.style import COMMA, PERCENT, styled
from classificador.training.record import STATUS

COLUMNS = ("epoch", "seconds", "val_accuracy")  # of history.csv


@dataclass(frozen=True)
class Run:
    """What write_record() left of a run; test: accuracy, a fraction, and macro F1, where the whole notebook ran."""

    name: str
    facts: dict
    epochs: list[dict[str, float]]
    test: dict | None


def read_runs(folders: list[str]) -> list[Run]:
    """Return the runs in these folders, oldest first; a folder that holds folders of runs gives all of them.

    One that cannot be read is named, and the others are returned. Raises DataError when none is left.
    """
    files = [file for folder in map(Path, folders) for file in (*folder.glob("run.json"), *folder.glob("*/run.json"))]
    if not files:
        raise DataError(f"Não há run.json em {', '.join(folders)}. Cada treino deixa o seu em uma pasta de runs/.")
    runs, errors = [], []
    for folder in sorted({file.parent.resolve() for file in files}, key=lambda folder: folder.name):
        try:
            runs.append(_read(folder))
        except DataError as error:
            errors.append(error)
    if not runs:
        raise errors[0]
    for unreadable in errors:
        print(f"Ficou de fora: {unreadable}")
    return runs


def _read(folder: Path) -> Run:
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
            epochs = [{name: float(row[name]) for name in COLUMNS} for row in csv.DictReader(file)]
        test = None
        with suppress(FileNotFoundError):
            metrics = json.loads((folder / "metricas.json").read_text(encoding="utf-8"))
            test = metrics.get("test", metrics.get("single_view"))  # as it was called until 2026-11-27
        run = Run(folder.name, facts, epochs, test)
        _row(run), _origin(run)  # fails where something that is shown is missing
        return run
    except OSError as error:
        raise DataError(f"{folder} não pôde ser lida: {reason(error)}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, csv.Error) as error:
        raise DataError(f"{folder} não tem um run.json e um history.csv de um treino deste projeto.") from error


def _row(run: Run) -> list[str]:
    settings, metrics = run.facts["settings"], run.facts["metrics"]
    known = bool(metrics["epochs"])
    return [
        run.name,
        f"{metrics['epochs']}/{settings['epochs']}",
        f"{percent(metrics['val_accuracy'], 2)} ({metrics['best_epoch']})" if known else "—",
        f"{percent(run.test['accuracy'], 2)} ({number(run.test['macro_f1'], 4)})" if run.test else "—",
        duration(metrics["seconds"]) if known else "—",
        STATUS[run.facts["status"]],
    ]


def comparison_table(runs: list[Run]) -> str:
    """Return the runs as aligned text, one a line, and below the settings in which they differ."""
    head = ["Treino", "Épocas", "Validação (época)", "Teste (F1 macro)", "Tempo", "Estado"]
    rows = [head, *map(_row, runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join([row[0].ljust(widths[0])] + [text.rjust(w) for text, w in zip(row[1:], widths[1:], strict=True)])
        for row in rows
    ]
    lines.insert(1, "─" * len(lines[0]))
    facts = [run.facts["settings"] | _origin(run) for run in runs]
    for name in dict.fromkeys(name for values in facts for name in values):
        values = [run.get(name) for run in facts]
        if any(value != values[0] for value in values):
            lines.append(f"{name}: {', '.join(map(str, values))}")
    return "\n".join(map(printable, lines))


def _origin(run: Run) -> dict[str, str]:
    """The file that a run renewed, and what it learnt from."""
    data = run.facts.get("data", {})
    images = f"{len(data.get('classes', []))} classes, {data.get('train')} imagens, {data.get('crc32')}"
    return {"modelo": run.facts.get("checkpoint", ""), "dados": images}


@styled()
def draw_comparison(runs: list[Run], path: str) -> str:
    """Write a figure of each run's validation accuracy over the epochs and over the time; return its place.

    path: with ".png" added where it has no suffix. Raises DataError when it cannot be written.
    """
    place = path if Path(path).suffix else f"{path}.png"
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6 + 0.2 * len(runs)), sharey=True)
    for index, run in enumerate(runs):
        accuracy = [row["val_accuracy"] for row in run.epochs]
        style = {"label": run.name, "ls": ("-", "--", ":")[index // 10 % 3], "marker": "o", "markersize": 3}
        axes[0].plot([row["epoch"] for row in run.epochs], accuracy, **style)
        axes[1].plot([row["seconds"] for row in run.epochs], accuracy, **style)
    for axis, label in zip(axes, ("época", "segundos"), strict=True):
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
        raise DataError(f"A figura não pôde ser gravada em {place}: {reason(error)}.") from error
    finally:
        plt.close(figure)
    return place
