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


def time_paths(data: ImageData, shipped: nn.Module, folder: Path) -> dict[str, dict[str, float]]:
    """Train the two small networks and time all paths from the test images to labels, in turn."""
    small = train_small(data, folder)
    *_, (old, _) = machine.train_original(data, seed=0)
    images = data.test.images

    def ours(model: nn.Module) -> Callable[[], float]:
        return lambda: (predict(model, images).argmax(1) == data.test.labels).double().mean().item()

    paths = {
        "original: PIL, DataLoader": lambda: machine.original_accuracy(old, data.test),
        "original: predict()": ours(machine.FromPixels(old)),
        "rede de 75%: predict()": ours(small),
        "best_model.pth": ours(shipped),
    }
    accuracy = {name: path() for name, path in paths.items()}  # and a warm-up
    times: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(ROUNDS):
        for name, path in paths.items():
            times[name].append(seconds(path))
    base = next(iter(times.values()))
    return {
        name: {
            "seconds": statistics.median(took),
            "times_faster": statistics.median(old / new for old, new in zip(base, took, strict=True)),
            "accuracy": accuracy[name],
        }
        for name, took in times.items()
    }


def time_one_picture(data: ImageData, shipped: nn.Module, folder: Path) -> dict[str, float]:
    """Median milliseconds for one image in memory, and for one in a file, on a warm model."""
    images, picture = data.test.images, folder / "foto.png"
    Image.fromarray(images[0].permute(1, 2, 0).numpy()).save(picture)
    ways: dict[str, Callable] = {
        "uma imagem: predict()": lambda: predict(shipped, images[:1]),
        "um arquivo: predict_image()": lambda: predict_image(shipped, picture),
    }
    took = {name: [1000 * seconds(way) for _ in range(PICTURES)] for name, way in ways.items()}
    return {name: statistics.median(times[PICTURES // 10 :]) for name, times in took.items()}


def main() -> None:
    """Measure and print the tables."""
    data, shipped = load_cifar10(machine.ROOT / "data"), load_model(machine.ROOT / "best_model.pth")
    with tempfile.TemporaryDirectory() as folder:
        rows, single = time_paths(data, shipped, Path(folder)), time_one_picture(data, shipped, Path(folder))
    print(f"\n{'10.000 imagens':<28}{'segundos':>10}{'vezes':>8}{'acurácia':>11}")
    for name, row in rows.items():
        print(f"{name:<28}{row['seconds']:>10.3f}{row['times_faster']:>8.1f}{row['accuracy']:>11.2%}")
    for name, took in single.items():
        print(f"{name:<28}{took:>7.2f} ms")
    about = {"model": machine.describe_shipped(), "machine": machine.describe()}
    machine.save("prediction", about | {"rows": rows, "milliseconds_one_picture": single})


if __name__ == "__main__":
    main()
