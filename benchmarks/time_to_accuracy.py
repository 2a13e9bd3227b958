"""Seconds of training to 75, 80, 85, 87 and 89 % test accuracy: `python -m benchmarks.time_to_accuracy`.

Lines: the original recipe as it was (one PIL image at a time), and one recipe of ours a target, planned for it. Every
seed of every line in turn, so that a slow minute of the machine hits all alike. The clock starts with the data in
memory and includes whitening, augmentation, validation and saving for our recipes, and training alone for the original,
whose learning rate is constant: each of its epochs is the end of a run of that length.
Prints a table, writes benchmarks/time_to_accuracy.json, where each kind of processor has its own lines, and draws
docs/tempo.png. Cut off, it goes on where it was; a line whose settings changed is measured anew. Where no processor
with AVX2 alone is at hand, these variables come near: ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
MKL_ENABLE_INSTRUCTIONS=AVX2; say so beside the figures.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from torch import nn

from benchmarks import machine
from classificador import ImageData, Settings, build, evaluate, fit, load_cifar10, load_model, make_optimizer
from classificador import make_settings as make
from classificador.data.dataset import Split
from classificador.network.model_info import info_of
from classificador.show.style import BLACK, BLUE, PERCENT, STYLE

ORIGINAL = "original"
SEEDS = {ORIGINAL: 3, "completo": 1}  # at most, of lines that take long
# Chosen on the validation split, where such runs score up to a point more than on the test set.
RECIPES: dict[str, dict[str, Any]] = {
    "alvo 75%": {"epochs": 1, "channels": (32, 64)},
    "relampago": {},
    "alvo 85%": {"epochs": 5, "shift": 1},
    "rapido": {},
    "completo": {},
}
IMAGES = {"alvo 75%": 41_000}  # of the training images, for a run that ends before it has seen them all
TARGETS = (0.75, 0.80, 0.85, 0.87, 0.89)


def recipe_settings(line: str, seed: int) -> Settings:
    """The settings of a line: a recipe by its own name, or a change of one."""
    return make({"alvo 75%": "relampago", "alvo 85%": "rapido"}.get(line, line), seed=seed, **RECIPES[line])


def train_ours(data: ImageData, line: str, settings: Settings) -> tuple[nn.Module, float]:
    """Train a line of ours through build() and fit(); return its best epoch's network, and the seconds it took.

    settings: of recipe_settings().
    """
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    some = IMAGES.get(line, len(data.train))
    data = replace(data, train=Split(data.train.images[:some], data.train.labels[:some]))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        model, path = build(settings, data), Path(folder, "best.pth")
        history = fit(model, data, criterion, make_optimizer(model, settings), settings, path)
        seconds = time.perf_counter() - started
        if history.interrupted:
            raise SystemExit(128 + history.interrupted)  # half a run is no result
        return load_model(path), seconds


def measure_ours(data: ImageData, line: str, seed: int) -> dict:
    """The same with the test set opened at its end."""
    best, seconds = train_ours(data, line, recipe_settings(line, seed))
    report = evaluate(best, data.test, data.classes)
    return {
        "seconds": seconds,
        "accuracy": report.accuracy,
        "macro_f1": float(report.macro[2]),
        "val_accuracy": info_of(best).val_accuracy,
        "precision": info_of(best).precision,
    }


def train(line: str, data: ImageData, seed: int) -> list[dict]:
    """One run of a line of the table; of the original an entry an epoch, of ours one for its end."""
    if line == ORIGINAL:
        return [
            {"seconds": seconds, "accuracy": machine.accuracy(model, data.test)}
            for model, seconds in machine.train_original(data, seed)
        ]
    return [measure_ours(data, line, seed)]


def settings_of(line: str) -> dict:
    """The settings of a line, as the JSON file keeps them; empty for the original, which has none of ours."""
    if line == ORIGINAL:
        return {}
    settings = json.loads(json.dumps(asdict(recipe_settings(line, seed=0))))  # lists, as in the file
    del settings["start_from"]  # CIFAR-10's classes begin with new weights
    return settings | {"images": IMAGES.get(line, 45_000)}


def still_true(result: dict | None, line: str) -> bool:
    """Whether a stored result was measured with today's settings on this processor."""
    if not result or not result["runs"] or result["settings"] != settings_of(line):
        return False
    return result["machine"]["processor"] == machine.describe()["processor"]


def summarise(runs: list[list[dict]]) -> list[dict]:
    """Mean and standard deviation over the seeds, for each length of run."""
    rows = []
    for entries in zip(*runs, strict=True):
        row = {}
        for key in entries[0]:
            values = [entry[key] for entry in entries]
            if isinstance(values[0], str):
                continue
            row[key] = (statistics.mean(values), statistics.stdev(values) if len(values) > 1 else float("nan"))
        rows.append(row)
    return rows


