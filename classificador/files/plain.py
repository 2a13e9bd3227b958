"""Weights without a word about them: the plain state_dict of this project's network, or of the original one."""

import itertools
from typing import Any

import torch

from classificador.constants import CLASSES, SIDES
from classificador.network.cnn import CNN, OriginalFromPixels
from classificador.network.model_info import ModelInfo

POOLS = ((3, 3), (2, 4))  # of the recipes' networks: no two make as many regions, whatever the side of the images
LAYERS = ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]


def find_weights(content: dict[str, Any]) -> tuple[dict[str, torch.Tensor], str]:
    """Return the weights in a file's content, and what stood before their names, as "module." or "network.".

    The content itself, or what it holds under "state_dict" or another name. Raises ValueError where there are none.
    """
    dicts = {id(value): value for value in (content, *content.values()) if isinstance(value, dict)}
    for candidate in dicts.values():  # each once, however often it is named
        names = [name for name in candidate if isinstance(name, str)]
        prefix = next((name.removesuffix(LAYERS[0]) for name in names if name.endswith(LAYERS[0])), None)
        if prefix is not None:
            weights = {name.removeprefix(prefix): candidate[name] for name in names if name.startswith(prefix)}
            if all(isinstance(weight, torch.Tensor) for weight in weights.values()):
                return weights, prefix
    raise ValueError(f"não há {LAYERS[0]}")


def recognise(weights: dict[str, torch.Tensor], prefix: str) -> tuple[type, dict[str, Any]]:
    """Return the network that these are the weights of, and the arguments of make_network, read off their shapes.

    prefix: of find_weights(): in a Symmetric the network is called `network`. Raises ValueError for weights of another
    network.
    """
    if missing := [name for name in LAYERS if name not in weights]:
        raise ValueError(f"falta {missing[0]}")
    shapes = [list(weights[name].shape) for name in LAYERS]
    if [len(shape) for shape in shapes] != [4, 4, 2, 2] or 0 in sum(shapes, []):
        raise ValueError(f"{LAYERS[0]}: {shapes[0]}, {LAYERS[2]}: {shapes[2]}")
    first, second, hidden, last = shapes
    ours = "norm2.weight" in weights
    kinds = 2 if ours else 1  # of each channel, how many numbers the second pooling makes of a region
    for side, pools in itertools.product(SIDES, POOLS if ours else [(2, 2)]):
        if kinds * second[0] * (side // pools[0] // pools[1]) ** 2 == hidden[1]:
            break
    else:
        raise ValueError(f"fc1.weight: {hidden} não vem de imagens de {', '.join(map(str, SIDES))} pixels")
    sizes = {"channels": [first[0], second[0]], "hidden": hidden[0], "classes": last[0], "side": side}
    if not ours:
        return OriginalFromPixels, sizes
    kernels, symmetric = [first[2], second[2]], prefix.endswith("network.")
    return CNN, sizes | {"kernels": kernels, "pools": list(pools), "symmetric": symmetric}


def assumptions(network: type, info: ModelInfo) -> str:
    """Return in Portuguese, in one line, what is taken for granted of such weights."""
    whose, pools = ("deste projeto", info.architecture["pools"]) if network is CNN else ("original", (2, 2))
    mirror = f", {'com' if info.architecture.get('symmetric') else 'sem'} a média do espelho" if network is CNN else ""
    order = ", contraste depois do primeiro" if network is CNN else ""
    names = "as do CIFAR-10, na ordem dele" if info.classes == CLASSES else "sem nome, numeradas desde 0"
    return (
        f"só pesos, da rede {whose}. Suponho imagens de {info.side} pixels, normalizadas com média 0,5 e desvio padrão "
        f"0,5; poolings de {pools[0]} e {pools[1]}{order}{mirror}; classes {names}; probabilidades sem calibração."
    )
