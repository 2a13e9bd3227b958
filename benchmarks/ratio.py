"""How many times sooner than the original recipe's best the fast recipes are done: `python -m benchmarks.ratio`.

In one to three minutes: half an epoch of the original recipe, in thirds, and between them a run of each fast recipe, of
the longest one epoch, which counts as often as it has epochs. How many epochs the original needs to its best, and what
the recipes reach on the test set, both over several seeds, benchmarks/time_to_accuracy.json says; the validation
accuracy of a whole run here shows that it went as usual.
"""

import time
from dataclasses import replace
from itertools import islice

import torch
from torch import nn

from benchmarks import machine
from benchmarks.time_to_accuracy import ORIGINAL, best_of_original, recipe_settings, train_ours
from classificador import load_cifar10
from classificador.network.cnn import OriginalCNN
from classificador.network.model_info import info_of
from classificador.portuguese import number, percent

TARGETS = {"85%": "alvo 85%", "80%": "relampago", "75%": "alvo 75%"}
LONG = "alvo 85%"  # of which one epoch is run


def main() -> None:
    """Time both sides in turn and print a line a target."""
    data, stored = load_cifar10(machine.ROOT / "data"), machine.stored("time_to_accuracy")
    measured = {kind: lines for kind, lines in stored.items() if ORIGINAL in lines}
    epochs, best = best_of_original(measured.get(machine.kind()) or next(iter(measured.values())))
    torch.manual_seed(0)
    model, loader = OriginalCNN(), machine.original_loader(data.train, shuffle=True)
    optimizer, batches = torch.optim.Adam(model.parameters(), lr=1e-3), iter(loader)
    share, took, epoch = len(loader) // (2 * len(TARGETS)), {}, 0.0
    for target, line in TARGETS.items():
        started = time.perf_counter()
        machine.train_batches(model, nn.CrossEntropyLoss(), optimizer, islice(batches, share))
        epoch += (time.perf_counter() - started) * len(loader) / (len(TARGETS) * share)
        settings = recipe_settings(line, seed=0)
        run = replace(settings, epochs=1) if line == LONG else settings
        trained, seconds = train_ours(data, line, run)
        took[target] = seconds * settings.epochs / run.epochs
        of_all = f"{run.epochs} de {settings.epochs} épocas, {number(seconds, 1)} s"
        print(f"{line}: {of_all}, validação {percent(info_of(trained).val_accuracy)}")
    print(
        f"original: {number(epoch, 1)} s por época, {epochs} épocas até o seu melhor ({percent(best['accuracy'][0])})"
    )
    print(f"processador: {machine.kind()}, {torch.get_num_threads()} threads")
    for target in TARGETS:
        print(f"{target}: {number(epochs * epoch / took[target], 1)} vezes")


if __name__ == "__main__":
    main()