def reached(rows: list[dict], target: float) -> float | None:
    """Mean seconds of the shortest run whose mean accuracy is at or above the target."""
    return next((row["seconds"][0] for row in rows if row["accuracy"][0] >= target), None)


def best_of_original(results: dict) -> tuple[int, dict]:
    """The epoch (from 1) at which the mean accuracy of the original recipe is best, and its row."""
    rows = summarise(results[ORIGINAL]["runs"])
    number = max(range(len(rows)), key=lambda index: rows[index]["accuracy"][0])
    return number + 1, rows[number]


def print_table(results: dict) -> None:
    """The lines with n, accuracy and time, told in seconds and as a share of the original's time to its best."""
    epoch, original = best_of_original(results)
    print(f"{'receita':<21}{'n':>3}{'teste %':>15}{'F1 macro %':>15}{'segundos':>16}{'vezes mais rápido':>19}")
    for line, result in results.items():
        row = original if line == ORIGINAL else summarise(result["runs"])[0]
        cells = [f"{line:<21}{len(result['runs']):>3}"]
        for key in ("accuracy", "macro_f1"):
            cells.append(f"{100 * row[key][0]:.2f} ± {100 * row[key][1]:.2f}".rjust(15) if key in row else f"{'—':>15}")
        cells.append(f"{row['seconds'][0]:.1f} ± {row['seconds'][1]:.1f}".rjust(16))
        cells.append(f"{original['seconds'][0] / row['seconds'][0]:>19.1f}")
        print("".join(cells))
    ours = [summarise(result["runs"])[0] for line, result in results.items() if line in RECIPES]
    ours.sort(key=lambda row: row["seconds"][0])
    print(f"\no melhor do original: {original['accuracy'][0]:.2%}, época {epoch}, em {original['seconds'][0]:.0f} s")
    for target in TARGETS:
        seconds = reached(ours, target)
        print(f"{target:.0%}: " + ("—" if seconds is None else f"{original['seconds'][0] / seconds:.1f} vezes"))


def draw(results: dict, path: Path) -> None:
    """Accuracy against training time, mean and standard deviation over the seeds."""
    ours = [summarise(result["runs"])[0] for line, result in results.items() if line in RECIPES]
    rows = {
        ORIGINAL: summarise(results[ORIGINAL]["runs"]),
        "nossas receitas": sorted(ours, key=lambda row: row["seconds"][0]),
    }
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4.2))
        for (line, points), (colour, style) in zip(rows.items(), (("#777777", "o:"), (BLUE, "D-")), strict=True):
            seconds = [point["seconds"][0] for point in points]
            accuracy, spread = zip(*(point["accuracy"] for point in points), strict=True)
            axis.errorbar(seconds, accuracy, spread, fmt=style, color=colour, markersize=5, capsize=3, label=line)
        ticks = [2, 5, 10, 30, 60, 180, 720]
        axis.set(xscale="log", xlabel="tempo de treino (escala logarítmica)", ylabel="acurácia no teste")
        axis.set_title(f"dois núcleos, {machine.kind()}", fontsize=10)
        axis.set_xticks(ticks, [f"{t} s" if t < 60 else f"{t // 60} min" for t in ticks])
        axis.set_xticks([], minor=True)
        axis.yaxis.set_major_formatter(PERCENT)
        axis.axhline(0.75, color=BLACK, lw=0.8, ls=(0, (1, 4)))
        axis.grid(axis="y")
        axis.legend(loc="lower right")
        figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Run the lines named on the command line (all by default), all seeds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", nargs="*", metavar="line", help=f"{ORIGINAL}, {', '.join(RECIPES)}")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    everything = [ORIGINAL, *RECIPES]
    lines = options.lines or everything
    if unknown := set(lines) - set(everything):
        parser.error(f"não existe: {', '.join(sorted(unknown))}; existem: {', '.join(everything)}")
    data, stored = load_cifar10(machine.ROOT / "data"), machine.stored("time_to_accuracy")
    results = stored.setdefault(machine.kind(), {})
    for line in lines:
        if not still_true(results.get(line), line):
            results[line] = {"settings": settings_of(line), "runs": []}
    for seed in range(options.seeds):
        for line in lines:
            wanted = min(options.seeds, SEEDS.get(line, options.seeds))
            if len(results[line]["runs"]) <= seed < wanted:
                results[line]["runs"].append(train(line, data, seed))
                results[line]["machine"] = machine.describe()
                machine.save("time_to_accuracy", stored)
    if ORIGINAL in results:
        print(f"\n{machine.kind()}")
        print_table(results)
        draw(results, machine.ROOT / "docs" / "tempo.png")


if __name__ == "__main__":
    main()
