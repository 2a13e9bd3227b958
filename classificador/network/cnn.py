"""The network, and what a network knows of itself. The notebook shows the same class CNN; a test keeps both equal."""

import inspect
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn


def contrast(x: torch.Tensor) -> torch.Tensor:
    """Divide the responses at each point (N×C×H×W) by their root mean square over the C channels there.

    Divisive normalisation: the pattern counts, not how strongly it is marked. The 0.1, from trials on the validation
    split, keeps faint noise in flat areas faint. (One pass over the responses: vector_norm writes no squares. What they
    are divided by is computed in float32: rounded to bfloat16 at each step, it would be wrong for all channels alike.)
    """
    power = torch.linalg.vector_norm(x, dim=1, keepdim=True).float().square() / x.shape[1]
    return x * (power + 0.1).rsqrt().to(x.dtype)


def max_and_mean(x: torch.Tensor, size: int) -> torch.Tensor:
    """Return the maximum and the mean of each region of size×size points side by side, N×2C×(H/size)×(W/size)."""
    return torch.cat([F.max_pool2d(x, size), F.avg_pool2d(x, size)], 1)


class CNN(nn.Module):
    """Two convolutions and two linear layers; the arguments are sizes."""

    def __init__(self, channels=(64, 128), kernels=(5, 3), pools=(2, 4), hidden=384, classes=10, side=32):
        super().__init__()
        self.pools = pools
        self.conv1 = nn.Conv2d(3, channels[0], kernels[0], padding="same", bias=False)
        self.conv2 = nn.Conv2d(channels[0], channels[1], kernels[1], padding="same", bias=False)
        self.norm2 = nn.BatchNorm2d(2 * channels[1])
        regions = (side // pools[0] // pools[1]) ** 2
        self.fc1 = nn.Linear(2 * channels[1] * regions, hidden, bias=False)
        self.norm3 = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, images):
        """Return logits, N×classes, for images of N×3×side×side (uint8, or float in [0, 1])."""
        x = images / 255 if images.dtype == torch.uint8 else images
        x = self.conv1((x - 0.5) / 0.5)
        x = F.relu(F.max_pool2d(contrast(x), self.pools[0]))
        x = max_and_mean(self.conv2(x), self.pools[1])
        x = F.relu(self.norm2(x))
        x = F.relu(self.norm3(self.fc1(x.flatten(1))))
        return self.fc2(x)


class Symmetric(nn.Module):
    """Gives an image and its mirror image the same answer: the mean of what `network` answers to the two.

    A symmetry as in group convolutions (Cohen and Welling 2016, arXiv 1602.07576). It doubles the cost of an answer. In
    training it passes the images on as they are: half of them come mirrored, and twice as many different ones in the
    same time teach a little more (validation, 1 to 14 epochs) than each together with its mirror image.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, N×classes, for images as `network` takes them."""
        if self.training:
            return self.network(images)
        answers = self.network(torch.cat([images, images.flip(3)]))
        return answers.unflatten(0, (2, -1)).mean(0)


def bare(model: nn.Module) -> nn.Module:
    """Return the network itself: what Symmetric holds, or the model where nothing is around it."""
    return model.network if isinstance(model, Symmetric) else model


def make_network(network: Callable[..., nn.Module], symmetric: bool = False, **sizes) -> nn.Module:
    """Return `network(**sizes)`, within Symmetric if asked for; its attribute `architecture` goes into its file.

    architecture: all arguments of `network`, its defaults included, and "symmetric". Raises what `network` raises.
    """
    model = Symmetric(network(**sizes)) if symmetric else network(**sizes)
    parameters = inspect.signature(network).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
    vars(model)["architecture"] = defaults | sizes | {"symmetric": symmetric}
    return model


def architecture_of(model: nn.Module) -> dict:
    """Return the arguments of make_network that made `model`, as plain values; empty if it was made otherwise."""
    arguments = getattr(model, "architecture", {})
    return {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}


def epochs_trained(model: nn.Module) -> float:
    """Return for how many epochs fit() has trained the weights of `model`, those in its file included; 0: it is new."""
    return vars(model).get("epochs_trained", 0.0)


def side_of(model: nn.Module) -> int | None:
    """Return the side in pixels of the images that `model` was made for; None if make_network did not make it."""
    architecture = architecture_of(model)
    return architecture.get("side", 32) if architecture else None


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
