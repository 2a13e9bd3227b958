"""The network with which a run begins, its starting weights, and its optimizer."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parameter import is_lazy

from classificador.data.dataset import ImageData
from classificador.errors import SettingsError
from classificador.network.cnn import CNN, make_network, unwrap
from classificador.network.model_info import info_of, set_info
from classificador.portuguese import tell
from classificador.recipes import SIZES, Settings


def build(
    settings: Settings,
    data: ImageData,
    network_class: Callable[..., nn.Module] = CNN,
    pretrained: nn.Module | None = None,
) -> nn.Module:
    """Return a network of class `network_class` with this run's reproducible starting weights, made as in the notebook.

    pretrained: a trained network, as of find_start(), whose sizes and weights the new one takes: see take_weights().
    Symmetric stands around the network unless the classes change their meaning in a mirror. Raises as network_sizes().
    """
    sizes = network_sizes(settings, data, network_class, pretrained)
    torch.manual_seed(settings.seed)
    model = make_network(network_class, settings.symmetric, **sizes)
    set_info(model, replace(info_of(model), seed=settings.seed))
    first: Any = getattr(unwrap(model), "conv1", None)
    if whiten(first, data.train.images):
        first.weight.requires_grad_(settings.train_first)
    if pretrained:
        take_weights(model, pretrained, data.classes)
    return model


def network_sizes(
    settings: Settings,
    data: ImageData,
    network_class: Callable[..., nn.Module] = CNN,
    pretrained: nn.Module | None = None,
) -> dict[str, Any]:
    """Return the sizes of the recipe, of the data and of `pretrained` that the class takes as arguments.

    One whose default was edited keeps that default, whatever the recipe or `pretrained` has; of what the class does not
    get, a line says so. Raises SettingsError for a class that asks for what no recipe has.
    """
    sizes, notes = sizes_and_notes(settings, data, network_class, pretrained)
    for note in notes:
        tell(note)
    return sizes


def sizes_and_notes(
    settings: Settings, data: ImageData, network_class: Callable[..., nn.Module], pretrained: nn.Module | None
) -> tuple[dict[str, Any], list[str]]:
    """Return what network_sizes() returns, and the lines that it says."""
    taken, original = (inspect.signature(one).parameters for one in (network_class, CNN))
    takes_any = any(one.kind is one.VAR_KEYWORD for one in taken.values())
    for one in taken.values():
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD and one.name not in original:
            problem = f"A classe da rede pede o argumento {one.name}, que nenhuma receita tem."
            raise SettingsError(problem, "Dê a ele um valor padrão.")
    notes, learnt = [], _sizes_after(pretrained, data) if pretrained else {}
    arguments: dict[str, Any] = {"classes": len(data.classes), "side": data.side}
    arguments = {name: size for name, size in arguments.items() if name in taken or size != original[name].default}
    for name in SIZES:
        default = original[name].default
        own, wanted = taken[name].default if name in taken else default, learnt.get(name, getattr(settings, name))
        own, wanted = (tuple(value) if isinstance(value, list) else value for value in (own, wanted))
        origin = "os pesos de que se parte pediriam" if name in learnt else f"a receita {settings.preset} pediria"
        if repr(own) not in (repr(default), repr(inspect.Parameter.empty)):  # the class was edited
            if repr(own) != repr(wanted):
                notes.append(f"{name} = {own}, escrito na classe da rede, vale; {origin} {wanted}.")
        elif name in taken or (takes_any and wanted != default):
            arguments[name] = wanted
        elif wanted != default:
            notes.append(f"{name} fica como está na classe da rede, que não tem esse argumento; {origin} {wanted}.")
    return {name: size for name, size in arguments.items() if name in taken or takes_any}, notes


def _sizes_after(pretrained: nn.Module, data: ImageData) -> dict[str, Any]:
    """The sizes of a network that takes the weights of another; to learn from few pictures fc1 needs units of its own.

    Two for each class, beside those of the other network where the images have the same side: see training/few.py.
    """
    info = info_of(pretrained)
    if not (data.few and isinstance(info.architecture.get("hidden"), int)):
        return info.architecture
    kept = info.architecture["hidden"] if info.side == data.side else 0
    return info.architecture | {"hidden": kept + 2 * len(data.classes)}


def take_weights(model: nn.Module, pretrained: nn.Module, classes: tuple[str, ...] = ()) -> None:
    """Copy into `model` the weights of `pretrained` that fit by name and shape; freeze convolutions that got theirs.

    The second one only together with the first, whose answers it has learnt from.
    Where they come from is noted in the model's info. A layer of more units takes them for its first ones.
    The last layer, fc2, stays new but for those of `classes` that `pretrained` knows by the same name; so does fc1
    where the images have another side. Of pictures too few to learn to see from, only the linear layers and the
    normalisation between them learn: RESULTADOS.md has what that is worth. Of the same classes all of it goes on.
    """
    network, known = unwrap(model), info_of(pretrained)
    goes_on = bool(classes) and set(classes) == set(known.classes)
    set_info(model, replace(info_of(model), start=known.start, earlier_epochs=known.epochs_trained))
    own, learnt = network.state_dict(), unwrap(pretrained).state_dict()
    fitting = {
        name: weight
        for name, weight in learnt.items()
        if name in own and not is_lazy(own[name]) and not name.startswith("fc2.") and _fits(name, weight, own[name])
    }
    for name, weight in fitting.items():
        own[name][() if weight.shape == own[name].shape else slice(len(weight))] = weight
    for part in own.keys() & learnt.keys() & {"fc2.weight", "fc2.bias"}:
        for label, name in enumerate(classes):
            if name in known.classes and own[part].shape[1:] == learnt[part].shape[1:]:
                own[part][label] = learnt[part][known.classes.index(name)]
    frozen = ("conv1", "conv2", "norm2") if {"conv1.weight", "conv2.weight"} <= fitting.keys() else ("conv1",)
    for name, weight in network.named_parameters():
        if name in fitting and name.partition(".")[0] in frozen and not goes_on:
            weight.requires_grad_(False)


def _fits(name: str, weight: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether a weight can be a layer's own, or in fc1 and its normalisation that of its first units."""
    is_of_units = name.startswith(("fc1.", "norm3.")) and weight.ndim == own.ndim > 0
    return weight.shape == own.shape or (is_of_units and weight.shape[1:] == own.shape[1:] and len(weight) < len(own))


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Adam:
    """Return Adam as the settings ask for it; the notebook writes out the same call."""
    return torch.optim.Adam(
        model.parameters(),
        lr=settings.lr,
        betas=(0.9, 0.99),  # Adam's default of 0.999 remembers longer than these runs last
        weight_decay=settings.weight_decay,
        decoupled_weight_decay=True,
        fused=True,
    )


