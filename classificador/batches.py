"""A training batch: its images altered at random, and what the network is to answer to them."""

import torch
import torch.nn.functional as F
from torch import nn

from classificador import distributed
from classificador.augment import augment, cut_out, draw_holes, draw_moves
from classificador.dataset import Split
from classificador.settings import Settings
from classificador.teacher import soft_targets


def make_batch(
    rows: torch.Tensor,
    split: Split,
    mirrored: torch.Tensor | None,
    settings: Settings,
    generator: torch.Generator,
    teacher: nn.Module | None,
    classes: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return this process's part of a batch: images, and their labels or probabilities (float, N×classes).

    rows: of the batch's images in `split`, for all processes. mirrored: bool, for each image of the split: which to
    turn left to right; None for none.
    classes: how many there are.
    A fraction settings.mixup of the batches is mixed, the first image with the last and so on, in a proportion drawn
    for the batch (Zhang et al. 2018, arXiv 1710.09412). A teacher answers to the images as the network sees them, mixed
    ones too (Beyer et al. 2022, arXiv 2106.05237).
    """
    mine = distributed.part(len(rows))
    moves = draw_moves(len(rows), settings.shift, generator)
    holes = draw_holes(len(rows), split.images.shape[-1], generator) if settings.cutout else None

    def altered(part: torch.Tensor) -> torch.Tensor:
        turned = None if mirrored is None else mirrored[rows[part]]
        images = augment(split.images[rows[part]], None if moves is None else moves[:, part], turned)
        return images if holes is None else cut_out(images, holes[:, part], settings.cutout)

    places = torch.arange(len(rows), device=rows.device)
    images, targets = altered(places[mine]), split.labels[rows[mine]]
    if settings.mixup:
        mixing, share = torch.rand(2, generator=generator, device=generator.device)
        share = torch.where(mixing < settings.mixup, share, 1.0)
        partners = places.flip(0)[mine]
        images = torch.lerp(altered(partners).float(), images.float(), share).div_(255)
        if teacher is None:
            pair = (F.one_hot(labels, classes).float() for labels in (split.labels[rows[partners]], targets))
            targets = torch.lerp(*pair, share)
    if teacher is not None:
        targets = soft_targets(teacher, images)
    return images, targets
