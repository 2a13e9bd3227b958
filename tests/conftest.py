"""Fixtures shared by all tests."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from classificador.constants import CLASSES
from classificador.data.dataset import ImageData, Split, load_cifar10
from classificador.files.model_file import pack
from classificador.network.model_info import ModelInfo
from classificador.recipes import Settings, make_settings
from classificador.training.history import History

# Complete metadata of a checkpoint, for files that no training made.
INFO = {
    "preset": "rapido",
    "settings": {"epochs": 1},
    "classes": list(CLASSES),
    "epoch": 1,
    "val_accuracy": 0.5,
    "val_loss": 1.0,
    "seconds": 1.0,
    "history": {},
    "created": "2026-01-01T00:00:00+00:00",
    "versions": {"torch": "2.14.1"},
    "split": "teste",
    "precision": "float32",
}
ROOT = Path(__file__).resolve().parents[1]

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and what nohup runs with this one


def info_for(model: nn.Module, **changes) -> ModelInfo:
    """What a file of `model` would say, with other values for some facts."""
    return pack(model, INFO | changes).info


def runs_of(folder: Path) -> list[Path]:
    """The folders of runs beside a checkpoint in `folder`, oldest first."""
    return sorted(path.parent for path in (folder / "runs").glob("*/run.json"))


def write_pictures(root: Path, count: int = 20, **colours) -> Path:
    """A folder with a folder of pictures of nearly one colour for each class, no two of them the same."""
    for name, colour in colours.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            image = Image.new("RGB", (60, 50), colour)
            image.putpixel((number, 0), (255, 255, 255))
            image.save(root / name / f"{number}.png")
    return root


def noise(count: int, side: int = 32) -> torch.Tensor:
    """Images of random pixels, uint8."""
    return torch.randint(256, (count, 3, side, side), dtype=torch.uint8)


def model_of(partner: str, folder: Path) -> Path:
    """The model that the committed file `partner` speaks of: as committed, where only the model was trained anew."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True)

    retrained = git("diff", "--quiet", "HEAD", "--", "best_model.pth").returncode == 1
    if not (retrained and git("diff", "--quiet", "HEAD", "--", partner).returncode == 0):
        return ROOT / "best_model.pth"
    path = folder / "best_model.pth"
    path.write_bytes(git("show", "HEAD:best_model.pth").stdout)
    return path


@pytest.fixture(scope="session")
def cifar10() -> ImageData:
    """The real data set, from the repository's data folder; downloaded if it is not there."""
    return load_cifar10(ROOT / "data")


@pytest.fixture(scope="session")
def toy() -> ImageData:
    """Ten easily learnt classes: noise whose brightness and red channel depend on the class."""
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> Split:
        labels = torch.arange(n) % 10
        images = torch.randint(0, 60, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
        images += (labels * 15)[:, None, None, None].to(torch.uint8)
        images[:, 0] += ((labels % 3) * 20)[:, None, None].to(torch.uint8)
        return Split(images, labels)

    return ImageData(split(520), split(100), split(100))


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> str:
    """Photos of two classes: so easy that no mistake is left to show, and so alike that all are copies."""
    folder = tmp_path_factory.mktemp("fotos")
    for name, colour in (("céu", (90, 150, 255)), ("mato", (30, 120, 20))):
        (folder / name).mkdir()
        for number in range(24):
            Image.new("RGB", (80 + number, 60), colour).save(folder / name / f"{number}.png")
    return str(folder)


@pytest.fixture
def toy_as_cifar10(monkeypatch, toy) -> None:
    """The toy data in place of CIFAR-10."""
    monkeypatch.setattr("classificador.data.folders.load_cifar10", lambda root, source: toy)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Let a few pictures be an epoch; otherwise each is shown so often that they are a thousand."""
    monkeypatch.setattr("classificador.training.batches.SHOWN", 20)


@pytest.fixture
def small() -> Settings:
    """A network and a run of a second, with every random part of training switched on."""
    return make_settings(epochs=2, batch_size=64, channels=(4, 8), hidden=16, device="cpu")


def stop_at(batch: int, number: int = signal.SIGINT) -> Callable[[History], None]:
    """A `watch` for fit() that lets a signal arrive inside a batch, counted over the run, of fewer than 40 an epoch."""
    left = {batch}

    def watch(history: History) -> None:
        if len(history.steps) in left:
            left.clear()
            signal.raise_signal(number)

    return watch


@contextmanager
def stopped_when_written(name: str, number: int = signal.SIGINT) -> Iterator[None]:
    """While the block runs, let a signal arrive whenever a file of this name has been written."""
    replace = os.replace

    def stopping(source: Path, target: Path) -> None:
        replace(source, target)
        if target.name == name:
            signal.raise_signal(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", stopping)
        yield
