"""What each idea of the network is worth: `python -m benchmarks.ideas`.

The plain network of the notebook, then one idea more in each line, all trained with the first IMAGES training images
for EPOCHS epochs; accuracy on the validation images, mean and standard deviation over the seeds. Cut off, it goes on
where it was. The seconds of an epoch are measured with one seed more, the lines in turn, a few batches each.
Writes classificador/show/ideas.json, which the notebook draws.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import machine
from classificador import ImageData, Symmetric, load_cifar10
from classificador.network.build import whiten
from classificador.network.cnn import contrast, max_and_mean
from classificador.results.predict import predict_logits
from classificador.show.lesson import IDEAS
from classificador.training.batches import augment, draw_moves
from classificador.training.trainer import lr_factor

IMAGES, EPOCHS, BATCH, SEEDS = 10_000, 10, 64, 5
SHIFT = 2  # pixels
LR, PEAK = (
    1e-3,
    3e-3,
)  # constant, Adam's default; and where it rises and falls (1e-3 to 1e-2 tried, one seed, all ideas)
TIMED = 40  # batches of a line at a time, for the seconds of an epoch
# Each line of the table has all ideas down to its own.
LADDER = [
    "rede simples",
    "imagens alteradas",
    "taxa que sobe e cai",
    "normalização em lote",
    "branqueamento",
    "contraste",
    "máximo e média",
    "espelho",
]


class Ladder(nn.Module):
    """The plain network with some of the ideas; images of N×3×32×32, uint8, in, and logits, N×10, out."""

    def __init__(self, ideas: list[str]):
        super().__init__()
        self.ideas, norms = ideas, "normalização em lote" in ideas
        self.kinds = 2 if "máximo e média" in ideas else 1
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias="branqueamento" not in ideas)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(64 * self.kinds) if norms else nn.Identity()
        self.fc1, self.fc2 = nn.Linear(64 * self.kinds * 8 * 8, 512), nn.Linear(512, 10)
        self.norm3 = nn.BatchNorm1d(512) if norms else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pooling stands before the activation, which gives the same maximum and is cheaper."""
        x = F.max_pool2d(self.conv1((images / 255 - 0.5) / 0.5), 2)
        x = F.relu(contrast(x) if "contraste" in self.ideas else x)
        x = self.conv2(x)
        x = max_and_mean(x, 2) if self.kinds == 2 else F.max_pool2d(x, 2)
        x = F.relu(self.norm3(self.fc1(F.relu(self.norm2(x)).flatten(1))))
        return self.fc2(x)


def train(data: ImageData, ideas: list[str], seed: int) -> Iterator[nn.Module]:
    """Train with some of the ideas, and yield the model after each batch."""
    torch.manual_seed(seed)
    generator, network = torch.Generator().manual_seed(seed), Ladder(ideas)
    if "branqueamento" in ideas and whiten(network.conv1, data.train.images):
        network.conv1.requires_grad_(False)
    model = Symmetric(network) if "espelho" in ideas else network
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=LR)
    images, labels, total = data.train.images[:IMAGES], data.train.labels[:IMAGES], EPOCHS * (IMAGES // BATCH)
    step = 0
    while step < total:
        for rows in torch.randperm(IMAGES, generator=generator).split(BATCH)[: IMAGES // BATCH]:
            batch = images[rows].contiguous(memory_format=torch.channels_last)  # as augment() gives them
            if "imagens alteradas" in ideas:
                mirrored = torch.randint(2, (BATCH,), generator=generator) > 0
                batch = augment(batch, draw_moves(BATCH, SHIFT, generator), mirrored)
            if "taxa que sobe e cai" in ideas:
                optimizer.param_groups[0]["lr"] = PEAK * lr_factor(step, total)
            loss = criterion(model.train()(batch), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            yield model


def accuracy(data: ImageData, ideas: list[str], seed: int) -> float:
    """The share of the validation images that the model knows after the last epoch."""
    *_, model = train(data, ideas, seed)
    return (predict_logits(model, data.val.images).argmax(1) == data.val.labels).double().mean().item()


def epoch_seconds(data: ImageData) -> dict[str, float]:
    """The seconds of an epoch of each line: the median of five rounds, in which all lines take turns."""
    runs = {line: train(data, LADDER[: place + 1], SEEDS) for place, line in enumerate(LADDER)}
    times: dict[str, list[float]] = {line: [] for line in LADDER}
    for _ in range(6):
        for line, run in runs.items():
            started = time.perf_counter()
            for _ in range(TIMED):
                next(run)
            times[line].append((time.perf_counter() - started) * (IMAGES // BATCH) / TIMED)
    return {line: statistics.median(values[1:]) for line, values in times.items()}  # the first round is slower


def main() -> None:
    """Run what is missing, or only what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--seconds", action="store_true", help="only measure the seconds of an epoch anew")
    options = parser.parse_args()
    data = load_cifar10(machine.ROOT / "data")
    results = json.loads(IDEAS.read_text(encoding="utf-8")) if IDEAS.exists() else {}
    asked = {"images": IMAGES, "epochs": EPOCHS, "batch": BATCH, "lr": [LR, PEAK], "shift": SHIFT, "ladder": LADDER}
    if results.get("settings") != asked:
        results = {"settings": asked, "accuracy": {line: [] for line in LADDER}}

    def save() -> None:
        IDEAS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    for seed in range(0 if options.seconds else options.seeds):
        for place, line in enumerate(LADDER):
            if len(results["accuracy"][line]) == seed:
                results["accuracy"][line].append(accuracy(data, LADDER[: place + 1], seed))
                print(f"{line:<22} semente {seed}: {results['accuracy'][line][-1]:.2%}", flush=True)
                save()
    results |= {"seconds": epoch_seconds(data), "machine": machine.describe()}
    save()
    for line, values in results["accuracy"].items():
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        mean, seconds = 100 * statistics.mean(values), results["seconds"][line]
        print(f"{line:<22} n = {len(values)}  {mean:.2f} ± {100 * spread:.2f} %  {seconds:.1f} s a época")


if __name__ == "__main__":
    main()
