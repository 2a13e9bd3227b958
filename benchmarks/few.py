"""What thirty photos of one's own are worth, beside plain baselines: `python -m benchmarks.few`.

Nine small data sets are made here from what is at hand: digits, textures, shapes, symbols, noise, and pictures of
CIFAR-10 with networks that never saw them (but for the animals). Each method learns from the same 10, 20 or 40 pictures
a class, and answers to some 500 fresh ones. The baselines are scikit-learn's with their defaults; "ours" is what
the project does with all of them (training/few.py), and "told" the accuracy that it tells its user, of its
cross-validation; "epochs" what it does with more pictures, and did with few: the recipe `rapido` from the trained
weights, on the 70 % that it does not hold out. Prints one table of accuracies for each number of pictures, mean and
standard deviation over the draws; writes benchmarks/few.json. Options: `--counts 10 20 40 --draws 3 4 5 --seeds 0 1 2
--methods "raw LR" ours --sets digits shapes --cache DIRECTORY --name few`. Needs
`pip install -e ".[few]"`: scikit-image, for HOG.
"""

import argparse
import contextlib
import io
import math
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits, load_sample_image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from benchmarks import machine
from benchmarks.unknown import without
from classificador import build, fit, load_cifar10, load_model, make_optimizer, make_settings
from classificador.data.dataset import ImageData, Split
from classificador.network.cnn import unwrap
from classificador.network.model_info import info_of, set_info
from classificador.results.predict import predict_logits

TEST = 500  # fresh pictures of each data set, or nearly
SIDE, FINE = 32, 4  # pixels; how much finer drawings are made before they are scaled down


@dataclass(frozen=True)
class Task:
    """A small data set, whether a mirror image of its pictures is of the same class, and the network it starts from."""

    train: Split
    test: Split
    symmetric: bool
    start: nn.Module


@cache
def photos() -> list[Image.Image]:
    """The two sample photos of scikit-learn."""
    return [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]


