"""The file of a trained network, `best_model.pth`: its weights, and what is known of it."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from classificador.data.dataset import ImageData
from classificador.device import describe_device
from classificador.errors import CheckpointError, SettingsError, brief
from classificador.files.plain import assumptions, find_weights, recognise
from classificador.files.safe import BEST, MAX_BYTES, model_remedy, read_file, serialise, write_file
from classificador.network.build import sizes_and_notes
from classificador.network.cnn import CNN, OriginalFromPixels, architecture_of, make_network, unwrap
from classificador.network.model_info import HUGE, PROBED, ModelInfo, info_of, set_info
from classificador.paths import as_path
from classificador.portuguese import tell
from classificador.recipes import Settings

ALIKE = 0.02  # of 1 and the largest logit: processors differ by a thousandth, another activation by much more
SAME = 1e-3  # of the largest logit, between two answers of one network on one machine
RESUME_SIZE = 4  # of a resume point, in model files: the weights, Adam's two averages, and as much again for the rest


class Checkpoint(NamedTuple):
    """What a model file holds.

    weights: tensors on the CPU under the network's own names; that Symmetric stands around it, the architecture tells.
    network_class: whose they are.
    """

    info: ModelInfo
    weights: dict[str, torch.Tensor]
    network_class: type[nn.Module] = CNN

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain values, for a file."""
        return {"info": self.info.to_dict(), "weights": self.weights}


def save_checkpoint(path: str | Path, model: nn.Module, facts: dict[str, Any]) -> None:
    """Write the weights of `model` to `path`, with `facts` as in pack(); errors as in pack() and write_file()."""
    write_file(Path(path), BEST, pack(model, facts).to_dict())


def pack(model: nn.Module, facts: dict[str, Any]) -> Checkpoint:
    """Return what a file of `model` holds: copies of its weights, contiguous on the CPU, and what is known of it.

    facts: of a training, the parts of ModelInfo that the model does not know itself, as plain values.
    Raises CheckpointError for what no reader would take.
    """
    known, device = info_of(model), describe_device(next(model.parameters()).device)
    own = {"architecture": known.architecture, "device": device, "probe": _probe(model).tolist()}
    facts = known.to_dict() | facts | own
    weights = copy_weights(unwrap(model))
    try:
        return Checkpoint(ModelInfo.from_dict(facts), weights)
    except ValueError as error:
        text = "Isto não pode ser salvo: nomes ou números dele não cabem no arquivo de um modelo."
        raise CheckpointError(text) from error


def copy_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights as files hold them: on the CPU, contiguous, apart from the model's own memory."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}


@torch.no_grad()
def _probe(model: nn.Module) -> torch.Tensor:
    """Return what the network answers to an image that is always the same: with other computations it is another.

    The first PROBED logits; none where the weights overflow, which whoever uses them is told, or are of another type.
    """
    side, training = info_of(model).side, model.training
    image = (37 * torch.arange(3 * side**2) % 256).to(torch.uint8).reshape(1, 3, side, side)
    try:
        answer = model.eval()(image.to(next(model.parameters()).device)).flatten()[:PROBED].float().cpu()
    except RuntimeError:
        return torch.empty(0)
    finally:
        model.train(training)
    return answer if (answer.abs() < HUGE).all() else answer[:0]


def identify(model: nn.Module, settings: Settings, data: ImageData) -> None:
    """Note in its info with which arguments the network's class makes it, unless that is known.

    Tried are the sizes that network_sizes() gives, none, and those that its layers have: with the right ones the class
    makes a network of the same weights that answers alike. Where none are right its architecture stays unknown. The
    seed that was set last is noted where it gives some of these weights again.
    """
    if "made_by" in vars(model) or info_of(model).architecture:
        return
    network = unwrap(model)
    network_class, known, seed = type(network), info_of(model), torch.initial_seed() % 2**63
    with torch.random.fork_rng(devices=[]):
        for sizes in _likely_sizes(network, settings, data):
            with suppress(Exception):  # whatever the class raises, it is not made so
                architecture = architecture_of(model, network_class, sizes)
                info = replace(known, architecture=architecture, classes=data.classes)
                set_info(model, info)
                if not _same(_probe(model), _probe(_make(network_class, info, copy_weights(network)))):
                    raise ValueError("outra rede")
                torch.manual_seed(seed)
                drawn = unwrap(make_network(network_class, **sizes)).parameters()
                pairs = zip(network.parameters(), drawn, strict=True)
                is_of_seed = any(own.dim() > 1 and torch.equal(own.cpu(), new) for own, new in pairs)
                set_info(model, replace(known, architecture=architecture, seed=seed if is_of_seed else None))
                return
            set_info(model, known)


