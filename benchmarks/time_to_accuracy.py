"""Seconds of training to 70, 75, 80, 85 and 88 % test accuracy: `python -m benchmarks.time_to_accuracy`.

Lines: the original recipe as it was (one PIL image at a time), the same with this project's data path, and one recipe a
target, planned for it. Every seed of every line in turn, so that a slow minute of the machine hits all alike. The clock
starts with the data in memory and includes whitening, augmentation, validation and saving for our recipes, and training
alone for the original, whose learning rate is constant: each of its epochs is the end of a run of that length.
Prints a table, writes benchmarks/time_to_accuracy.json and docs/tempo.png. Cut off, it goes on where it was; a line
whose settings changed, or that was measured on another processor, is measured anew.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

from benchmarks import machine
from classificador import CNN, build, evaluate, fit, load_cifar10, load_model, make_optimizer, make_settings
from classificador.plots import BLACK, BLUE, ORANGE, PERCENT, STYLE

ORIGINAL, IN_MEMORY = "original", "original em memória"
# Runs of seconds: pooling by 3 leaves the second convolution 10×10 positions instead of 16×16, and no time to shift.
FAST = {"kernels": (3, 3), "pools": (3, 3), "shift": 0}
# Chosen on the validation split, where such runs score up to a point more than on the test set.
RECIPES = {
    "alvo 70%": ("rapido", FAST | {"epochs": 1, "channels": (24, 48), "batch_size": 64}),
    "alvo 75%": ("rapido", FAST | {"epochs": 2, "channels": (28, 80)}),
    "alvo 80%": ("rapido", FAST | {"epochs": 5, "channels": (32, 128), "shift": 1}),
    "rapido": ("rapido", {}),
    "completo": ("completo", {}),
}
TARGETS = (0.70, 0.75, 0.80, 0.85, 0.88)


def train_original(data, seed: int) -> list[dict]:
    """The original recipe: one entry an epoch with the seconds of training so far and the test accuracy."""
    torch.manual_seed(seed)
    model, criterion = machine.original_network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader, entries, seconds = machine.original_loader(data.train, shuffle=True), [], 0.0
    for _ in range(8):
        started = time.perf_counter()
        for images, labels in loader:
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds += time.perf_counter() - started
        entries.append({"seconds": seconds, "accuracy": machine.original_accuracy(model, data.test)})
    return entries


def train_ours(data, seed: int, preset: str, changes: dict, every_epoch: bool = False) -> list[dict]:
    """A recipe of ours through build() and fit(): the entry of its end; with every_epoch, one for each epoch."""
    settings = make_settings(preset, seed=seed, **changes)
    criterion, snapshots = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing), []

    def watch(history) -> None:
        if every_epoch and len(history.val_loss) > len(snapshots):
            snapshots.append((history.seconds[-1], copy.deepcopy(model)))  # evaluated later, outside the clock

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        model = build(settings, data, CNN)
        history = fit(
            model, data, criterion, make_optimizer(model, settings), settings, Path(folder, "best.pth"), watch
        )
        seconds = time.perf_counter() - started
        if history.interrupted:
            raise SystemExit(128 + history.interrupted)  # half a run is no result
        best = load_model(Path(folder, "best.pth"))
    if every_epoch:
        return [
            {"seconds": seconds, "accuracy": evaluate(copied, data.test, data.classes).accuracy}
            for seconds, copied in snapshots
        ]
    single, tta = (evaluate(best, data.test, data.classes, tta=tta) for tta in (False, True))
    return [
        {
            "seconds": seconds,
            "accuracy": single.accuracy,
            "accuracy_tta": tta.accuracy,
            "macro_f1": float(single.macro[2]),
            "val_accuracy": best.info["val_accuracy"],
        }
    ]


def train(line: str, data, seed: int) -> list[dict]:
    """One run of a line of the table."""
    if line == ORIGINAL:
        return train_original(data, seed)
    if line == IN_MEMORY:
        return train_ours(data, seed, "original", {}, every_epoch=True)
    return train_ours(data, seed, *RECIPES[line])


def settings_of(line: str) -> dict:
    """The settings of a line, as the JSON file keeps them; empty for the original, which has none of ours."""
    if line == ORIGINAL:
        return {}
    preset, changes = ("original", {}) if line == IN_MEMORY else RECIPES[line]
    return make_settings(preset, **changes).to_dict()


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
            row[key] = (statistics.mean(values), statistics.stdev(values) if len(values) > 1 else float("nan"))
        rows.append(row)
    return rows


def reached(rows: list[dict], target: float) -> float | None:
    """Mean seconds of the shortest run whose mean accuracy is at or above the target."""
    return next((row["seconds"][0] for row in rows if row["accuracy"][0] >= target), None)


def print_table(results: dict) -> None:
    """The lines with n, accuracy, time; then the seconds to each target."""
    summaries = {line: summarise(result["runs"]) for line, result in results.items()}
    print(f"\n{'receita':<21}{'n':>3}{'teste %':>15}{'com TTA %':>15}{'F1 macro %':>15}{'segundos':>16}")
    for line, rows in summaries.items():
        best = max(rows, key=lambda row: row["accuracy"][0])
        cells = [
            f"{100 * best[key][0]:.2f} ± {100 * best[key][1]:.2f}" if key in best else "—"
            for key in ("accuracy", "accuracy_tta", "macro_f1")
        ]
        seconds = f"{best['seconds'][0]:.1f} ± {best['seconds'][1]:.1f}"
        name = f"{line:<21}{len(results[line]['runs']):>3}"
        print(name + "".join(f"{cell:>15}" for cell in cells) + f"{seconds:>16}")
    ours = sorted((rows[0] for line, rows in summaries.items() if line in RECIPES), key=lambda row: row["seconds"][0])
    print(f"\nsegundos até (visão única){'':<5}" + "".join(f"{target:>9.0%}" for target in TARGETS))
    named = {line: summaries.get(line, []) for line in (ORIGINAL, IN_MEMORY)} | {"nossas receitas": ours}
    for line, rows in named.items():
        times = [reached(rows, target) for target in TARGETS]
        print(f"{line:<31}" + "".join(f"{'—' if t is None else f'{t:.1f}':>9}" for t in times))
    if summaries.get(ORIGINAL):
        best = max(summaries[ORIGINAL], key=lambda row: row["accuracy"][0])
        accuracy, seconds, fast = best["accuracy"][0], best["seconds"][0], reached(ours, 0.75)
        print(f"\nmelhor do original: {accuracy:.2%} em {seconds:.0f} s", end="")
        print(f"; 75% em {fast:.1f} s: {seconds / fast:.0f} vezes mais rápido" if fast else "")


def draw(results: dict, path: Path) -> None:
    """Accuracy against training time, mean and standard deviation over the seeds."""
    looks = {ORIGINAL: ("#777777", "o:"), IN_MEMORY: (ORANGE, "s--"), "nossas receitas": (BLUE, "D-")}
    rows = {line: summarise(results[line]["runs"]) for line in (ORIGINAL, IN_MEMORY) if line in results}
    ours = [summarise(result["runs"])[0] for line, result in results.items() if line in RECIPES]
    rows["nossas receitas"] = sorted(ours, key=lambda row: row["seconds"][0])
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4.2))
        for line, points in rows.items():
            colour, style = looks[line]
            seconds = [point["seconds"][0] for point in points]
            accuracy, spread = zip(*(point["accuracy"] for point in points), strict=True)
            axis.errorbar(seconds, accuracy, spread, fmt=style, color=colour, markersize=5, capsize=3, label=line)
        ticks = [2, 5, 10, 30, 60, 180, 720]
        axis.set(xscale="log", xlabel="tempo de treino (escala logarítmica)", ylabel="acurácia no teste, visão única")
        axis.set_xticks(ticks, [f"{t} s" if t < 60 else f"{t // 60} min" for t in ticks])
        axis.set_xticks([], minor=True)
        axis.yaxis.set_major_formatter(PERCENT)
        axis.axhline(0.75, color=BLACK, lw=0.8, ls=(0, (1, 4)))
        axis.grid(axis="y")
        axis.legend(loc="lower right")
        figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Run the lines named on the command line (all but `completo` by default), all seeds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    everything = [ORIGINAL, IN_MEMORY, *RECIPES]
    parser.add_argument("lines", nargs="*", metavar="line", help=", ".join(everything))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    lines = options.lines or everything[:-1]
    if unknown := set(lines) - set(everything):
        parser.error(f"não existe: {', '.join(sorted(unknown))}; existem: {', '.join(everything)}")
    data = load_cifar10(machine.ROOT / "data")
    path = Path(__file__).with_suffix(".json")
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for line in lines:
        if not still_true(results.get(line), line):
            results[line] = {"settings": settings_of(line), "runs": []}
    for seed in range(options.seeds):
        for line in lines:
            if seed >= len(results[line]["runs"]):
                results[line]["runs"].append(train(line, data, seed))
                results[line]["machine"] = machine.describe()
                machine.save("time_to_accuracy", results)
    print_table(results)
    draw(results, machine.ROOT / "docs" / "tempo.png")


if __name__ == "__main__":
    main()
