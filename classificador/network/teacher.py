"""The teacher from which the recipe `destilado` learns: a deeper network, trained here on the training images alone.

`python -m classificador professor` trains it into `professor.pth`.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Teacher(nn.Module):
    """Seven convolutions and a linear layer, after airbench94 (Jordan 2024, arXiv 2404.00498), but wider.

    333 million multiply-adds an image.
    """

    fingerprint: dict[str, str | float]  # of its file, once load_teacher() read it: tells it from others

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
