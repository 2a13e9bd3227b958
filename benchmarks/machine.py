"""What the measurements share: the machine they ran on, where results are kept, and the original recipe."""

import json
import os
import platform
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from classificador.dataset import Split
from classificador.device import choose_device, describe_device
from classificador.model_file import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]


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


def original_network() -> nn.Sequential:
    """The original recipe's network, written as tutorials write it; its input is normalised already."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(4096, 512), nn.ReLU(), nn.Dropout(0.25), nn.Linear(512, 10)),
    )


@torch.no_grad()
def original_accuracy(model: nn.Module, split: Split) -> float:
    """Accuracy as a fraction, measured as the original recipe does: picture by picture through the loader."""
    model.eval()
    right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in original_loader(split, False))
    model.train()
    return right / len(split)


def describe() -> dict[str, str | int]:
    """The machine and the versions a figure was measured with, and this process's largest memory so far."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "device": describe_device(choose_device()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": str(torch.__version__),
    } | _peak_memory()


def _peak_memory() -> dict[str, int]:
    """Empty on Windows, whose Python has no such figure; on macOS it comes in bytes."""
    try:
        import resource
    except ImportError:
        return {}
    unit = 1 << (20 if sys.platform == "darwin" else 10)
    return {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)}


def describe_shipped() -> dict[str, str | float]:
    """Which best_model.pth a figure was measured with: its recipe, validation accuracy and date."""
    info = read_checkpoint(ROOT / "best_model.pth")["info"]
    return {name: info[name] for name in ("preset", "val_accuracy", "created")}


def save(script: str, results: dict) -> None:
    """Write the results of benchmarks/<script>.py to the JSON file beside it."""
    path = Path(__file__).with_name(f"{script}.json")
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