IMAGES = 2000  # training images of 32×32 whose patches are measured; of larger ones fewer, for as many patches
RIDGE = 1e-2  # added to the eigenvalues, so that directions of mere noise are not blown up


@torch.no_grad()
def whiten(conv: nn.Module | None, images: torch.Tensor) -> bool:
    """Set half of the filters of `conv` to the strongest whitening filters of `images`, the rest to their negatives.

    images: uint8, N×C×S×S. The filters are eigenvectors of the covariance of the k×k patches, divided by the square
    root of their eigenvalues, so that their responses are uncorrelated and of like size. Filters beyond twice the patch
    dimension (C·k²) keep their random start. Returns whether it did: a layer that is no convolution of such images, as
    in a network of one's own, stays as it is, and a line says so.
    """
    channels = images.shape[1]
    if not isinstance(conv, nn.Conv2d) or is_lazy(conv.weight) or conv.weight.shape[1] != channels:
        if conv is not None:
            tell(f"conv1 não é uma nn.Conv2d sobre as {channels} cores: fica com os pesos sorteados, e aprende.")
        return False
    size = conv.kernel_size
    images = images[: IMAGES * 32**2 // images[0, 0].numel()]
    patches = F.unfold((images.cpu().float() / 255 - 0.5) / 0.5, size, stride=2).transpose(1, 2).flatten(0, 1)
    eigenvalues, eigenvectors = torch.linalg.eigh(torch.cov(patches.T))
    filters = (eigenvectors / (eigenvalues + RIDGE).sqrt()).T.flip(0)  # strongest first
    count = min(conv.out_channels // 2, len(filters))
    pairs = torch.cat([filters[:count], -filters[:count]]).reshape(2 * count, *conv.weight.shape[1:])
    conv.weight[: 2 * count] = pairs.to(conv.weight)
    return True
