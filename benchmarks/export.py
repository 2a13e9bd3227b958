"""How fast the exported model answers: `python -m benchmarks.export`.

The shipped network as it is (eager), compiled by torch.compile, and in ONNX Runtime, on batches of 1 and 256 images;
all in turn, ROUNDS times; medians. Prints a table and writes benchmarks/export.json.
"""

import statistics
import time
from collections.abc import Callable

import onnxruntime
import torch

from benchmarks import machine
from classificador import load_cifar10, load_model
from classificador.apps.export import Probabilities, as_onnx, describe
from classificador.device import keep_freed_memory

ROUNDS = {1: 400, 256: 25}


def milliseconds(function: Callable, images: torch.Tensor) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    function(images)
    return 1000 * (time.perf_counter() - started)


@torch.no_grad()
def main() -> None:
    """Time all ways in turn and print the table."""
    keep_freed_memory()
    model = load_model(machine.ROOT / "best_model.pth").to(memory_format=torch.channels_last)  # as predict() does
    images, facts = load_cifar10(machine.ROOT / "data").test.images, describe(model)
    eager = Probabilities(model).eval()
    ways: dict[str, Callable] = {
        "eager": eager,
        "torch.compile": torch.compile(Probabilities(model).eval(), dynamic=False),
        "ONNX Runtime": as_onnx(eager, facts)[1],
    }
    rows: dict[str, dict[str, float]] = {name: {} for name in ways}
    for batch, rounds in ROUNDS.items():
        took: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 3):
            for name, way in ways.items():
                spent = milliseconds(way, images[number * batch : (number + 1) * batch])
                if number >= 3:  # the first are warm-ups; the very first compiles
                    took[name].append(spent)
        for name in ways:
            rows[name][f"milliseconds_{batch}"] = statistics.median(took[name])
            ratios = [old / new for old, new in zip(took["eager"], took[name], strict=True)]
            rows[name][f"times_faster_{batch}"] = statistics.median(ratios)
    print(f"\n{'':<16}{'1 imagem':>12}{'vezes':>8}{'256 imagens':>14}{'vezes':>8}")
    for name, row in rows.items():
        print(
            f"{name:<16}{row['milliseconds_1']:>9.2f} ms{row['times_faster_1']:>8.2f}"
            f"{row['milliseconds_256']:>11.1f} ms{row['times_faster_256']:>8.2f}"
        )
    versions = {"onnxruntime": onnxruntime.__version__}
    machine.save(
        "export", {"model": machine.describe_shipped(), "machine": machine.describe() | versions, "rows": rows}
    )


if __name__ == "__main__":
    main()