def patch(rng: random.Random) -> Image.Image:
    """A random square of one of the photos, 32×32."""
    photo, size = rng.choice(photos()), rng.randint(32, 160)
    left, top = rng.randint(0, photo.width - size), rng.randint(0, photo.height - size)
    return photo.crop((left, top, left + size, top + size)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def colour(rng: random.Random, low: int = 0, high: int = 255) -> tuple[int, int, int]:
    """A random colour between the two brightnesses."""
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def contrasting(rng: random.Random, ground: Image.Image) -> tuple[int, int, int]:
    """A random colour that is not that of the picture's middle."""
    mean = np.asarray(ground).mean((0, 1))
    while True:
        drawn = colour(rng)
        if abs(np.asarray(drawn) - mean).sum() > 150:
            return drawn


def paint(ground: Image.Image, ink: tuple[int, int, int], mask: Image.Image) -> np.ndarray:
    """The picture with that colour where the mask says."""
    ground = ground.copy()
    ground.paste(ink, mask=mask.resize(ground.size, Image.Resampling.BOX))
    return np.asarray(ground)


def paper(rng: random.Random) -> Image.Image:
    """A light sheet with a little noise."""
    light = np.array(colour(rng, 190, 250)) + np.random.default_rng(rng.getrandbits(32)).normal(0, 4, (SIDE, SIDE, 3))
    return Image.fromarray(light.clip(0, 255).astype("uint8"))


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's handwritten digits, 8×8 from 0 to 16, and which they are."""
    found = load_digits()
    return found.images, found.target


def digit(label: int, is_test: bool, rng: random.Random, sizes: tuple[int, int]) -> Image.Image:
    """The mask of one of the first or of the last digits of that kind, of random size at a random place."""
    images, targets = digits()
    rows = np.flatnonzero(targets == label)
    half = len(rows) // 2
    row = rng.choice(rows[half:] if is_test else rows[:half])
    size = rng.randint(*sizes)
    small = Image.fromarray((images[row] / 16 * 255).astype("uint8")).resize((size, size), Image.Resampling.BICUBIC)
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(small, (rng.randint(0, SIDE - size), rng.randint(0, SIDE - size)))
    return mask


def digit_on_photo(label: int, is_test: bool, rng: random.Random) -> np.ndarray:
    """A digit of random size, place and colour on a patch of a photo."""
    ground = patch(rng)
    return paint(ground, contrasting(rng, ground), digit(label, is_test, rng, (16, 30)))


def digit_on_paper(label: int, is_test: bool, rng: random.Random) -> np.ndarray:
    """A dark digit on light paper."""
    return paint(paper(rng), colour(rng, 0, 90), digit(label, is_test, rng, (20, 30)))


REGIONS = (  # photo, left, top, right, bottom
    (0, 80, 150, 340, 360),  # the pagoda
    (0, 340, 295, 570, 427),  # bushes
    (0, 0, 335, 280, 427),  # trees
    (1, 180, 95, 440, 345),  # petals
    (0, 100, 40, 320, 150),  # the roof
)


def texture(label: int, is_test: bool, rng: random.Random) -> np.ndarray:
    """A square of the left half of a region of a photo, or to test with of its right half, with other light."""
    photo, left, top, right, bottom = REGIONS[label]
    middle = (left + right) // 2
    left, right = (middle, right) if is_test else (left, middle)
    size = rng.randint(20, min(48, bottom - top))
    x, y = rng.randint(left, right - size), rng.randint(top, bottom - size)
    square = photos()[photo].crop((x, y, x + size, y + size)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(square).astype(float)
    grey = pixels.mean(2, keepdims=True)
    pixels = grey + rng.uniform(0, 0.5) * (pixels - grey)
    pixels = (pixels - pixels.mean()) * rng.uniform(0.5, 1.2) + rng.uniform(70, 180)
    return pixels.clip(0, 255).astype("uint8")


def polygon(corners: int, radius: float, turn: float, inner: float = 1.0) -> list[tuple[float, float]]:
    """The corners of a regular polygon around the origin, every second one pulled inwards."""
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    radii = [radius * (inner if i % 2 else 1.0) for i in range(corners)]
    return [(r * math.sin(a), -r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]


def shape(label: int, is_test: bool, rng: random.Random) -> np.ndarray:
    """A circle, square, triangle or star, of random size, place, turn and colour, on a patch of a photo."""
    radius, turn = rng.uniform(5, 13), rng.uniform(-0.3, 0.3)
    x, y = rng.uniform(radius, SIDE - radius), rng.uniform(radius, SIDE - radius)
    points = [
        polygon(60, radius, turn),
        polygon(4, radius, turn + math.pi / 4),
        polygon(3, radius, turn),
        polygon(10, radius, turn, 0.42),
    ][label]
    mask, ground = Image.new("L", (SIDE * FINE, SIDE * FINE)), patch(rng)
    ImageDraw.Draw(mask).polygon([(FINE * (x + a), FINE * (y + b)) for a, b in points], fill=255)
    return paint(ground, contrasting(rng, ground), mask)


RING = [(0.8 * math.sin(2 * math.pi * i / 12), 0.8 * math.cos(2 * math.pi * i / 12)) for i in range(13)]
SYMBOLS: tuple[list[list[tuple[float, float]]], ...] = (  # strokes through points from -1 to 1
    [[(-1, 0), (1, 0)], [(0, -1), (0, 1)]],  # +
    [[(-0.8, -0.8), (0.8, 0.8)], [(-0.8, 0.8), (0.8, -0.8)]],  # x
    [[(-1, -1), (1, -1)], [(0, -1), (0, 1)]],  # T
    [[(-0.8, -1), (-0.8, 1), (0.8, 1)]],  # L
    [RING],  # o
)


def symbol(label: int, is_test: bool, rng: random.Random) -> np.ndarray:
    """A drawn symbol: shaky strokes of varying thickness, in any ink on any light paper."""
    size, thickness = rng.uniform(5, 13), rng.uniform(1, 4)
    turn, squeeze = rng.uniform(-0.25, 0.25), rng.uniform(0.7, 1.3)
    x, y = rng.uniform(size, SIDE - size), rng.uniform(size, SIDE - size)
    mask = Image.new("L", (SIDE * FINE, SIDE * FINE))
    draw = ImageDraw.Draw(mask)
    for stroke in SYMBOLS[label]:
        shaken = [(a * squeeze + rng.gauss(0, 0.08), b + rng.gauss(0, 0.08)) for a, b in stroke]
        turned = [(a * math.cos(turn) - b * math.sin(turn), a * math.sin(turn) + b * math.cos(turn)) for a, b in shaken]
        line = [(FINE * (x + size * a), FINE * (y + size * b)) for a, b in turned]
        draw.line(line, fill=255, width=round(FINE * thickness), joint="curve")
    return paint(paper(rng), colour(rng, 0, 150), mask)


def noise(label: int, is_test: bool, rng: random.Random) -> np.ndarray:
    """White noise, or the same a little smoothed, of varying contrast and mean."""
    random_ = np.random.default_rng(rng.getrandbits(32))
    pixels = random_.normal(0, 1, (SIDE, SIDE, 3))
    if label:
        weight = rng.uniform(0.15, 0.5)
        pixels = pixels + weight * (np.roll(pixels, 1, 0) + np.roll(pixels, 1, 1))
        pixels /= pixels.std()
    pixels = pixels * rng.uniform(3, 30) + np.array(colour(rng, 60, 200))
    return pixels.clip(0, 255).astype("uint8")


DRAWN: dict[str, tuple[Callable[[int, bool, random.Random], np.ndarray], int, bool]] = {  # classes; mirrored alike?
    "digits": (digit_on_photo, 5, False),
    "plain digits": (digit_on_paper, 5, False),
    "textures": (texture, 5, True),
    "shapes": (shape, 4, True),
    "symbols": (symbol, 5, False),
    "noise": (noise, 2, True),
}
PAIRS = {"cat, dog": (3, 5), "plane, ship": (0, 8)}
ANIMALS = (2, 3, 4, 7)  # bird, cat, deer, horse
SETS = (*DRAWN, *PAIRS, "animals")


def drawn(name: str, count: int, draw: int) -> tuple[Split, Split, bool]:
    """So many pictures a class to learn from, and those to test with; more pictures are those of fewer, and others."""
    make, classes, symmetric = DRAWN[name]
    splits = []
    for is_test, each in ((False, count), (True, TEST // classes)):
        images = []
        for label in range(classes):
            rng = random.Random(f"{name} {draw} {is_test} {label}")
            images += [make(label, is_test, rng) for _ in range(each)]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        splits.append(Split(pixels, torch.arange(classes).repeat_interleave(each)))
    return splits[0], splits[1], symmetric


def chosen(pool: Split, test: Split, classes: tuple[int, ...], count: int, draw: int) -> tuple[Split, Split]:
    """So many random pictures of each of these classes of `pool`, and others of `test`, which may be the same."""
    rows: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for label in classes:
        for index, split in enumerate((pool, test)):
            own = (split.labels == label).nonzero().flatten()
            order = own[torch.randperm(len(own), generator=torch.Generator().manual_seed(draw))]
            rows[index].append(order[:count] if index == 0 else order[-TEST // len(classes) :])
    labels = torch.arange(len(classes))
    first, second = (torch.cat(part) for part in rows)
    return (
        Split(pool.images[first], labels.repeat_interleave(count)),
        Split(test.images[second], labels.repeat_interleave(len(second) // len(classes))),
    )


@cache
def cifar() -> ImageData:
    """CIFAR-10."""
    return load_cifar10(machine.ROOT / "data")


@cache
def shipped() -> nn.Module:
    """The network that the project ships."""
    return load_model(machine.ROOT / "best_model.pth")


def accuracy(model: nn.Module, split: Split) -> float:
    """Fraction of right answers."""
    return (predict_logits(model, split.images).argmax(1) == split.labels).double().mean().item()


@cache
def never_saw(pair: tuple[int, int], folder: Path) -> nn.Module:
    """A network of the recipe `rapido` for the other eight classes, kept in `folder`."""
    path = folder / f"rapido-{pair[0]}-{pair[1]}.pth"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as inside:
            fit_recipe(without(cifar(), pair)[0], Path(inside, "model.pth"))
            shutil.copy(Path(inside, "model.pth"), path)
    return load_model(path)


def make_task(name: str, count: int, draw: int, folder: Path) -> Task:
    """The data set of that name with so many pictures a class, the draw-th time."""
    if name in DRAWN:
        return Task(*drawn(name, count, draw), shipped())
    data = cifar()
    if name in PAIRS:
        pair = PAIRS[name]
        return Task(*chosen(data.train, data.test, pair, count, draw), True, never_saw(pair, folder))
    return Task(*chosen(data.test, data.test, ANIMALS, count, draw), True, shipped())


def pixels(split: Split) -> np.ndarray:
    """The pixels of each picture in a row, from 0 to 1."""
    return split.images.flatten(1).numpy() / 255


def hog(split: Split) -> np.ndarray:
    """Histograms of oriented gradients, of the sizes that are scikit-image's defaults: of six tried the best."""
    from skimage.feature import hog as of_one

    return np.stack([of_one(image, channel_axis=-1) for image in split.images.permute(0, 2, 3, 1).numpy()])


@torch.no_grad()
def answers(network: nn.Module, split: Split, layer: str) -> np.ndarray:
    """What conv2 answers, its maximum and mean over the whole picture ("conv2"), or what fc2 would read ("fc1")."""
    found: list[torch.Tensor] = []
    inside: Any = unwrap(network).eval()
    module = inside.conv2 if layer == "conv2" else inside.fc2
    hook = module.register_forward_hook(
        lambda module, given, answer: found.append(answer if layer == "conv2" else given[0])
    )
    for part in split.images.split(250):
        inside(part)
    hook.remove()
    if layer == "conv2":
        found = [torch.cat([one.amax((2, 3)), one.mean((2, 3))], 1) for one in found]
    return torch.cat(found).float().numpy()


def score(model, features: Callable[[Split], np.ndarray], task: Task) -> float:
    """The share of right answers of a model of scikit-learn."""
    model.fit(features(task.train), task.train.labels.numpy())
    return float(model.score(features(task.test), task.test.labels.numpy()))


def logistic():
    """Logistic regression on scaled features."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def as_data(split: Split, part: float = 0.15) -> ImageData:
    """The pictures split as those of a folder are: of each class 15 % to validate with, and 15 % to test with."""
    rows: list[list[torch.Tensor]] = [[], [], []]
    for label in split.labels.unique():
        own = (split.labels == label).nonzero().flatten()
        held = max(1, round(part * len(own)))
        for index, some in enumerate((own[2 * held :], own[:held], own[held : 2 * held])):
            rows[index].append(some)
    parts = [Split(split.images[torch.cat(some)], split.labels[torch.cat(some)]) for some in rows]
    classes = tuple(f"class {label}" for label in range(int(split.labels.max()) + 1))
    return ImageData(parts[0], parts[1], parts[2], classes)


def fit_recipe(data: ImageData, path: Path, start: nn.Module | None = None, **changes: Any) -> float:
    """Train as the project does with these data, into `path`; return the accuracy that it tells its user."""
    settings = make_settings(**changes)
    model = build(settings, data, pretrained=start)
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    history = fit(model, data, criterion, make_optimizer(model, settings), settings, path)
    return history.val_accuracy[history.best]


def ours(task: Task, seed: int, few: bool) -> tuple[float, float]:
    """What the project does with a folder of these pictures, and the accuracy that it tells its user.

    few: as it does now, or as before, with a training in epochs on 70 % of them.
    """
    data = replace(as_data(task.train), few=few)
    if few:
        data = replace(data, train=data.train + data.test)
    set_info(task.start, replace(info_of(task.start), start="outra"))  # as find_start() would
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder, "m.pth")
        told = fit_recipe(data, path, task.start, seed=seed, symmetric=task.symmetric)
        return accuracy(load_model(path), task.test), told


METHODS: dict[str, Callable[[Task, int], dict[str, float]]] = {
    "raw LR": lambda task, seed: {"raw LR": score(LogisticRegression(max_iter=1000), pixels, task)},
    "raw SVC": lambda task, seed: {"raw SVC": score(SVC(), pixels, task)},
    "HOG SVC": lambda task, seed: {"HOG SVC": score(SVC(), hog, task)},
    "gp LR": lambda task, seed: {"gp LR": score(logistic(), lambda split: answers(task.start, split, "conv2"), task)},
    "fc1 LR": lambda task, seed: {"fc1 LR": score(logistic(), lambda split: answers(task.start, split, "fc1"), task)},
    "epochs": lambda task, seed: {"epochs": ours(task, seed, few=False)[0]},
    "ours": lambda task, seed: dict(zip(("ours", "told"), ours(task, seed, few=True), strict=True)),
}
SEEDED = ("ours",)  # the others have nothing to draw, or take long
RIVALS = ("raw LR", "HOG SVC", "gp LR")


def show(results: list[dict], count: int, names: list[str]) -> None:
    """Print the table for so many pictures a class."""
    print(f"\n{count} a class".ljust(15) + "".join(f"{name:>14}" for name in names))
    rows = [row for row in results if row["count"] == count]
    for kind in [*dict.fromkeys(row["set"] for row in rows), "mean"]:
        texts = []
        for name in names:
            values = [100 * row[name] for row in rows if kind in (row["set"], "mean") and name in row]
            spread = statistics.stdev(values) if kind != "mean" and len(values) > 1 else None
            mean = f"{statistics.mean(values):.1f}" if values else "–"
            texts.append(f"{mean} ± {spread:.1f}" if spread is not None else mean)
        print(f"{kind:<14}" + "".join(f"{text:>14}" for text in texts), flush=True)


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--draws", type=int, nargs="+", default=[3, 4, 5])  # on 0 to 2 the recipe was chosen
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--cache", type=Path, default=Path("runs/few"))
    parser.add_argument("--name", default="few")
    return parser.parse_args()


def main() -> None:
    """Measure each method on each data set, and print the tables."""
    asked = options()
    results: list[dict] = []
    for count in asked.counts:
        for name in asked.sets:
            for draw in asked.draws:
                task = make_task(name, count, draw, asked.cache)
                row: dict = {"set": name, "count": count, "draw": draw, "seconds": {}, "runs": {}}
                for method in asked.methods:
                    started, seeds = time.perf_counter(), asked.seeds if method in SEEDED else [0]
                    found = [METHODS[method](task, seed) for seed in seeds]
                    row["seconds"][method] = (time.perf_counter() - started) / len(seeds)
                    row["runs"] |= {one: [run[one] for run in found] for one in found[0]}
                    row |= {one: statistics.mean(row["runs"][one]) for one in found[0]}
                results.append(row)
        show(results, count, [name for name in (*METHODS, "told") if name in results[-1]])
        machine.save(asked.name, {"machine": machine.describe(), "results": results})


if __name__ == "__main__":
    main()
