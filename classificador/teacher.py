"""The teacher from which the recipe `destilado` learns: a deeper network, trained here on the training images alone.

`python -m classificador professor` trains it into `professor.pth`.
"""

import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from classificador.assemble import make_network
from classificador.dataset import ImageData
from classificador.device import autocast, memory_format
from classificador.errors import CheckpointError
from classificador.model_file import load_model
from classificador.settings import Settings
from classificador.whitening import whiten

SOFTENING = 3.0  # what its logits are divided by: at 1 its answers to images it learnt are little more than labels


class Teacher(nn.Module):
    """Seven convolutions and a linear layer, after airbench94 (Jordan 2024, arXiv 2404.00498), wider: 333M products."""

    def __init__(self, widths=(128, 384, 512), classes=10, side=32):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 2, bias=False)  # twelve whitening filters and their negatives
        sizes = [24, *widths]
        self.blocks = nn.Sequential(*(_block(before, after) for before, after in zip(sizes, widths, strict=False)))
        self.linear = nn.Linear(widths[-1], classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, N×classes, for images of N×3×side×side (uint8, or float in [0, 1])."""
        x = images / 255 if images.dtype == torch.uint8 else images
        x = self.blocks(F.relu(self.conv1((x - 0.5).div_(0.5))))
        return self.linear(x.amax((2, 3)))


def _block(before: int, after: int) -> nn.Sequential:
    first, second = (nn.Conv2d(size, after, 3, padding=1, bias=False) for size in (before, after))
    for conv in (first, second):
        nn.init.dirac_(conv.weight[: conv.in_channels])
    return nn.Sequential(
        first, nn.MaxPool2d(2), nn.BatchNorm2d(after), nn.ReLU(), second, nn.BatchNorm2d(after), nn.ReLU()
    )


def build_teacher(settings: Settings, data: ImageData) -> Teacher:
    """Return a teacher with this run's reproducible starting weights, its first layer fixed to whitening filters."""
    torch.manual_seed(settings.seed)
    teacher = make_network(Teacher, classes=len(data.classes), side=data.train.images.shape[-1])
    whiten(teacher.conv1, data.train.images)
    return teacher


def load_teacher(path: str, data: ImageData, device: torch.device) -> Teacher:
    """Return the teacher saved in `path`, on `device`; its attribute `facts` tells it from others.

    data: that the student learns. Raises CheckpointError when there is none, or one of other classes or another side.
    """
    if not Path(path).exists():
        raise CheckpointError(f"Falta o professor ({path}). Treine-o antes: `python -m classificador professor`.")
    teacher = load_model(path, Teacher)
    if teacher.info.classes != tuple(data.classes):
        raise CheckpointError(f"O professor em {path} conhece outras classes que as destas imagens. Treine outro.")
    if (learnt := teacher.info.side) != (side := data.train.images.shape[-1]):
        raise CheckpointError(f"O professor em {path} aprendeu com imagens de {learnt} pixels; estas têm {side}.")
    total = 0
    for weight in teacher.state_dict().values():
        total = zlib.crc32(weight.contiguous().numpy(), total)
    teacher.facts = {"crc32": f"{total:08x}", "val_accuracy": teacher.info.val_accuracy}
    return teacher.to(device=device, memory_format=memory_format(device))


@torch.no_grad()
def soft_targets(teacher: Teacher, images: torch.Tensor) -> torch.Tensor:
    """Return the teacher's softened probabilities for images as the network sees them, float32 N×classes."""
    with autocast(images.device):
        logits = teacher(images)
    return (logits.float() / SOFTENING).softmax(1)
