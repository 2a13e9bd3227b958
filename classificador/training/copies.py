"""Altered copies of a few pictures, from which a training learns beside the pictures themselves.

Images are float in [0, 1], N×3×S×S, and so are the copies. What is drawn at random comes from `generator`.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F


def uniform(images: torch.Tensor, generator: torch.Generator, channels: int = 1) -> torch.Tensor:
    """Random numbers from -1 to 1, N×channels×1×1."""
    return 2 * torch.rand(len(images), channels, 1, 1, generator=generator) - 1


def lit(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Copies in another light: contrast, brightness, tint."""
    mean = images.mean((1, 2, 3), keepdim=True)
    light = 0.15 * uniform(images, generator) + 0.08 * uniform(images, generator, 3)
    return ((images - mean) * torch.exp(0.25 * uniform(images, generator)) + mean + light).clamp(0, 1)


def moved(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Copies shifted by whole pixels, so that what is fine stays so; the rim is filled by reflection."""
    side = images.shape[-1]
    most = 3 * side // 32
    padded = F.pad(images, (most,) * 4, mode="reflect")
    places = torch.randint(2 * most + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([one[:, y : y + side, x : x + side] for one, (y, x) in zip(padded, places, strict=True)])


def warped(
    images: torch.Tensor, generator: torch.Generator, degrees: float, scale: float, shift: float
) -> torch.Tensor:
    """Copies turned, scaled and shifted at random; the rim is filled by reflection."""
    turn, size, x, y = (uniform(images, generator).flatten() for _ in range(4))
    turn, size = turn * math.radians(degrees), torch.exp(size * scale)
    cos, sin = size * turn.cos(), size * turn.sin()
    matrices = torch.stack([torch.stack([cos, -sin, x * shift], 1), torch.stack([sin, cos, y * shift], 1)], 1)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def recoloured(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Copies with their three colours in another order, and every second one a negative."""
    negative = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    orders = torch.rand(len(images), 3, generator=generator).argsort(1)
    images = torch.where(negative, 1 - images, images)
    return images[torch.arange(len(images))[:, None], orders]


KINDS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "moved": lambda images, generator: lit(moved(images, generator), generator),
    "turned": lambda images, generator: lit(warped(images, generator, 15, 0.35, 0.3), generator),
    "coloured": lambda images, generator: lit(
        recoloured(warped(images, generator, 10, 0.2, 3 / 16), generator), generator
    ),
}


def altered(images: torch.Tensor, kind: str, copies: int, symmetric: bool, generator: torch.Generator) -> torch.Tensor:
    """So many altered copies of each image, all images in turn."""
    images = images.repeat(copies, 1, 1, 1)
    if symmetric:
        mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
        images = torch.where(mirrored, images.flip(3), images)
    return KINDS[kind](images, generator)
