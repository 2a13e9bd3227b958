"""How fast predictions come: `python -m benchmarks.prediction`.

From 10 000 uint8 images in memory to labels: the original path (one PIL image at a time, ToTensor, Normalize,
DataLoader, eager network) against predict() with the original network, with a small network that is at least as
accurate (the recipe for 75 %), and with the shipped weights. All in turn, ROUNDS times;
medians. Then one picture on a warm model. Prints a table and writes benchmarks/prediction.json.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torch import nn

from benchmarks import machine
from benchmarks.time_to_accuracy import recipe_settings
from classificador import (
    ImageData,
    build,
    fit,
    load_cifar10,
    load_model,
    make_optimizer,
    predict,
    predict_image,
)

ROUNDS, PICTURES = 7, 200


def seconds(function: Callable) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def train_small(data: ImageData, folder: Path) -> nn.Module:
    """The network of the recipe for 75 %, trained from seed 0, ready to predict."""
    settings = recipe_settings("alvo 75%", seed=0)
    model, criterion = build(settings, data), nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    fit(model, data, criterion, make_optimizer(model, settings), settings, folder / "model.pth")
    return load_model(folder / "model.pth")


def main() -> None:
    """Train the two small networks, time all paths in turn and print the table."""
    data = load_cifar10(machine.ROOT / "data")
    shipped = load_model(machine.ROOT / "best_model.pth")
    with tempfile.TemporaryDirectory() as folder:
        small = train_small(data, Path(folder))
        *_, (old, _) = machine.train_original(data, seed=0)
        original = machine.FromPixels(old)
        images, right = data.test.images, {}

        def measure_ours(name: str, model: nn.Module) -> None:
            right[name] = (predict(model, images).argmax(1) == data.test.labels).sum().item()

        def measure_old(name: str) -> None:
            right[name] = machine.original_accuracy(old, data.test) * len(images)

        paths = {
            "original: PIL, DataLoader": measure_old,
            "original: predict()": lambda name: measure_ours(name, original),
            "rede de 75%: predict()": lambda name: measure_ours(name, small),
            "best_model.pth": lambda name: measure_ours(name, shipped),
        }
        times: dict[str, list[float]] = {name: [] for name in paths}
        for round_number in range(ROUNDS + 1):
            for name, path in paths.items():
                took = seconds(lambda path=path, name=name: path(name))
                if round_number:  # the first is a warm-up
                    times[name].append(took)
        picture = Path(folder, "foto.png")
        Image.fromarray(images[0].permute(1, 2, 0).numpy()).save(picture)
        single = {
            "uma imagem: predict()": [1000 * seconds(lambda: predict(shipped, images[:1])) for _ in range(PICTURES)],
            "um arquivo: predict_image()": [
                1000 * seconds(lambda: predict_image(shipped, picture)) for _ in range(PICTURES)
            ],
        }
    base = next(iter(times.values()))
    rows = {
        name: {
            "seconds": statistics.median(took),
            "times_faster": statistics.median(old / new for old, new in zip(base, took, strict=True)),
            "accuracy": right[name] / len(images),
        }
        for name, took in times.items()
    }
    print(f"\n{'10.000 imagens':<28}{'segundos':>10}{'vezes':>8}{'acurácia':>11}")
    for name, row in rows.items():
        print(f"{name:<28}{row['seconds']:>10.3f}{row['times_faster']:>8.1f}{row['accuracy']:>11.2%}")
    medians = {name: statistics.median(took[PICTURES // 10 :]) for name, took in single.items()}
    for name, took in medians.items():
        print(f"{name:<28}{took:>7.2f} ms")
    machine.save(
        "prediction",
        {
            "model": machine.describe_shipped(),
            "machine": machine.describe(),
            "rows": rows,
            "milliseconds_one_picture": medians,
        },
    )


if __name__ == "__main__":
    main()
