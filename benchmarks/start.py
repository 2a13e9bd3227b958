"""What starting from trained weights is worth for one's own classes: `python -m benchmarks.start`.

For each pair of CIFAR-10's classes in PAIRS a network of the recipe `rapido` learns the other eight. Then the pair is
learnt from a few of its pictures, as a user's own two classes, from new weights and from that network's; 15 % of the
pictures validate, as of a folder. At side 64 the pictures are CIFAR-10's own, enlarged. Prints, for each number of
pictures a class and each side, the accuracy on the pair's 2 000 test images, mean and standard deviation over the
pairs; writes benchmarks/start.json.
"""

import statistics
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import machine
from benchmarks.unknown import without
from classificador import build, fit, load_cifar10, load_model, make_optimizer, make_settings
from classificador.data.dataset import ImageData, Split
from classificador.data.folders import HELD_OUT
from classificador.results.predict import predict_logits

PAIRS = ((3, 5), (0, 8), (4, 7), (1, 9), (2, 6))  # cat and dog, plane and ship, deer and horse…
COUNTS, SIDES = (10, 30, 100, 300, 1000), (32, 64)


def few(data: ImageData, pair: tuple[int, int], count: int, side: int) -> ImageData:
    """A data set of the two classes with so many pictures each to train and validate with, and all to test with."""
    random = torch.Generator().manual_seed(count)
    parts: dict[str, list[torch.Tensor]] = {"train": [], "val": [], "test": []}
    for label in pair:
        rows = (data.train.labels == label).nonzero().flatten()
        chosen = rows[torch.randperm(len(rows), generator=random)[:count]]
        held_out = max(1, round(HELD_OUT * count))
        parts["val"].append(data.train.images[chosen[:held_out]])
        parts["train"].append(data.train.images[chosen[held_out:]])
        parts["test"].append(data.test.images[data.test.labels == label])
    train, val, test = (_labelled(part, side) for part in parts.values())
    return ImageData(train, val, test, tuple(data.classes[label] for label in pair))


def _labelled(classes: list[torch.Tensor], side: int) -> Split:
    images = torch.cat(classes)
    if side != images.shape[-1]:
        larger = F.interpolate(images.float(), (side, side), mode="bicubic")
        images = larger.round().clamp(0, 255).to(torch.uint8)
    sizes = torch.tensor([len(part) for part in classes])
    return Split(images, torch.arange(len(classes)).repeat_interleave(sizes))


def train(data: ImageData, folder: str, start: nn.Module | None = None) -> nn.Module:
    """The best network of a run of the recipe `rapido` on these data."""
    path, settings = Path(folder, "model.pth"), make_settings()
    model, criterion = (
        build(settings, data, pretrained=start),
        nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing),
    )
    fit(model, data, criterion, make_optimizer(model, settings), settings, path)
    return load_model(path)


def accuracy(model: nn.Module, split: Split) -> float:
    """Fraction of right answers."""
    return (predict_logits(model, split.images).argmax(1) == split.labels).double().mean().item()


def main() -> None:
    """Measure every pair and print the table."""
    data = load_cifar10(machine.ROOT / "data")
    results: list[dict] = []
    for pair in PAIRS:
        with tempfile.TemporaryDirectory() as folder:
            start = train(without(data, pair)[0], folder)
            for side in SIDES:
                for count in COUNTS:
                    own = few(data, pair, count, side)
                    row = {"pair": own.classes, "side": side, "count": count}
                    for name, begun in (("new", None), ("trained", start)):
                        row[name] = accuracy(train(own, folder, begun), own.test)
                    results.append(row)
                    machine.save("start", {"machine": machine.describe(), "results": results})
    print(f"\n{'lado':>4}{'imagens por classe':>20}{'do zero':>16}{'de pesos treinados':>20}{'ganho':>16}")
    for side in SIDES:
        for count in COUNTS:
            rows = [row for row in results if (row["side"], row["count"]) == (side, count)]
            columns = [[row[name] for row in rows] for name in ("new", "trained")]
            columns.append([after - before for before, after in zip(*columns, strict=True)])
            texts = [f"{100 * statistics.mean(c):.1f} ± {100 * statistics.stdev(c):.1f}" for c in columns]
            print(f"{side:>4}{count:>20}{texts[0]:>16}{texts[1]:>20}{texts[2]:>16}")


if __name__ == "__main__":
    main()
