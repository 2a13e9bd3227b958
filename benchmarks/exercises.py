"""What comes out of the notebook's exercises: `python -m benchmarks.exercises`.

Each as its answer says, with the recipe relampago; validation accuracy of the best epoch, three seeds, the exercises in
turn. Cut off, it goes on where it was. Prints a table and writes benchmarks/exercises.json; a test compares the
notebook's figures with it.
"""

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import machine
from classificador import CNN, ImageData, build, fit, load_cifar10, make_optimizer, make_settings
from classificador.errors import DivergenceError
from classificador.network.cnn import contrast, max_and_mean


class ThreeConvolutions(CNN):
    """With a third convolution after the second."""

    def __init__(self, channels=(64, 192), kernels=(5, 3), pools=(3, 3), hidden=256, classes=10, side=32):
        super().__init__(channels, kernels, pools, hidden, classes, side)
        self.conv3 = nn.Conv2d(channels[1], channels[1], 3, padding="same", bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """As CNN, with one more step."""
        x = F.relu(contrast(F.max_pool2d(self.conv1((images / 255 - 0.5) / 0.5), self.pools[0])))
        x = self.conv3(F.relu(self.conv2(x)))
        x = F.relu(self.norm2(max_and_mean(x, self.pools[1])))
        return self.fc2(F.relu(self.norm3(self.fc1(x.flatten(1)))))


class WithoutNormalisation(CNN):
    """Without both batch normalisations."""

    def __init__(self, channels=(64, 192), kernels=(5, 3), pools=(3, 3), hidden=256, classes=10, side=32):
        super().__init__(channels, kernels, pools, hidden, classes, side)
        self.norm2 = self.norm3 = nn.Identity()  # type: ignore[assignment]


# Changes of the recipe; "few": how many training images; "shuffled": their labels; "network": the class.
EXERCISES: dict[str, dict[str, Any]] = {
    "como está": {},
    "sem espelho": {"symmetric": False},
    "hidden=32": {"hidden": 32},
    "500 imagens": {"few": 500, "epochs": 20},
    "lr dez vezes maior": {"lr": 0.1},
    "rótulos embaralhados": {"shuffled": True},
    "terceira convolução": {"network": ThreeConvolutions},
    "sem normalização": {"network": WithoutNormalisation},
    "sem normalização, lr dez vezes maior": {"network": WithoutNormalisation, "lr": 0.1},
    "terceira convolução, 8 épocas": {"network": ThreeConvolutions, "epochs": 8},
    "como está, 8 épocas": {"epochs": 8},
}


def run(data: ImageData, name: str, seed: int) -> dict[str, float]:
    """Do an exercise; return the validation accuracy of the best epoch, and the training accuracy of the last.

    Both are 0 where the training diverged.
    """
    changes = dict(EXERCISES[name])
    few, shuffled = changes.pop("few", None), changes.pop("shuffled", False)
    network = changes.pop("network", CNN)
    train = data.train[:few]
    if shuffled:
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        train = replace(train, labels=train.labels[order])
    settings, data = make_settings("relampago", seed=seed, **changes), replace(data, train=train)
    model, criterion = build(settings, data, network), nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    with tempfile.TemporaryDirectory() as folder:
        try:
            history = fit(model, data, criterion, make_optimizer(model, settings), settings, Path(folder, "best.pth"))
        except DivergenceError:
            return {"val_accuracy": 0.0, "train_accuracy": 0.0}
    if history.interrupted:
        raise SystemExit(128 + history.interrupted)
    return {"val_accuracy": max(history.val_accuracy), "train_accuracy": history.train_accuracy[-1]}


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    data, stored = load_cifar10(machine.ROOT / "data"), machine.stored("exercises")
    results = {name: stored.get(name, []) for name in EXERCISES}
    for seed in range(seeds):
        for name in EXERCISES:
            if len(results[name]) == seed:
                results[name].append(run(data, name, seed))
                machine.save("exercises", results)
    for name, runs in results.items():
        val, train = ([100 * one[key] for one in runs] for key in ("val_accuracy", "train_accuracy"))
        spread = statistics.stdev(val) if len(val) > 1 else float("nan")
        means = f"{statistics.mean(val):.1f} ± {spread:.1f} %; in training {statistics.mean(train):.1f} %"
        print(f"{name:<38} n = {len(runs)}  {means}")


if __name__ == "__main__":
    main()
