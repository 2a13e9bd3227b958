"""The file of a trained network, `best_model.pth`: its weights, and what it says about itself."""

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch
from torch import nn

from classificador.assemble import make_network
from classificador.brazilian import duration, number, percent
from classificador.calibration import COLDEST, HOTTEST
from classificador.checkpoint import BEST, MAX_BYTES, model_remedy, read_file, serialise, write_file
from classificador.device import describe_device
from classificador.errors import CheckpointError, brief
from classificador.model import CNN, bare

# What the metadata must hold: who made the weights, how good they are, and how to build the network for them.
TYPES = dict.fromkeys(["preset", "created", "split", "device", "precision"], str)
TYPES |= dict.fromkeys(["epoch", "val_accuracy", "val_loss", "seconds"], (int, float))
TYPES |= dict.fromkeys(["settings", "versions", "history", "architecture"], dict) | {"classes": list}
RESUME_SIZE = 4  # of a resume file, in model files: the weights now and at their best, and Adam's two averages
LARGEST = 10_000  # of the whole numbers in an architecture: bounds what the sizes of a hostile file can ask for
LARGEST_SIDE = 512  # pixels; pictures are scaled to it before the network sees them


def save_checkpoint(path: str | Path, model: nn.Module, info: dict) -> None:
    """Write the weights of `model` and `info` (plain values only) to `path`; see write_model."""
    write_model(Path(path), pack(model, info))


def write_model(path: Path, packed: dict) -> None:
    """Write what pack() made; see write_file. Raises CheckpointError also for metadata that no reader would take."""
    if not is_model(packed):
        raise CheckpointError("Isto não pode ser salvo: nomes ou números dele não cabem no arquivo de um modelo.")
    write_file(path, BEST, packed)


def pack(model: nn.Module, info: dict) -> dict:
    """Return what a model file holds: copies of the weights, contiguous on the CPU, and the completed metadata.

    The weights have the network's own names; that Symmetric stood around it is told by the architecture.
    """
    architecture = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in getattr(model, "architecture", {}).items()
    }
    device = describe_device(next(model.parameters()).device)
    return {"info": info | {"architecture": architecture, "device": device}, "weights": copy_weights(bare(model))}


def copy_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights as files hold them: on the CPU, contiguous, apart from the model's own memory."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}


def check_saveable(model: nn.Module) -> None:
    """Raise CheckpointError, before a long training rather than after it, if `model` could not be saved and loaded."""
    if not hasattr(model, "architecture"):
        raise CheckpointError("Esta rede não pode ser salva: não diz os seus tamanhos. Crie-a com build(…).")
    packed = pack(model, {})
    if not _architecture_is_sound(packed["info"]["architecture"]):
        raise CheckpointError(
            "Esta rede não pode ser salva: seus argumentos precisam ser números, textos curtos, None ou listas deles."
        )
    if RESUME_SIZE * len(serialise(BEST, packed)) > MAX_BYTES:
        raise CheckpointError(
            f"Esta rede é grande demais para ser salva e retomada ({MAX_BYTES // 2**20} MB no máximo)."
        )


def read_checkpoint(path: str | Path) -> dict:
    """Return "info" (metadata) and "weights" (tensors on the CPU) of a model file; errors as in read_file."""
    path = Path(path)
    content = read_file(path, BEST, model_remedy(path))
    if not is_model(content):
        raise CheckpointError(f"{path} não foi gravado por este projeto e foi recusado. {model_remedy(path)}.")
    return content


def is_model(content: dict) -> bool:
    """Whether the content of a file has what pack() makes, each part of the right kind."""
    weights = content.get("weights")
    sound = isinstance(weights, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    )
    return sound and _info_is_sound(content.get("info"))


def load_model(path: str | Path = "best_model.pth", network: Callable[..., nn.Module] = CNN) -> nn.Module:
    """Return the network saved in `path`, on the CPU, ready to predict; its metadata is the attribute `info`.

    network: builds the model from the saved architecture; give the notebook's own class after editing it. Floating
    point weights of any precision take the network's own, float32.
    Raises CheckpointError when the file cannot be used or its weights do not fit the network.
    """
    content = read_checkpoint(path)
    # What DistributedDataParallel and torch.compile put before the names.
    weights = {re.sub(r"^(module\.|_orig_mod\.)+", "", name): value for name, value in content["weights"].items()}
    try:
        with torch.device("meta"):  # sizes without memory: a hostile architecture may ask for any amount
            expected = make_network(network, **content["info"]["architecture"])
        check_fit(bare(expected), weights)
        model = make_network(network, **content["info"]["architecture"])
        bare(model).load_state_dict(weights)
        for name, value in model.state_dict().items():  # as the network holds them: a double can be too large for it
            if not torch.isfinite(value).all() or (name.endswith("running_var") and (value < 0).any()):
                raise ValueError(f"{name}: valores impossíveis")
    except Exception as error:  # the class is the user's to edit
        raise CheckpointError(
            f"Os pesos de {path} não combinam com a rede {network.__name__}. Se você editou a rede no caderno, execute "
            f"antes a célula que a define, ou treine de novo. Primeira diferença: {brief(error)}"
        ) from error
    model.info = content["info"]
    return model.eval()


