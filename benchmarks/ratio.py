"""How many times sooner than the original recipe's best the fast recipes are done: `python -m benchmarks.ratio`.

In some two minutes: one epoch of the original recipe, in thirds, and between them one run of each fast
recipe. The original needs as many epochs to its best as benchmarks/time_to_accuracy.json says. What the recipes reach
on the test set, over five seeds, is there too; here a run's validation accuracy shows that it went as usual.
"""

import json
import time
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from benchmarks import machine
from benchmarks.time_to_accuracy import best_of_original, train_ours
from classificador import load_cifar10
from classificador.network.cnn import OriginalCNN
from classificador.network.model_info import info_of
from classificador.portuguese import number, percent

TARGETS = {"85%": "alvo 85%", "80%": "alvo 80%", "75%": "alvo 75%"}


def main() -> None:
    """Time both sides in turn and print a line a target."""
    data = load_cifar10(machine.ROOT / "data")
    stored = json.loads(Path(__file__).with_name("time_to_accuracy.json").read_text(encoding="utf-8"))
    epochs, best = best_of_original(stored)
    torch.manual_seed(0)
    model, loader = OriginalCNN(), machine.original_loader(data.train, shuffle=True)
    optimizer, batches = torch.optim.Adam(model.parameters(), lr=1e-3), iter(loader)
    third, took, epoch = -(-len(loader) // len(TARGETS)), {}, 0.0
    for target, line in TARGETS.items():
        started = time.perf_counter()
        machine.train_batches(model, nn.CrossEntropyLoss(), optimizer, islice(batches, third))
        epoch += time.perf_counter() - started
        trained, took[target] = train_ours(data, line, seed=0)
        info = info_of(trained)
        print(f"{line}: {number(took[target], 1)} s, validação {percent(info.val_accuracy)}, {info.precision}")
    print(
        f"original: {number(epoch, 1)} s por época, {epochs} épocas até o seu melhor ({percent(best['accuracy'][0])})"
    )
    for target in TARGETS:
        print(f"{target}: {number(epochs * epoch / took[target], 1)} vezes")


if __name__ == "__main__":
    main()
