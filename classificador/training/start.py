"""What a training starts from: a network that has learnt other classes already, or a teacher."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import cast

import torch
from torch import nn

from classificador.constants import CLASSES
from classificador.data.dataset import ImageData
from classificador.device import to_device
from classificador.errors import CheckpointError
from classificador.files.model_file import load_model, read_checkpoint
from classificador.network.cnn import CNN, OriginalCNN
from classificador.network.model_info import info_of, set_info
from classificador.network.teacher import Teacher
from classificador.paths import as_path
from classificador.portuguese import percent, tell
from classificador.training.run_folder import Runs

SHIPPED = Path("best_model.pth")  # which knows CIFAR-10, until a training on other classes takes its place


def find_start(
    start_from: str,
    classes: tuple[str, ...],
    checkpoint: str | Path = SHIPPED,
    network_class: Callable[..., nn.Module] = CNN,
) -> nn.Module | None:
    """Return the trained network with whose weights a training on `classes` begins, for build(); None for new ones.

    start_from: the file of a model; "zero" for none; or "auto": for other classes than CIFAR-10's, best_model.pth, or
    what a file held before that a training took the place of, if it knows CIFAR-10. checkpoint: the file that the
    training renews, beside which such files are kept, too. network_class: the notebook's own, which may have trained
    the file, or else the package's did. Says in one line which network it is.
    A model of few pictures is none to begin with: it has learnt of them what cross-validation is to find out anew.
    Raises CheckpointError for a file that cannot be used.
    """
    where = str(start_from).lower()
    if where == "zero" or (where == "auto" and classes == CLASSES):
        return None
    if where != "auto" and read_checkpoint(start_from).info.known:
        tell(f"{start_from} já aprendeu de poucas imagens: em vez de partir dele, aprende-se de novo de todas.")
        where = "auto"
    if where == "auto":
        found = next(_of_cifar10(checkpoint, network_class), None)
        if found is None:
            tell("Não há best_model.pth do CIFAR-10 de que partir; os pesos começam ao acaso.")
            return None
        path, model = found
    else:
        path, model = Path(start_from), _open(Path(start_from), network_class)
    if isinstance(model, OriginalCNN):
        raise CheckpointError(f"{path} tem os pesos da rede original, de que a deste projeto não pode partir.")
    info = info_of(model)
    made = f"{info.preset}, {info.created[:10]}" if info.preset else "só pesos"
    score = f", {percent(info.val_accuracy)} na validação" if info.preset else ""
    set_info(model, replace(info, start=f"{path.name[:100]} ({made})"))
    tell(
        f"Os pesos partem de {path}: {info.preset or made}, {len(info.classes)} classes{score}. "
        '(Do zero: START_FROM = "zero"; no terminal, --partir-de zero.)'
    )
    return model


def _open(path: Path, network_class: Callable[..., nn.Module]) -> nn.Module:
    """Return the network in a file, which that class trained or the package's. Raises CheckpointError."""
    if network_class is not CNN:
        with suppress(CheckpointError):
            return load_model(path, network_class)
    return load_model(path)


def _of_cifar10(checkpoint: str | Path, network_class: Callable[..., nn.Module]) -> Iterator[tuple[Path, nn.Module]]:
    """The networks like CNN that know CIFAR-10, with their files: the shipped one, then those set aside."""
    kept = (sorted(runs.holding(SHIPPED.name), reverse=True) for runs in (Runs(SHIPPED), Runs(checkpoint)))
    for path in [SHIPPED, *chain(*kept)]:
        try:
            saved = read_checkpoint(path)
            if saved.network_class is CNN and saved.info.classes == CLASSES:
                yield path, _open(path, network_class)
        except CheckpointError:
            continue


def load_teacher(path: str, data: ImageData, device: torch.device) -> Teacher:
    """Return the teacher saved in `path`, on `device`; its attribute `fingerprint` tells it from others.

    data: that the student learns. Raises CheckpointError when there is none, or one of other classes or another side.
    """
    file = as_path(path, CheckpointError)
    if not file.exists():
        raise CheckpointError(f"Falta o professor ({path}).", "Treine-o antes: `python -m classificador professor`.")
    teacher = cast(Teacher, load_model(file, Teacher))
    info, side = info_of(teacher), data.side
    if not info.preset:
        raise CheckpointError(f"{path} traz só pesos, e não os de um professor.", "Treine um, ou dê o arquivo dele.")
    if info.classes != tuple(data.classes):
        raise CheckpointError(f"O professor em {path} conhece outras classes que as destas imagens.", "Treine outro.")
    if info.side != side:
        problem = f"O professor em {path} aprendeu com imagens de {info.side} pixels; estas têm {side}."
        raise CheckpointError(problem)
    teacher.fingerprint = {"crc32": f"{zlib.crc32(file.read_bytes()):08x}", "val_accuracy": info.val_accuracy}
    to_device(teacher, device)
    return teacher
