"""The settings of one run, and the recipes (presets) they start from."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from classificador.errors import SettingsError

LARGEST = 10_000  # of a network's sizes, as in the files of models
MAX_EPOCHS = 10_000  # the history of more would not fit the files


FEW = "poucas"  # what stands for a recipe in the records of a training from few pictures: see training/few.py
SIZES = ("channels", "kernels", "pools", "hidden")  # the settings that CNN takes as arguments


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a training run does. Impossible values raise SettingsError at construction."""

    preset: str
    epochs: int
    batch_size: int
    lr: float  # peak learning rate of Adam
    # network: the sizes that CNN takes
    channels: tuple[int, int] = (64, 192)
    kernels: tuple[int, int] = (5, 3)
    pools: tuple[int, int] = (3, 3)  # so that the second convolution has 10×10 positions; with (2, 4), 16×16
    hidden: int = 256
    symmetric: bool = True  # an image and its mirror image are of one class, and answered alike
    train_first: bool = False  # let the first convolution learn, too: it starts from whitening filters
    # optimisation
    weight_decay: float = 1e-4  # decoupled, as in AdamW
    label_smoothing: float = 0.1
    # augmentation
    shift: int = 2  # pixels
    cutout: int = 0  # side of the square of each image that is hidden, pixels, even
    mixup: float = 0.0  # fraction of the batches whose images are mixed in pairs
    # distillation
    teacher: str = ""  # the file of the network whose answers to the training images are learnt; "": their labels
    # run
    start_from: str = "auto"  # the file of the model whose weights it begins with; "auto": see find_start(); "zero"
    seed: int = 42
    device: str = "auto"

    def __post_init__(self) -> None:
        for names, holds, remedy in _RULES:
            for name in names.split():
                if not holds(getattr(self, name)):
                    raise SettingsError(f"{remedy}.", field=name)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_whole(item, 1) and item <= LARGEST for item in value)


# What settings have to be, and what is said of one that is not.
_RULES: list[tuple[str, Callable[[Any], bool], str]] = [
    ("epochs batch_size hidden", lambda v: _whole(v, 1), "precisa ser um inteiro a partir de 1"),
    ("hidden", lambda v: v <= LARGEST, f"no máximo {LARGEST}"),
    ("epochs", lambda v: v <= MAX_EPOCHS, f"no máximo {MAX_EPOCHS}"),
    ("batch_size", lambda v: v > 1, "precisa ser pelo menos 2, por causa da normalização em lote"),
    ("lr", lambda v: _number(v) and v > 0, "precisa ser um número maior que 0, como 0.001"),
    ("channels kernels pools", _pair, f"precisa ser um par de inteiros de 1 a {LARGEST}"),
    ("pools", lambda v: math.prod(v) <= 32, "o produto não pode passar de 32, o menor lado das imagens"),
    ("symmetric train_first", lambda v: isinstance(v, bool), "precisa ser True ou False"),
    ("weight_decay", lambda v: _number(v) and v >= 0, "não pode ser negativo"),
    ("label_smoothing", lambda v: _number(v) and 0 <= v < 1, "precisa estar entre 0 e 1 (1 excluído)"),
    ("shift", lambda v: _whole(v, 0) and v < 32, "precisa ser um inteiro de 0 a 31 (pixels)"),
    ("cutout", lambda v: _whole(v, 0) and v <= 32 and v % 2 == 0, "precisa ser um inteiro par de 0 a 32 (pixels)"),
    ("mixup", lambda v: _number(v) and 0 <= v <= 1, "precisa estar entre 0 e 1"),
    ("teacher", lambda v: isinstance(v, str), 'precisa ser o nome de um arquivo, ou "" para nenhum'),
    ("start_from", lambda v: isinstance(v, str) and v != "", 'precisa ser o nome de um arquivo, "auto" ou "zero"'),
    ("seed", lambda v: _whole(v, 0) and v < 2**63, "precisa ser um inteiro a partir de 0"),
    ("device", lambda v: isinstance(v, str), 'use "auto", "cpu", "cuda" ou "mps"'),
]


PRESETS = {
    # Chosen for processors without bfloat16, which readers have.
    "relampago": Settings("relampago", epochs=2, batch_size=96, lr=1e-2, channels=(32, 128), kernels=(3, 3), shift=0),
    "rapido": Settings("rapido", epochs=9, batch_size=128, lr=1e-2, weight_decay=0.05),
    "completo": Settings(
        "completo",
        epochs=23,
        batch_size=128,
        lr=1e-2,
        channels=(64, 128),
        pools=(2, 4),
        hidden=384,
        weight_decay=0.05,
        shift=3,
    ),
    # Learns from the answers of a deeper network, which `python -m classificador professor` trains beforehand.
    # Made for a GPU: minutes there, hours on a CPU.
    "destilado": Settings(
        "destilado",
        # As many passes as in the 133 epochs of the shipped model, which was shown both the image and its mirror image
        # at each step; they were what the GPU time at hand allowed.
        epochs=266,
        batch_size=256,
        lr=1e-2,
        channels=(128, 160),
        pools=(2, 4),
        hidden=384,
        train_first=True,
        weight_decay=0.02,
        label_smoothing=0.0,
        shift=3,
        mixup=0.5,
        teacher="professor.pth",
    ),
}

# The accuracy of recipes on CIFAR-10's test images, in whole percents (benchmarks/time_to_accuracy.json).
REACHES = {"relampago": 0.80, "rapido": 0.86, "completo": 0.88}

# The recipe of the teacher, which is another network: see teacher.py. Label smoothing would blur which
# classes it takes for alike (Müller et al. 2019, arXiv 1906.02629).
TEACHER = Settings(
    "professor", epochs=30, batch_size=256, lr=4e-3, weight_decay=0.05, label_smoothing=0.0, shift=3, cutout=12
)


def make_settings(preset: str = "rapido", **changes: Any) -> Settings:
    """Return the recipe `preset` with the given fields changed; a change of None keeps the recipe's value.

    preset: one of PRESETS. Raises SettingsError for an unknown preset, an unknown field or an
    impossible value.
    """
    if preset not in PRESETS:
        raise SettingsError(f"Receita desconhecida: {preset!r}.", f"Use uma destas: {', '.join(PRESETS)}.")
    known = {field.name for field in fields(Settings)} - {"preset"}
    for name in changes:
        if name not in known:
            raise SettingsError("parâmetro desconhecido.", f"Existem: {', '.join(sorted(known))}.", name)
    return replace(PRESETS[preset], **{name: value for name, value in changes.items() if value is not None})
