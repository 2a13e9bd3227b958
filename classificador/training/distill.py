"""Learning from a teacher: its file, and its softened answers to the images of a batch."""

import zlib
from pathlib import Path
from typing import cast

import torch

from classificador.data.dataset import ImageData
from classificador.device import autocast, place
from classificador.errors import CheckpointError
from classificador.files.model_file import load_model
from classificador.network.teacher import Teacher

SOFTENING = 3.0  # what its logits are divided by: at 1 its answers to images it learnt are little more than labels


def load_teacher(path: str, data: ImageData, device: torch.device) -> Teacher:
    """Return the teacher saved in `path`, on `device`; its attribute `facts` tells it from others.

    data: that the student learns. Raises CheckpointError when there is none, or one of other classes or another side.
    """
    if not Path(path).exists():
        raise CheckpointError(f"Falta o professor ({path}). Treine-o antes: `python -m classificador professor`.")
    loaded = load_model(path, Teacher)
    if loaded.info.classes != tuple(data.classes):
        raise CheckpointError(f"O professor em {path} conhece outras classes que as destas imagens. Treine outro.")
    if (learnt := loaded.info.side) != (side := data.train.images.shape[-1]):
        raise CheckpointError(f"O professor em {path} aprendeu com imagens de {learnt} pixels; estas têm {side}.")
    total = 0
    for weight in loaded.state_dict().values():
        total = zlib.crc32(weight.contiguous().numpy(), total)
    teacher = cast(Teacher, loaded)
    teacher.facts = {"crc32": f"{total:08x}", "val_accuracy": loaded.info.val_accuracy}
    place(teacher, device)
    return teacher


@torch.no_grad()
def soft_targets(teacher: Teacher, images: torch.Tensor) -> torch.Tensor:
    """Return the teacher's softened probabilities for images as the network sees them, float32 N×classes."""
    with autocast(images.device):
        logits = teacher(images)
    return (logits.float() / SOFTENING).softmax(1)
