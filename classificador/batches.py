"""The batches of a training: their order, how their images are altered, and what is to be answered to them."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from classificador import distributed
from classificador.augment import augment, cut_out, draw_holes, draw_moves
from classificador.dataset import Split
from classificador.settings import Settings
from classificador.teacher import soft_targets


class Batches:
    """The batches of a run, in a random order that is new in each epoch. Iterating yields what is left of the epoch.

    Its state is all that decides the batches still to come. Of several processes each is given its part of every batch.
    """

    def __init__(self, split: Split, settings: Settings, classes: list[str], teacher: nn.Module | None = None):
        self.split, self.settings, self.classes, self.teacher = split, settings, classes, teacher
        device = split.images.device
        self.generator = torch.Generator(device).manual_seed(settings.seed)
        self.mirrored_first = torch.randint(2, (len(split),), generator=self.generator, device=device) > 0
        self.order = torch.arange(len(split), device=device)
        self.steps = len(split) // settings.batch_size  # in an epoch: the last, incomplete batch is left out
        self.done = 0  # since the run began

    @property
    def epoch(self) -> int:
        """Complete epochs."""
        return self.done // self.steps

    @property
    def step(self) -> int:
        """Batches of the epoch under way."""
        return self.done % self.steps

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self.step == 0:
            self.order = torch.randperm(len(self.split), generator=self.generator, device=self.order.device)
        for rows in self.order.split(self.settings.batch_size)[self.step : self.steps]:
            batch = self.make(rows)
            self.done += 1
            yield batch

    def make(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return this process's part of a batch: images, and their labels or probabilities (float, N×classes).

        rows: of the batch's images in the split, for all processes.
        A fraction settings.mixup of the batches is mixed, the first image with the last and so on, in a proportion
        drawn for the batch (Zhang et al. 2018, arXiv 1710.09412). A teacher answers to the images as the network sees
        them, mixed ones too (Beyer et al. 2022, arXiv 2106.05237).
        """
        settings, split, mine = self.settings, self.split, distributed.part(len(rows))
        moves = draw_moves(len(rows), settings.shift, self.generator)
        holes = draw_holes(len(rows), split.images.shape[-1], self.generator) if settings.cutout else None
        # Each image and its mirror image in turn, which learns faster than chance (Keller Jordan, airbench, 2024).
        mirrored = self.mirrored_first[rows] ^ bool(self.epoch % 2) if settings.symmetric else None

        def altered(part: torch.Tensor) -> torch.Tensor:
            turned = None if mirrored is None else mirrored[part]
            images = augment(split.images[rows[part]], None if moves is None else moves[:, part], turned)
            return images if holes is None else cut_out(images, holes[:, part], settings.cutout)

        places = torch.arange(len(rows), device=rows.device)
        images, targets = altered(places[mine]), split.labels[rows[mine]]
        if settings.mixup:
            mixing, share = torch.rand(2, generator=self.generator, device=rows.device)
            share = torch.where(mixing < settings.mixup, share, 1.0)
            partners = places.flip(0)[mine]
            images = torch.lerp(altered(partners).float(), images.float(), share).div_(255)
            if self.teacher is None:
                shown = torch.stack([split.labels[rows[partners]], targets])
                targets = torch.lerp(*F.one_hot(shown, len(self.classes)).float(), share)
        if self.teacher is not None:
            targets = soft_targets(self.teacher, images)
        return images, targets

    def state_dict(self) -> dict:
        """How far the run has come, and what the random draws depend on."""
        return {"done": self.done, "order": self.order, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from there. Raises ValueError for a place that no run of these settings has."""
        done, order = state["done"], state["order"].to(self.order.device)
        if type(done) is not int or not 0 <= done < self.settings.epochs * self.steps:
            raise ValueError("posição impossível")
        if order.dtype != torch.int64 or not torch.equal(order.sort().values, torch.arange(len(order)).to(order)):
            raise ValueError("ordem impossível")
        if order.shape != self.order.shape:
            raise ValueError("ordem impossível")
        self.generator.set_state(state["generator"])
        self.done, self.order = done, order
