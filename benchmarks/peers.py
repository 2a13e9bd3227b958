"""What else one could train on the same machine: `python -m benchmarks.peers`.

Each network with its authors' own recipe, one seed, at most MINUTES: seconds of training until the validation accuracy
passed 55, 70, 75, 80, 85 and 90 %. Beside them this project's recipes, and the deeper network from which `destilado`
learns, trained our way. Validation is outside the others' clock and inside ours. Cut off, it goes on where it was.
Needs `pip install -e ".[peers]"`. Prints a table, writes benchmarks/peers.json and docs/vizinhos.png.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision import models, transforms

from benchmarks import machine
from benchmarks.time_to_accuracy import RECIPES, recipe_settings, train_ours
from classificador import ImageData, build, fit, load_cifar10, make_optimizer
from classificador.network.model_info import info_of
from classificador.network.teacher import Teacher
from classificador.recipes import TEACHER
from classificador.show.style import PERCENT, STYLE

MINUTES = 6  # with AVX2 alone the original takes five and a half to its best
TARGETS = (0.55, 0.70, 0.75, 0.80, 0.85, 0.90)
TEACHER_EPOCHS = 1  # what comes near that time on two cores, with a schedule made for it
Course = Iterator[tuple[float, float]]  # seconds of training so far, validation accuracy


class TutorialNet(nn.Module):
    """The network of PyTorch's tutorial "Training a Classifier" (2 epochs of SGD, batches of 4)."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


class Pictures(machine.Pictures):
    """The training images through other transforms."""

    def __init__(self, split, *steps):
        super().__init__(split)
        self.transform = transforms.Compose(
            [*steps, transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
        )


def sgd(data: ImageData, model: nn.Module, epochs: int, batch_size: int, *steps, **options) -> Course:
    """Training as tutorials do it: DataLoader, SGD, four entries an epoch."""
    torch.manual_seed(0)
    loader = DataLoader(Pictures(data.train, *steps), batch_size=batch_size, shuffle=True)
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), **options)
    seconds = 0.0
    for _ in range(epochs):
        batches = iter(loader)
        for _ in range(4):  # four entries an epoch
            started = time.perf_counter()
            machine.train_batches(model, criterion, optimizer, islice(batches, -(-len(loader) // 4)))
            seconds += time.perf_counter() - started
            yield seconds, machine.accuracy(model, data.val)


def tutorial(data: ImageData) -> Course:
    """PyTorch's CIFAR-10 tutorial."""
    yield from sgd(data, TutorialNet(), 2, 4, lr=0.001, momentum=0.9)


def resnet18(data: ImageData) -> Course:
    """torchvision's ResNet-18 with the stem for small images, and the usual crop, mirroring and SGD."""
    model = models.resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    steps = (transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip())
    yield from sgd(data, model, 200, 128, *steps, lr=0.1, momentum=0.9, weight_decay=5e-4)


def keras_small(data: ImageData) -> Course:
    """Keras' small convolutional network for CIFAR-10 (four convolutions, RMSprop, shifts and mirroring)."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    pixels = {
        name: (split.images.permute(0, 2, 3, 1).numpy().astype("float32") / 255, split.labels.numpy())
        for name, split in (("train", data.train), ("val", data.val))
    }
    block = [
        [layers.Conv2D(n, 3, padding="same", activation="relu"), layers.Conv2D(n, 3, activation="relu")]
        + [layers.MaxPooling2D(), layers.Dropout(0.25)]
        for n in (32, 64)
    ]
    augmentation = [layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"), layers.RandomFlip("horizontal")]
    head = [layers.Flatten(), layers.Dense(512, activation="relu"), layers.Dropout(0.5)]
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), *augmentation, *block[0], *block[1], *head, layers.Dense(10, activation="softmax")]
    )
    model.compile(keras.optimizers.RMSprop(1e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
    seconds = 0.0
    for _ in range(100):
        started = time.perf_counter()
        model.fit(*pixels["train"], batch_size=32, epochs=1, verbose=0)
        seconds += time.perf_counter() - started
        yield seconds, model.evaluate(*pixels["val"], batch_size=200, verbose=0)[1]


def deeper(data: ImageData) -> Course:
    """The teacher's network, seven convolutions, trained our way through fit(): an entry after each epoch."""
    settings = replace(TEACHER, epochs=TEACHER_EPOCHS, seed=0)
    model = build(replace(settings, symmetric=False), data, Teacher)
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "best.pth")
        history = fit(model, data, criterion, make_optimizer(model, settings), settings, path)
    if history.interrupted:
        raise SystemExit(128 + history.interrupted)
    yield from zip(history.seconds, history.val_accuracy, strict=True)


def recipe(line: str) -> Callable[[ImageData], Course]:
    """One of this project's recipes; only its end counts, for which its schedule is made."""

    def course(data: ImageData) -> Course:
        best, seconds = train_ours(data, line, recipe_settings(line, seed=0))
        yield seconds, info_of(best).val_accuracy

    return course


PEERS: dict[str, Callable[[ImageData], Course]] = {
    "tutorial do PyTorch": tutorial,
    "exemplo do Keras": keras_small,
    "ResNet-18": resnet18,
    "rede mais funda (professor)": deeper,
} | {line: recipe(line) for line in RECIPES if line != "completo"}


def draw(results: dict, path: Path) -> None:
    """Validation accuracy against seconds of training."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4.4))
        for name, course in results.items():
            if name not in RECIPES:
                axis.plot(*zip(*course, strict=True), "o-", markersize=3, label=name)
        points = sorted(tuple(course[-1]) for name, course in results.items() if name in RECIPES)
        axis.plot(*zip(*points, strict=True), "D-", color="black", label="nossas receitas")
        axis.set(xscale="log", xlabel="tempo de treino (escala logarítmica)", ylabel="acurácia na validação")
        ticks = [10, 30, 60, 180, 480, 960]
        axis.set_xticks(ticks, [f"{t} s" if t < 60 else f"{t // 60} min" for t in ticks])
        axis.set_xticks([], minor=True)
        axis.yaxis.set_major_formatter(PERCENT)
        axis.grid(axis="y")
        figure.legend(loc="outside upper center", ncols=3, fontsize=9)
        figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Train all that is missing and print the table."""
    data, stored = load_cifar10(machine.ROOT / "data"), machine.stored("peers")
    here, this = stored.get(machine.kind()), machine.describe()
    results = here["courses"] if here and here["machine"]["processor"] == this["processor"] else {}
    for name, train in PEERS.items():
        if name in results:
            continue
        course = []
        for entry in train(data):
            course.append(entry)
            print(f"{name}: {entry[0]:.0f} s, {entry[1]:.2%}", flush=True)
            if entry[0] > 60 * MINUTES:
                break
        results[name] = course
        stored[machine.kind()] = {"machine": this, "courses": results}
        machine.save("peers", stored)
    print(f"\n{machine.kind()}")
    print(f"{'segundos até (validação)':<30}" + "".join(f"{target:>8.0%}" for target in TARGETS) + f"{'melhor':>10}")
    for name, course in results.items():
        times = [next((seconds for seconds, accuracy in course if accuracy >= target), None) for target in TARGETS]
        best = max(accuracy for _, accuracy in course)
        print(f"{name:<30}" + "".join(f"{'—' if t is None else f'{t:.0f}':>8}" for t in times) + f"{best:>10.2%}")
    draw(results, machine.ROOT / "docs" / "vizinhos.png")


if __name__ == "__main__":
    main()
