"""A run's network with its starting weights, and its optimizer."""

import inspect
from collections.abc import Callable

import torch
from torch import nn

from classificador.dataset import ImageData
from classificador.model import CNN
from classificador.settings import Settings
from classificador.whitening import whiten


def build(settings: Settings, data: ImageData, network: Callable[..., nn.Module]) -> nn.Module:
    """Return a network of class `network` with this run's reproducible starting weights.

    Only the sizes in which the recipe differs from CNN's defaults are passed on, so that new defaults in an edited
    class take effect. Raises TypeError when an edited class lacks an argument that the recipe needs.
    """
    torch.manual_seed(settings.seed)
    defaults = inspect.signature(CNN).parameters
    wanted = settings.architecture | {"classes": len(data.classes), "side": data.train.images.shape[-1]}
    model = network(**{name: value for name, value in wanted.items() if value != defaults[name].default})
    first = getattr(model, "conv1", None)
    if settings.whiten and isinstance(first, nn.Conv2d):
        whiten(first, data.train.images)
        first.weight.requires_grad_(settings.train_first)
    return model


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Adam:
    """Return Adam as the settings ask for it; the notebook writes out the same call."""
    return torch.optim.Adam(
        model.parameters(),
        lr=settings.lr,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
        decoupled_weight_decay=True,
        fused=True,
    )
