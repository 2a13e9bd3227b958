"""The network, and how it is made. The notebook shows the same class CNN; a test keeps both equal."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parameter import is_lazy

from classificador.network.model_info import ModelInfo, info_of, set_info


def contrast(x: torch.Tensor) -> torch.Tensor:
    """Divide the responses at each point (N×C×H×W) by their root mean square over the C channels there.

    Divisive normalisation: the pattern counts, not how strongly it is marked. The 0.1, from trials on the validation
    split, keeps faint noise in flat areas faint. (One pass over the responses: vector_norm writes no squares. What they
    are divided by is computed in float32: rounded to bfloat16 at each step, it would be wrong for all channels alike.)
    """
    power = torch.linalg.vector_norm(x, dim=1, keepdim=True).float() ** 2 / x.shape[1]
    return x * (power + 0.1).rsqrt().to(x.dtype)


def max_and_mean(x: torch.Tensor, size: int) -> torch.Tensor:
    """Return the maximum and the mean of each region of size×size points side by side, N×2C×(H/size)×(W/size)."""
    return torch.cat([F.max_pool2d(x, size), F.avg_pool2d(x, size)], 1)


class CNN(nn.Module):
    """Two convolutions and two linear layers; the arguments are sizes."""

    def __init__(self, channels=(64, 192), kernels=(5, 3), pools=(3, 3), hidden=256, classes=10, side=32):
        super().__init__()
        self.pools = pools
        self.conv1 = nn.Conv2d(3, channels[0], kernels[0], padding="same", bias=False)
        self.conv2 = nn.Conv2d(*channels, kernels[1], padding="same", bias=False)  # type: ignore[misc,call-arg]
        self.norm2 = nn.BatchNorm2d(2 * channels[1])
        regions = (side // pools[0] // pools[1]) ** 2
        self.fc1 = nn.Linear(2 * channels[1] * regions, hidden, bias=False)
        self.norm3 = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, images):
        """Return logits, N×classes, for images of N×3×side×side (uint8, or float in [0, 1])."""
        x = images / 255 if images.dtype == torch.uint8 else images
        x = self.conv1((x - 0.5) / 0.5)
        x = F.relu(contrast(F.max_pool2d(x, self.pools[0])))
        x = F.relu(self.norm2(max_and_mean(self.conv2(x), self.pools[1])))
        x = F.relu(self.norm3(self.fc1(x.flatten(1))))
        return self.fc2(x)


class Symmetric(nn.Module):
    """Gives an image and its mirror image the same answer: the mean of what `network` answers to the two (flip TTA).

    A symmetry as in group convolutions (Cohen and Welling 2016, arXiv 1602.07576). It doubles the cost of an answer. In
    training it passes the images on as they are: half of them come mirrored, and twice as many different ones in the
    same time teach a little more (validation, 1 to 14 epochs) than each together with its mirror image.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        if (info := info_of(network)).architecture:
            info = replace(info, architecture=info.architecture | {"symmetric": True})
        set_info(self, info)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, N×classes, for images as `network` takes them."""
        if self.training:
            return self.network(images)
        answers = self.network(torch.cat([images, images.flip(3)]))
        return answers.unflatten(0, (2, -1)).mean(0)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network itself: what Symmetric holds, or the model where nothing is around it."""
    return model.network if isinstance(model, Symmetric) else model


def make_network(network_class: Callable[..., nn.Module], symmetric: bool = False, **sizes) -> nn.Module:
    """Return `network_class(**sizes)`, within Symmetric if asked for, with the attributes `info` and `made_by`.

    The architecture in `info`: all arguments of the class, its defaults included, and "symmetric"; empty where a file
    could not hold them. Raises what the class raises.
    """
    network = network_class(**sizes)
    settle(network, sizes.get("side", 32))
    model = Symmetric(network) if symmetric else network
    vars(model)["made_by"] = network_class
    with suppress(ValueError):
        set_info(model, ModelInfo(architecture_of(model, network_class, sizes)))
    return model


def architecture_of(model: nn.Module, network_class: Callable[..., nn.Module], sizes: dict[str, Any]) -> dict[str, Any]:
    """Return the architecture in the info of a network that `network_class(**sizes)` made, as make_network() has it."""
    parameters = inspect.signature(network_class).parameters.values()
    arguments = {one.name: one.default for one in parameters if one.default is not one.empty} | sizes
    arguments = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    return arguments | {"symmetric": isinstance(model, Symmetric)}


@torch.no_grad()
def settle(network: nn.Module, side: int) -> None:
    """Show the network a black image of that side if it has lazy layers, which take their sizes from the first one."""
    if any(map(is_lazy, network.parameters())):
        training = network.training
        network.eval()(torch.zeros(1, 3, side, side))
        network.train(training)


class OriginalCNN(nn.Module):
    """Two convolutions of 3×3, two linear layers, dropout; no normalisation within. 2 122 186 weights."""

    def __init__(self, channels=(32, 64), hidden=512, classes=10, side=32):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 3, padding=1)
        self.fc1 = nn.Linear(channels[1] * (side // 4) ** 2, hidden)
        self.dropout = nn.Dropout(0.25)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, N×classes, for images of N×3×side×side, normalised already: pixels from -1 to 1."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(self.dropout(x))


class OriginalFromPixels(OriginalCNN):
    """The original network behind the interface of this project's own."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, N×classes, for images of N×3×side×side (uint8, or float in [0, 1])."""
        x = images / 255 if images.dtype == torch.uint8 else images
        return super().forward((x - 0.5) / 0.5)
