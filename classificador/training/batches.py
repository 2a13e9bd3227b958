"""The batches of a training: their order, how their images are altered, and what is to be answered to them."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from classificador import processes
from classificador.data.dataset import ImageData
from classificador.device import autocast
from classificador.network.teacher import Teacher
from classificador.recipes import Settings

SHOWN = 1000  # images, at least, in an epoch: with 150 pictures and the recipe's batch there would be one step
DISTILLATION_TEMPERATURE = 3.0  # of a teacher's logits; at 1 it says little but the labels of images it learnt


class Batches:
    """The batches of a run, in a random order that is new in each epoch. Iterating yields what is left of the epoch.

    Its state is all that decides the batches still to come. Each of several processes gets its share of every batch.
    device: where the images are kept, and the batches are made.
    """

    def __init__(self, data: ImageData, settings: Settings, device: torch.device, teacher: Teacher | None = None):
        self.data, self.settings, self.device, self.teacher = data, settings, device, teacher
        self.images, self.labels = data.train.images.to(device), data.train.labels.to(device)
        self.generator = torch.Generator(device).manual_seed(settings.seed)
        self.mirrored_first = torch.randint(2, (len(self.labels),), generator=self.generator, device=device) > 0
        self.rows = balanced_rows(self.labels)
        self.order = torch.arange(len(self.rows), device=device)
        self.steps_per_epoch = len(self.rows) // settings.batch_size  # the last, incomplete batch is left out
        self.done = 0  # since the run began

    @property
    def epoch(self) -> int:
        """Complete epochs."""
        return self.done // self.steps_per_epoch

    @property
    def step(self) -> int:
        """Batches of the epoch under way."""
        return self.done % self.steps_per_epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self.step == 0:
            self.order = torch.randperm(len(self.rows), generator=self.generator, device=self.order.device)
        for rows in self.rows[self.order].split(self.settings.batch_size)[self.step : self.steps_per_epoch]:
            batch = self.make(rows)
            self.done += 1
            yield batch

    def make(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return this process's share of a batch: images, and their labels or probabilities (float, N×classes).

        rows: of the batch's images in the split, for all processes.
        A fraction settings.mixup of the batches is mixed, the first image with the last and so on, in a proportion
        drawn for the batch (Zhang et al. 2018, arXiv 1710.09412). A teacher answers to the images as the network sees
        them, mixed ones too (Beyer et al. 2022, arXiv 2106.05237).
        """
        settings, generator, mine = self.settings, self.generator, processes.shard(len(rows))
        images, targets = self.images[rows], self.labels[rows]
        # Each image and its mirror image in turn, which learns faster than chance (Keller Jordan, airbench, 2024).
        mirrored = self.mirrored_first[rows] ^ bool(self.epoch % 2) if settings.symmetric else None
        images = augment(images, draw_moves(len(rows), settings.shift, generator), mirrored)
        if settings.cutout:
            centres = torch.randint(images.shape[-1], (2, len(rows), 1), generator=generator, device=rows.device)
            images = cut_out(images, centres, settings.cutout)
        if settings.mixup:
            mixing, share = torch.rand(2, generator=generator, device=rows.device)
            share = torch.where(mixing < settings.mixup, share, 1.0)
            images = torch.lerp(images.flip(0).float(), images.float(), share).div_(255)
            if self.teacher is None:
                own = F.one_hot(targets, len(self.data.classes)).float()
                targets = torch.lerp(own.flip(0), own, share)
        images, targets = images[mine], targets[mine]
        if self.teacher is not None:
            with torch.no_grad(), autocast(images.device):
                answers = self.teacher(images)
            targets = (answers.float() / DISTILLATION_TEMPERATURE).softmax(1)
        return images, targets

    def state_dict(self) -> dict[str, Any]:
        """How far the run has come, and what the random draws depend on."""
        return {"done": self.done, "order": self.order, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises ValueError for a place that no run of these settings has."""
        done, order = state["done"], state["order"].to(self.order.device)
        if type(done) is not int or not 0 <= done < self.settings.epochs * self.steps_per_epoch:
            raise ValueError("posição impossível")
        every = torch.arange(len(self.rows), device=order.device)
        if order.dtype != torch.int64 or not torch.equal(order.sort().values, every):
            raise ValueError("ordem impossível")
        if "generator" in state:
            self.generator.set_state(state["generator"])
        else:  # of another device
            self.generator.manual_seed(self.settings.seed + done)
        self.done, self.order = done, order


def balanced_rows(labels: torch.Tensor) -> torch.Tensor:
    """Return which images an epoch shows, ascending: those of rare classes so often that all classes weigh alike.

    labels: int64, N. How often is a whole number, so that classes of nearly the same size are shown once; of few images
    all are shown so often that an epoch has enough steps, each time altered otherwise.
    """
    counts = labels.bincount()
    times = (counts.max() / counts.clamp(min=1)).round().long()
    rows = torch.arange(len(labels), device=labels.device).repeat_interleave(times[labels])
    return rows.repeat(-(-SHOWN // len(rows))).sort().values


def draw_moves(count: int, shift: int, generator: torch.Generator) -> torch.Tensor | None:
    """Return random moves of so many images, pixels down and right, 2×N×1, at most `shift` each way; None for 0."""
    if shift == 0:
        return None
    return torch.randint(-shift, shift + 1, (2, count, 1), generator=generator, device=generator.device)


def augment(images: torch.Tensor, moves: torch.Tensor | None, mirrored: torch.Tensor | None) -> torch.Tensor:
    """Return a shifted and mirrored copy of a batch, channels last; None: not shifted, not mirrored.

    images: uint8 or float, N×C×S×S. moves: of draw_moves(); what they uncover is filled by reflection.
    mirrored: bool, N: which images to turn left to right. The result has the shape and type of `images`.
    """
    if moves is None:  # without the work of finding each pixel's place
        if mirrored is not None:
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        return images.contiguous(memory_format=torch.channels_last)
    n, side, device = len(images), images.shape[-1], images.device
    position = torch.arange(side, device=device)
    rows, columns = (_reflect(position + move, side) for move in moves)
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], side - 1 - columns, columns)
    image = torch.arange(n, device=device)[:, None, None]
    return images[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(images: torch.Tensor, centres: torch.Tensor, size: int) -> torch.Tensor:
    """Return a copy in which a square of each image is grey, 128 (DeVries and Taylor 2017, arXiv 1708.04552).

    images: uint8, N×C×S×S. centres: row and column, 2×N×1. size: pixels, even; less shows where it crosses the border.
    """
    position = torch.arange(images.shape[-1], device=images.device)
    rows, columns = ((position >= centre - size // 2) & (position < centre + size // 2) for centre in centres)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 128)


def _reflect(position: torch.Tensor, side: int) -> torch.Tensor:
    """Mirror positions outside 0 … side-1 back inside, without repeating the border pixel."""
    return side - 1 - (side - 1 - position.abs()).abs()
