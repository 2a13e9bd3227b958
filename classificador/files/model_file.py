"""The file of a trained network, `best_model.pth`: its weights, and what it says about itself."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from classificador.device import describe_device
from classificador.errors import CheckpointError, brief
from classificador.files.model_info import LoadedModel, ModelInfo, architecture_is_sound
from classificador.files.plain import assumptions, find_weights, recognise
from classificador.files.safe import BEST, MAX_BYTES, model_remedy, read_file, serialise, write_file
from classificador.network.cnn import CNN, OriginalFromPixels, architecture_of, bare, make_network

RESUME_SIZE = 4  # of a resume file, in model files: the weights now and at their best, and Adam's two averages


@dataclass(frozen=True)
class Checkpoint:
    """What a model file holds. Raises ValueError for weights that are none.

    weights: tensors on the CPU under the network's own names; that Symmetric stands around it, the architecture tells.
    network: whose they are.
    """

    info: ModelInfo
    weights: dict[str, torch.Tensor]
    network: type[nn.Module] = CNN

    def __post_init__(self):
        if not isinstance(self.weights, dict) or not all(
            isinstance(name, str) and isinstance(weight, torch.Tensor) for name, weight in self.weights.items()
        ):
            raise ValueError("não são pesos")

    def to_dict(self) -> dict:
        """Tensors and plain values, for a file."""
        return {"info": self.info.to_dict(), "weights": self.weights}


def save_checkpoint(path: str | Path, model: nn.Module, facts: dict) -> None:
    """Write the weights of `model` to `path`, with `facts` as in pack(); errors as in pack() and write_file()."""
    write_file(Path(path), BEST, pack(model, facts).to_dict())


def pack(model: nn.Module, facts: dict) -> Checkpoint:
    """Return what a file of `model` holds: copies of its weights, contiguous on the CPU, and its metadata.

    facts: the parts of ModelInfo that the model does not know itself, as plain values.
    Raises CheckpointError for metadata that no reader would take.
    """
    own = {"architecture": architecture_of(model), "device": describe_device(next(model.parameters()).device)}
    try:
        return Checkpoint(ModelInfo.from_dict(facts | own), copy_weights(bare(model)))
    except ValueError as error:
        text = "Isto não pode ser salvo: nomes ou números dele não cabem no arquivo de um modelo."
        raise CheckpointError(text) from error


def copy_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights as files hold them: on the CPU, contiguous, apart from the model's own memory."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}


def check_saveable(model: nn.Module) -> None:
    """Raise CheckpointError, before a long training rather than after it, if `model` could not be saved and loaded."""
    architecture = architecture_of(model)
    if not architecture:
        raise CheckpointError("Esta rede não pode ser salva: não diz os seus tamanhos. Crie-a com build(…).")
    if not architecture_is_sound(architecture):
        raise CheckpointError(
            "Esta rede não pode ser salva: seus argumentos precisam ser números, textos curtos, None ou listas deles."
        )
    content = {"architecture": architecture, "weights": copy_weights(bare(model))}
    if RESUME_SIZE * len(serialise(BEST, content)) > MAX_BYTES:
        raise CheckpointError(
            f"Esta rede é grande demais para ser salva e retomada ({MAX_BYTES // 2**20} MB no máximo)."
        )


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Return what a model file holds; errors as in read_file."""
    path = Path(path)
    content = read_file(path, BEST, model_remedy(path))
    try:
        if "kind" in content:
            return Checkpoint(ModelInfo.from_dict(content.get("info")), content.get("weights", {}))
        weights, prefix = find_weights(content)
    except ValueError as error:
        text = f"{path} não foi gravado por este projeto e foi recusado. {model_remedy(path)}."
        raise CheckpointError(text) from error
    try:
        network, architecture = recognise(weights, prefix)
        return Checkpoint(ModelInfo.of_weights_alone(architecture), weights, network)
    except ValueError as error:
        raise _of_another_network(path, error) from error


def _of_another_network(path: str | Path, error: Exception) -> CheckpointError:
    text = f"{path} traz pesos de outra rede, que não é a deste projeto nem a original ({brief(error)})"
    return CheckpointError(f"{text}. Para classificar com ela, use o programa que a fez.")


def load_model(path: str | Path = "best_model.pth", network: Callable[..., nn.Module] = CNN) -> LoadedModel:
    """Return the network saved in `path`, on the CPU, ready to predict; with its attribute `info`.

    network: builds the model from the saved architecture; give the notebook's own class after editing it. Floating
    point weights of any precision take the network's own, float32.
    A file of weights alone, ours or the original network's, is opened too; what is then assumed is printed.
    Raises CheckpointError when the file cannot be used or its weights do not fit the network.
    """
    saved = read_checkpoint(path)
    architecture = saved.info.architecture
    # What DistributedDataParallel and torch.compile put before the names.
    weights = {re.sub(r"^(module\.|_orig_mod\.)+", "", name): value for name, value in saved.weights.items()}
    if saved.network is OriginalFromPixels:
        network = OriginalFromPixels
    try:
        with torch.device("meta"):  # sizes without memory: a hostile architecture may ask for any amount
            expected = make_network(network, **architecture)
        check_fit(bare(expected), weights)
        model = cast(LoadedModel, make_network(network, **architecture))
        bare(model).load_state_dict(weights)
        for name, value in model.state_dict().items():  # as the network holds them: a double can be too large for it
            if not torch.isfinite(value).all() or (name.endswith("running_var") and (value < 0).any()):
                raise ValueError(f"{name}: valores impossíveis")
    except Exception as error:  # the class is the user's to edit
        if not saved.info.preset:
            raise _of_another_network(path, error) from error
        raise CheckpointError(
            f"Os pesos de {path} não combinam com a rede {network.__name__}. Se você editou a rede no caderno, execute "
            f"antes a célula que a define, ou treine de novo. Primeira diferença: {brief(error)}"
        ) from error
    if not saved.info.preset:
        print(f"{path}: {assumptions(saved.network, saved.info)}")
    model.info, model.epochs_trained = saved.info, saved.info.epoch + saved.info.earlier_epochs
    return model.eval()


def check_fit(model: nn.Module, weights: dict) -> None:
    """Raise ValueError naming the first difference if `weights` are not the network's by name and shape."""
    own = model.state_dict()
    for name in [*own, *weights]:
        mine, theirs = (_size(state[name]) if name in state else "não tem" for state in (own, weights))
        if mine != theirs:
            raise ValueError(f"{name}: na rede {mine}, no arquivo {theirs}")


def _size(weight: torch.Tensor) -> str:
    return f"{list(weight.shape)}{'' if weight.is_floating_point() else ' inteiros'}"