def _same(answer: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two answers to the probe image are of one network, on one machine."""
    return len(answer) == len(other) > 0 and bool((answer - other).abs().max() <= SAME * answer.abs().max())


def _likely_sizes(network: nn.Module, settings: Settings, data: ImageData) -> Iterator[dict[str, Any]]:
    """The arguments with which the class of the network may have made it."""
    taken = inspect.signature(type(network)).parameters
    sizes: dict[str, Any] = {}
    with suppress(SettingsError):  # for an argument that its layers may show
        sizes = sizes_and_notes(settings, data, type(network), None)[0]
    yield sizes
    yield {}
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)][:2]
    linear = [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)] or [0]
    seen: dict[str, Any] = {"hidden": linear[0], "classes": linear[-1]}
    seen["channels"] = tuple(layer.out_channels for layer in convolutions)
    seen["kernels"] = tuple(layer.kernel_size[0] for layer in convolutions)
    attributes = {name: getattr(network, name, None) for name in taken}
    seen |= {name: value for name, value in attributes.items() if isinstance(value, int | float | str | tuple | list)}
    yield sizes | {name: size for name, size in seen.items() if name in taken}


def check_saveable(model: nn.Module, facts: dict[str, Any]) -> None:
    """Raise CheckpointError, before a long training rather than after it, if `model` could not be saved and opened.

    facts: as in pack(). The network is made anew from what its file would hold, by the code that opens files.
    """
    if len(first := _probe(model)) and not _same(first, _probe(model)):
        problem = "A rede responde de outro modo cada vez que é perguntada, também na predição."
        raise CheckpointError(problem, "Use nn.Dropout, ou F.dropout(x, p, self.training).")
    if not info_of(model).architecture:
        raise CheckpointError(
            "Esta rede não pode ser salva: não se sabe com que argumentos foi feita, ou não são números, textos "
            "curtos, None ou listas deles.",
            "Escreva os tamanhos como valores padrão no __init__ da classe, ou crie-a com build(…).",
        )
    try:
        saved = pack(model, facts)
        _make(getattr(model, "made_by", type(unwrap(model))), saved.info, saved.weights)
    except CheckpointError:
        raise
    except Exception as error:  # the class is the user's to edit
        problem = f"Esta rede não poderia ser aberta depois de salva ({brief(error) or type(error).__name__})."
        remedy = "O arquivo guarda só os argumentos e os pesos: faça as camadas, no __init__, a partir dos argumentos."
        raise CheckpointError(problem, remedy) from error
    if RESUME_SIZE * len(serialise(BEST, {"weights": saved.weights})) > MAX_BYTES:
        limit = MAX_BYTES // 2**20
        raise CheckpointError(f"Esta rede é grande demais para ser salva e retomada ({limit} MB no máximo).")


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Return what a model file holds; errors as in read_file."""
    path = as_path(path, CheckpointError)
    content = read_file(path, BEST, model_remedy(path))
    try:
        if "kind" in content:
            weights = content.get("weights")
            if not isinstance(weights, dict) or not all(isinstance(one, torch.Tensor) for one in weights.values()):
                raise ValueError("não são pesos")
            return Checkpoint(ModelInfo.from_dict(content.get("info")), weights)
        weights, prefix = find_weights(content)
    except ValueError as error:
        problem = f"{path} não foi gravado por este projeto e foi recusado."
        raise CheckpointError(problem, f"{model_remedy(path)}.") from error
    try:
        network_class, architecture = recognise(weights, prefix)
        return Checkpoint(ModelInfo.of_weights_alone(architecture), weights, network_class)
    except ValueError as error:
        raise _of_another_network(path, error) from error


def _of_another_network(path: str | Path, error: Exception) -> CheckpointError:
    problem = f"{path} traz pesos de outra rede, que não é a deste projeto nem a original ({brief(error)})."
    return CheckpointError(problem, "Para classificar com ela, use o programa que a fez.")


def load_model(path: str | Path = "best_model.pth", network_class: Callable[..., nn.Module] = CNN) -> nn.Module:
    """Return the network saved in `path`, on the CPU, ready to predict; with its attribute `info`, a ModelInfo.

    network_class: makes the network of the saved architecture; give the notebook's own class after editing it. Floating
    point weights of any precision take the network's own, float32.
    A file of weights alone, ours or the original network's, is opened too; what is then assumed is told.
    Raises CheckpointError when the file cannot be used or its weights do not fit the network.
    """
    saved = read_checkpoint(path)
    if saved.network_class is OriginalFromPixels:
        network_class = OriginalFromPixels
    try:
        model = _make(network_class, saved.info, saved.weights)
    except Exception as error:  # the class is the user's to edit
        if not saved.info.preset:
            raise _of_another_network(path, error) from error
        raise CheckpointError(
            f"Os pesos de {path} não combinam com a rede {getattr(network_class, '__name__', 'dada')}.",
            "Se você editou a rede no caderno, execute antes a célula que a define, ou treine de novo. "
            f"Primeira diferença: {brief(error)}",
        ) from error
    if not saved.info.preset:
        tell(f"{path}: {assumptions(saved.network_class, saved.info)}")
    return model.eval()


def _make(network_class: Callable[..., nn.Module], info: ModelInfo, weights: dict[str, torch.Tensor]) -> nn.Module:
    """Return the network of a file. Raises any error for weights that are not its own, or impossible."""
    # What DistributedDataParallel and torch.compile put before the names.
    weights = {re.sub(r"^(module\.|_orig_mod\.)+", "", name): value for name, value in weights.items()}
    with torch.device("meta"):  # sizes without memory: a hostile architecture may ask for any amount
        expected = make_network(network_class, **info.architecture)
    check_fit(unwrap(expected), weights)
    if info_of(expected).architecture.get("classes", len(info.classes)) != len(info.classes):
        raise ValueError(f"{len(info.classes)} classes")
    model = make_network(network_class, **info.architecture)
    unwrap(model).load_state_dict(weights)
    for name, value in model.state_dict().items():  # as the network holds them: a double can be too large for it
        if not torch.isfinite(value).all() or (name.endswith("running_var") and (value < 0).any()):
            raise ValueError(f"{name}: valores impossíveis")
    set_info(model, info)
    if info.probe and _is_cheap(info.side, weights):
        answer, then = _probe(model), torch.tensor(info.probe)
        if len(answer) and (len(answer) != len(then) or (answer - then).abs().max() > ALIKE * (1 + then.abs().max())):
            raise ValueError("ela responde de outro modo a uma mesma imagem")
    return model


def _is_cheap(side: int, weights: dict[str, torch.Tensor]) -> bool:
    """Whether an answer takes little memory and time: a hostile file could ask for any amount, and nobody's does."""
    convolutions = [weight for weight in weights.values() if weight.dim() == 4]
    largest = max((weight.shape[0] for weight in convolutions), default=0)
    return largest * side**2 <= 2**23 and sum(weight.numel() for weight in convolutions) * side**2 <= 2**33


def check_fit(model: nn.Module, weights: dict[str, Any]) -> None:
    """Raise ValueError naming the first difference if `weights` are not the network's by name and shape."""
    own = model.state_dict()
    for name in [*own, *weights]:
        mine, theirs = (_size(state[name]) if name in state else "não tem" for state in (own, weights))
        if mine != theirs:
            raise ValueError(f"{name}: na rede {mine}, no arquivo {theirs}")


def _size(weight: torch.Tensor) -> str:
    return f"{list(weight.shape)}{'' if weight.is_floating_point() else ' inteiros'}"
