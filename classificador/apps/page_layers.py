"""A network's layers as the script of a page takes them: their kinds, and their weights as text."""

import base64
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from classificador.errors import ExportError
from classificador.network.cnn import OriginalCNN

UNKNOWN = "A página não sabe calcular com esta rede:"
REMEDY = "Use `python -m classificador exportar`, que grava qualquer uma."


def describe_layers(network: nn.Module) -> list[dict[str, Any]]:
    """Return the layers of a network, in order, as page_network.js takes them.

    Raises ExportError for a network with other layers.
    """
    weights = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    relu: dict[str, Any] = {"kind": "relu"}
    layers: list[dict[str, Any]] = []
    with suppress(KeyError, AttributeError):
        if isinstance(network, OriginalCNN):
            pooled = [relu, {"kind": "maximum", "size": 2}]
            front = [_weighted(weights, "conv1"), *pooled, _weighted(weights, "conv2"), *pooled]
            layers = [*front, _weighted(weights, "fc1"), relu, _weighted(weights, "fc2")]
        else:
            pools: Any = network.pools
            layers = [
                _weighted(weights, "conv1"),
                {"kind": "maximum", "size": pools[0]},
                {"kind": "contrast"},
                relu,
                _weighted(weights, "conv2"),
                {"kind": "maximum_and_mean", "size": pools[1]},
                {"kind": "scale"} | _encoded(*_normalisation(weights, "norm2")),
                relu,
                _weighted(weights, "fc1", "norm3"),
                relu,
                _weighted(weights, "fc2"),
            ]
    if weights or not layers:
        raise ExportError(f"{UNKNOWN} só com as camadas da deste projeto ou da original.", REMEDY)
    return layers


def _weighted(weights: dict[str, torch.Tensor], name: str, norm: str = "") -> dict[str, Any]:
    """A convolution or linear layer, and the normalisation that follows it; takes their weights out of the dict.

    The weights of a linear layer become whole numbers of 16 bits with one scale for each row, which are nearer to the
    float32 than halves are. The few of a convolution stay as they are: their rounding would show most.
    """
    weight = weights.pop(f"{name}.weight")
    layer, scale = {"kind": "convolution", "size": weight.shape[-1], "bits": 32}, torch.ones(len(weight))
    if weight.ndim == 2:
        layer, scale = {"kind": "linear", "bits": 16}, weight.abs().amax(1).clamp(min=1e-30) / 32767
        weight = (weight / scale[:, None]).round().to(torch.int16)
    shift = weights.pop(f"{name}.bias", torch.zeros_like(scale))
    if norm:
        factor, added = _normalisation(weights, norm)
        scale, shift = scale * factor, shift * factor + added
    return layer | {"outputs": len(weight), "weights": base64_of(weight)} | _encoded(scale, shift)


def _normalisation(weights: dict[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What a trained batch normalisation multiplies each channel with, and then adds."""
    weight, bias, mean, variance = (
        weights.pop(f"{name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = weight / (variance + 1e-5).sqrt()  # as torch has it
    return factor, bias - mean * factor


def _encoded(scale: torch.Tensor, shift: torch.Tensor) -> dict[str, str]:
    return {"scale": base64_of(scale), "shift": base64_of(shift)}


def base64_of(values: torch.Tensor) -> str:
    """Return the bytes of the numbers, the least of each number first, as all machines in use have them."""
    return base64.b64encode(values.numpy().tobytes()).decode()
