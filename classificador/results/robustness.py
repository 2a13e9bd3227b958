"""How far to trust a score: test images that the training set nearly holds, and images worse than CIFAR-10's."""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import functional as transforms

from classificador.data.dataset import Split
from classificador.data.groups import SAME, directions
from classificador.portuguese import percent
from classificador.results.predict import predict


def _noisy(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """The uint8 images with the same noise whenever asked; sigma: of values between 0 and 1."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (255 * (images / 255 + sigma * noise).clamp(0, 1)).round().to(torch.uint8)


def _as_jpeg(images: torch.Tensor, quality: float) -> torch.Tensor:
    """The uint8 images after Pillow wrote and read each; quality: 1 to 95."""
    damaged = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=int(quality))
        damaged.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(damaged)


# Five kinds of damage at five strengths each, after Hendrycks and Dietterich 2019 (CIFAR-10-C), but made here: figures
# published for that data set are not comparable.
DAMAGES: dict[str, tuple[Callable[[torch.Tensor, float], torch.Tensor], tuple[float, ...]]] = {
    "ruído (desvio)": (_noisy, (0.02, 0.04, 0.06, 0.08, 0.10)),
    "desfoque (desvio, pixels)": (lambda x, sigma: transforms.gaussian_blur(x, 7, sigma), (0.4, 0.6, 0.8, 1.0, 1.4)),
    "brilho (fator)": (transforms.adjust_brightness, (1.2, 1.4, 1.6, 1.8, 2.0)),
    "contraste (fator)": (transforms.adjust_contrast, (0.8, 0.6, 0.4, 0.3, 0.2)),
    "JPEG (qualidade)": (_as_jpeg, (80, 60, 40, 20, 10)),
}


def accuracy_when_damaged(model: nn.Module, split: Split) -> dict[str, list[float]]:
    """Return for each of DAMAGES the accuracies (fractions) at its five strengths, weakest first."""
    return {
        name: [
            (predict(model, damage(split.images, strength)).argmax(1) == split.labels).float().mean().item()
            for strength in strengths
        ]
        for name, (damage, strengths) in DAMAGES.items()
    }


def robustness_table(scores: dict[str, list[float]]) -> str:
    """Return the accuracies of accuracy_when_damaged() as aligned text in Portuguese, each under its strength."""
    lines = []
    for name, row in scores.items():
        strengths = [f"{strength:g}".replace(".", ",") for strength in DAMAGES[name][1]]
        for head, cells in ((name, strengths), ("", map(percent, row))):
            lines.append(f"{head:<27}" + "".join(f"{cell:>8}" for cell in cells))
    return "\n".join(lines)


def near_duplicates(images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return which images (uint8 N×3×S×S) are also among `others` (M×3×S×S), as they are or mirrored: bool N.

    Compared by the correlation of their pixels at 16×16. ciFAIR (Barz and Denzler 2020), by eye and with features of a
    trained network, found 3.3 % of CIFAR-10's test images in its training set.
    """
    known = directions(others)
    parts = []
    for batch in images.split(1000):
        views = (directions(batch), directions(batch.flip(-1)))
        parts.append(torch.maximum(*((view @ known.T).amax(1) for view in views)) >= SAME)
    return torch.cat(parts)
