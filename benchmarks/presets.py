"""Accuracy and training time of presets over several seeds: `python -m benchmarks.presets rapido original --seeds 5`.

Prints a table and writes benchmarks/presets.json. The time is that of build() and fit(), validation included; the test
set is measured once a run, with the best weights by validation.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from classificador import CNN, build, evaluate, fit, load_cifar10, load_model, make_optimizer, make_settings
from classificador.device import choose_device, describe_device

RESULTS = Path(__file__).with_suffix(".json")


def train_once(preset: str, seed: int, data) -> dict:
    """Train one preset from one seed; return its time and its validation and test accuracy."""
    settings = make_settings(preset, seed=seed)
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "best_model.pth")
        started = time.perf_counter()
        model = build(settings, data, CNN)
        fit(model, data, criterion, make_optimizer(model, settings), settings, checkpoint)
        seconds = time.perf_counter() - started
        best = load_model(checkpoint)
    single, flip = (evaluate(best, data.test, data.classes, flip=flip) for flip in (False, True))
    return {
        "preset": preset,
        "seed": seed,
        "seconds": seconds,
        "val_accuracy": best.info["val_accuracy"],
        "test_accuracy": single.accuracy,
        "test_macro_f1": float(single.macro[2]),
        "test_accuracy_flip": flip.accuracy,
    }


def summarise(runs: list[dict]) -> str:
    """One table line of a preset: mean ± standard deviation over its seeds."""
    columns = []
    for key in ("test_accuracy", "test_accuracy_flip", "test_macro_f1", "seconds"):
        values = [run[key] * (1 if key == "seconds" else 100) for run in runs]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        columns.append(f"{statistics.mean(values):6.2f} ± {spread:4.2f}")
    return f"{runs[0]['preset']:<10} n={len(runs)}  " + "   ".join(columns)


def main() -> None:
    """Run the presets named on the command line, all seeds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    data = load_cifar10(Path(__file__).resolve().parents[1] / "data")
    runs = []
    for seed in range(options.seeds):  # the presets take turns, so that a slow minute of the machine hits them alike
        runs += [train_once(preset, seed, data) for preset in options.presets]
    print(f"\n{describe_device(choose_device())}, torch {torch.__version__}")
    print("preset             test %          test % + flip   macro F1 %      seconds")
    for preset in options.presets:
        print(summarise([run for run in runs if run["preset"] == preset]))
    machine = {
        "device": describe_device(choose_device()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": str(torch.__version__),
    }
    RESULTS.write_text(json.dumps({"machine": machine, "runs": runs}, indent=2))


if __name__ == "__main__":
    main()