def check_fit(model: nn.Module, weights: dict) -> None:
    """Raise ValueError naming the first difference if `weights` are not the network's by name and shape."""
    expected, found = (
        {
            name: f"{list(value.shape)}{'' if value.is_floating_point() else ' inteiros'}"
            for name, value in state.items()
        }
        for state in (model.state_dict(), weights)
    )
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            mine, theirs = (sizes.get(name, "não tem") for sizes in (expected, found))
            raise ValueError(f"{name}: na rede {mine}, no arquivo {theirs}")


def describe_checkpoint(info: dict) -> str:
    """Return in a few Portuguese lines what a model is: recipe, epoch, validation score, when and where it was made."""
    created = datetime.fromisoformat(info["created"])
    epoch = number(info["epoch"], 0 if info["epoch"] == round(info["epoch"]) else 1)
    size = ", ".join(f"{name} {value}" for name, value in info["architecture"].items())
    return (
        f"Receita:     {info['preset']}, época {epoch} de {info['settings']['epochs']}, {duration(info['seconds'])}\n"
        f"Validação:   acurácia {percent(info['val_accuracy'], 2)}, perda {number(info['val_loss'], 3)}\n"
        f"{_distillation(info)}"
        f"Calibração:  temperatura {number(info.get('temperature', 1.0), 3)}\n"
        f"Treinado em: {created:%d/%m/%Y %H:%M} UTC, {info['device']}, {info['precision']}, "
        f"torch {info['versions']['torch']}\n"
        f"Divisão:     {info['split']}\n"
        f"Rede:        {size}\n"
        f"Classes:     {', '.join(info['classes'])}"
    )


def _distillation(info: dict) -> str:
    """A line for a network that did not learn the labels."""
    if not (teacher := info.get("teacher")):
        return ""
    score = percent(teacher["val_accuracy"], 2)
    return f"Destilação:  aprendeu as respostas de um professor, com {score} na validação\n"


def _info_is_sound(info: object) -> bool:
    """Whether the metadata has every part that this project shows, each of the right type, printable and of a size."""
    if not isinstance(info, dict) or not all(isinstance(info.get(name), kind) for name, kind in TYPES.items()):
        return False
    classes, numbers = info["classes"], [info[name] for name in ("epoch", "val_accuracy", "val_loss", "seconds")]
    temperature, doubt = info.get("temperature", 1.0), info.get("doubt_below", 0.0)
    teacher = info.get("teacher", {})
    texts = [
        *(info[name] for name in ("preset", "split", "device", "precision")),
        info["versions"].get("torch"),
        *classes,
    ]
    try:
        datetime.fromisoformat(info["created"])
    except ValueError:
        return False
    return (
        all(map(_printable, texts))
        and isinstance(temperature, float)
        and isinstance(doubt, float)
        and isinstance(teacher, dict)
        and (not teacher or isinstance(teacher.get("val_accuracy"), float))
        and 0 <= doubt <= 1
        and COLDEST <= temperature <= HOTTEST
        and all(isinstance(value, int | float) and abs(value) < 1e12 for value in numbers)
        and type(info["settings"].get("epochs")) is int
        and abs(info["settings"]["epochs"]) < 1e12
        and len(set(classes)) == len(classes) > 0
        and _architecture_is_sound(info["architecture"])
        and len(classes) == info["architecture"].get("classes", 10)
    )


def _architecture_is_sound(architecture: dict) -> bool:
    """Whether these can be the arguments of a network: few, plain, printable and of a size."""
    values = []
    for value in architecture.values():
        values += value if isinstance(value, list) and len(value) < 50 else [value]
    side = architecture.get("side", 32)
    return (
        len(architecture) < 50
        and all(map(_printable, architecture))
        and all(value is None or _printable(value) or _bounded(value) for value in values)
        and type(architecture.get("symmetric", False)) is bool
        and type(side) is int
        and 1 <= side <= LARGEST_SIDE
    )


def _bounded(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= LARGEST


def _printable(text: object) -> bool:
    """Control characters could rewrite the terminal they are printed to, and endless texts fill it."""
    return isinstance(text, str) and text.isprintable() and len(text) < 200
