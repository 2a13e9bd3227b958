"""Compare settings on the validation split: `python -m benchmarks.search rapido epochs=1 channels=24x64,32x96`.

Every combination of the values given, a few seeds each, in turn; the test set stays closed. Prints a table, the best
accuracy first. Mind the noise: on 5000 images a run has a standard error of about 0.5 points by itself.
"""

import argparse
import ast
import itertools
import statistics
import tempfile
import time
from pathlib import Path

from torch import nn

from benchmarks import machine
from classificador import build, fit, load_cifar10, load_model, make_optimizer, make_settings
from classificador.network.model_info import info_of


def parse(value: str) -> object:
    """A setting's value as written on the command line: 0.01, 24x64 (a pair), True."""
    return tuple(int(part) for part in value.split("x")) if "x" in value else ast.literal_eval(value)


def train(settings, data) -> tuple[float, float]:
    """Validation accuracy (a fraction) of the best epoch, and seconds of training."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        model = build(settings, data)
        criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
        history = fit(model, data, criterion, make_optimizer(model, settings), settings, Path(folder, "best.pth"))
        seconds = time.perf_counter() - started
        if history.interrupted:
            raise SystemExit(128 + history.interrupted)  # half a run is no result
        best = load_model(Path(folder, "best.pth"))
    return info_of(best).val_accuracy, seconds


def main() -> None:
    """Run every combination and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset")
    parser.add_argument("values", nargs="*", metavar="setting=value,value")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    pairs = (text.split("=") for text in options.values)
    grid = {name: [parse(value) for value in values.split(",")] for name, values in pairs}
    cases = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    data = load_cifar10(machine.ROOT / "data")
    results: list[list[tuple[float, float]]] = [[] for _ in cases]
    for seed in range(options.seeds):
        for case, runs in zip(cases, results, strict=True):
            runs.append(train(make_settings(options.preset, seed=seed, **case), data))
            print(f"semente {seed}, {case}: {runs[-1][0]:.2%}", flush=True)
    print(f"\n{'validação %':>12}{'segundos':>10}   (n = {options.seeds})")
    for runs, case in sorted(zip(results, cases, strict=True), key=lambda pair: -sum(run[0] for run in pair[0])):
        accuracy, seconds = (statistics.mean(column) for column in zip(*runs, strict=True))
        print(f"{100 * accuracy:>12.2f}{seconds:>10.1f}   {case}")


if __name__ == "__main__":
    main()
