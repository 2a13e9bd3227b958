"""The training loop: for every batch of an epoch, the four actions of the step that the notebook does by hand."""

from collections.abc import Iterator

import torch
from torch import nn

from classificador.device import autocast
from classificador.processes import Loss
from classificador.training.batches import Batches

WARM_UP = 0.2  # of a run, in which the learning rate rises; a tenth was no better (validation, one seed)


def train_epoch(
    network: nn.Module,
    batches: Batches,
    criterion: Loss,
    optimizer: torch.optim.Optimizer,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Train on what is left of the epoch; after each batch yield its loss, its logits and its targets.

    criterion: the mean loss of logits, N×classes, and targets.
    """
    network.train()
    total = batches.settings.epochs * batches.steps
    for images, targets in batches:
        step = batches.done - 1  # of the run, from 0: this batch is counted already
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * lr_factor(step, total)  # the first is what the optimizer was made with
        with autocast(images.device):
            logits = network(images).float()
        loss = criterion(logits, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        yield loss.detach(), logits.detach(), targets


def lr_factor(step: int, total: int) -> float:
    """Fraction of the peak learning rate at a step: a linear rise over WARM_UP of the run, then almost to zero."""
    rise = max(1, round(total * WARM_UP))
    if step < rise:
        return (step + 1) / rise
    return (total - step) / (total - rise + 1)
