"""Weights without a word about them: the plain state_dict of this project's network, or of the original one."""

import math
import re

import torch

from classificador.network.cnn import CNN, OriginalFromPixels

POOLED = {
    CNN: 2 * 4,
    OriginalFromPixels: 2 * 2,
}  # by how much their poolings reduce the side; of CNN, unless it says otherwise


def find_weights(content: dict) -> dict[str, torch.Tensor]:
    """Return the weights in a file's content: all of it, or what it holds under "state_dict" or another name.

    Raises ValueError where there are none.
    """
    for part in (content, *content.values()):
        if isinstance(part, dict) and part and all(isinstance(name, str) for name in part):
            weights = unwrapped(part)
            if "conv1.weight" in {name.removeprefix("network.") for name in weights}:
                return weights
    raise ValueError("não há conv1.weight")


def unwrapped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights without what DistributedDataParallel and torch.compile put before their names."""
    return {re.sub(r"^(module\.|_orig_mod\.)+", "", name): value for name, value in weights.items()}


def recognise(weights: dict[str, torch.Tensor]) -> tuple[type, dict]:
    """Return the network that these are the weights of, and the arguments of make_network, read off their shapes.

    Raises any error for weights of another network.
    """
    symmetric = all(name.startswith("network.") for name in weights)
    shapes = {name.removeprefix("network."): list(weight.shape) for name, weight in weights.items()}
    network = CNN if "norm2.weight" in shapes else OriginalFromPixels
    convolutions = [shapes["conv1.weight"], shapes["conv2.weight"]]
    channels = [shape[0] for shape in convolutions]
    hidden, inputs = shapes["fc1.weight"]
    regions = inputs // channels[1] // (2 if network is CNN else 1)
    sizes = {"channels": channels, "hidden": hidden, "classes": shapes["fc2.weight"][0]}
    sizes["side"] = math.isqrt(regions) * POOLED[network]
    if network is CNN:
        sizes["kernels"] = [shape[2] for shape in convolutions]
    return network, sizes | {"symmetric": symmetric}
