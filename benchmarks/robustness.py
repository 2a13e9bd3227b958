"""How far the shipped model's score holds: `python -m benchmarks.robustness`.

Calibration and warnings on the test set, the share of near-duplicates in it and the accuracy without them, and the
accuracy under damage. Prints them, writes benchmarks/robustness.json and docs/robustez.png.
"""

import torch

from benchmarks import machine
from classificador import evaluate, load_cifar10, load_model
from classificador.network.model_info import info_of
from classificador.results.metrics import calibration_error
from classificador.results.predict import uncalibrated
from classificador.results.robustness import accuracy_when_damaged, near_duplicates, robustness_table
from classificador.show import figures


def main() -> None:
    """Measure best_model.pth on the test set."""
    model, data = load_model(machine.ROOT / "best_model.pth"), load_cifar10(machine.ROOT / "data")
    report = evaluate(model, data.test, data.classes)
    raw = uncalibrated(report.probabilities, info_of(model).temperature)
    known = torch.cat([data.train.images, data.val.images])
    copies = near_duplicates(data.test.images, known).numpy()
    right = report.predictions == report.labels
    results = {
        "calibration_error": {
            "uncalibrated": calibration_error(raw, report.labels),
            "calibrated": calibration_error(report.probabilities, report.labels),
        },
        "warned": float((report.probabilities.max(1) < info_of(model).doubt_below).mean()),
        "near_duplicates": int(copies.sum()),
        "accuracy": {"all": right.mean(), "near_duplicates": right[copies].mean(), "others": right[~copies].mean()},
    }
    for name, value in results.items():
        print(name, value)
    damaged = accuracy_when_damaged(model, data.test)
    print(robustness_table(damaged))
    figures.robustness(damaged, report.accuracy).savefig(machine.ROOT / "docs" / "robustez.png", dpi=110)
    about = {"model": machine.describe_shipped(), "machine": machine.describe()}
    machine.save("robustness", about | results | {"damaged": damaged})


if __name__ == "__main__":
    main()
