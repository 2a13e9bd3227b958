"""What the measurements share: the machine they ran on, where results are kept, and the original recipe."""

import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from classificador.data.dataset import ImageData, Split
from classificador.device import choose_device, describe_device, instructions, precision
from classificador.files.model_file import read_checkpoint
from classificador.network.cnn import OriginalCNN
from classificador.results.predict import predict_logits

ROOT = Path(__file__).resolve().parents[1]
ORIGINAL_EPOCHS = 8


class Pictures(Dataset):
    """A split as the original recipe reads it: one PIL image at a time, through ToTensor and Normalize."""

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])

    def __init__(self, split: Split):
        self.images = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = split.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def original_loader(split: Split, shuffle: bool) -> DataLoader:
    """The original recipe's batches of 64."""
    return DataLoader(Pictures(split), batch_size=64, shuffle=shuffle)


def train_original(data: ImageData, seed: int) -> Iterator[tuple[nn.Module, float]]:
    """The original recipe: after each of its eight epochs, the network and the seconds of training so far.

    Its learning rate is constant: the end of each epoch is the end of a run of that length.
    """
    torch.manual_seed(seed)
    model, criterion = OriginalCNN(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader, seconds = original_loader(data.train, shuffle=True), 0.0
    for _ in range(ORIGINAL_EPOCHS):
        started = time.perf_counter()
        train_batches(model, criterion, optimizer, loader)
        seconds += time.perf_counter() - started
        yield model, seconds


def train_batches(model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable) -> None:
    """The training step as tutorials write it, for each of the batches."""
    for images, labels in batches:
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class FromPixels(nn.Module):
    """The original network behind this project's interface: uint8 images, N×3×32×32, in; logits, N×10, out."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise and answer."""
        return self.network((images / 255 - 0.5) / 0.5)


@torch.no_grad()
def original_accuracy(model: nn.Module, split: Split) -> float:
    """Accuracy as a fraction, measured as the original recipe does: picture by picture through the loader."""
    model.eval()
    right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in original_loader(split, False))
    model.train()
    return right / len(split)


def accuracy(model: nn.Module, split: Split) -> float:
    """The same without pictures and loader, for where no clock runs."""
    return (predict_logits(FromPixels(model), split.images).argmax(1) == split.labels).double().mean().item()


def kind() -> str:
    """The kind of processor a figure is told for, "AVX2, float32" for example."""
    return f"{instructions()}, {precision(torch.device('cpu'))}"


def describe() -> dict[str, str | int | None]:
    """The machine and the versions a figure was measured with, and this process's largest memory so far."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "device": describe_device(choose_device()),
        "kind": kind(),
        "torch": str(torch.__version__),
    } | _peak_memory()


def _peak_memory() -> dict[str, str | int | None]:
    """Empty on Windows, whose Python has no such figure; on macOS it comes in bytes."""
    try:
        import resource
    except ImportError:
        return {}
    unit = 1 << (20 if sys.platform == "darwin" else 10)
    return {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)}


def describe_shipped() -> dict[str, str | float]:
    """Which best_model.pth a figure was measured with: its recipe, validation accuracy and date."""
    info = read_checkpoint(ROOT / "best_model.pth").info
    return {name: getattr(info, name) for name in ("preset", "val_accuracy", "created")}


def stored(script: str) -> dict:
    """The results that benchmarks/<script>.py wrote so far; empty where it has not."""
    path = Path(__file__).with_name(f"{script}.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def save(script: str, results: dict) -> None:
    """Write the results of benchmarks/<script>.py to the JSON file beside it."""
    path = Path(__file__).with_name(f"{script}.json")
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
