"""The settings of one run, and the recipes (presets) they start from."""

import math
from dataclasses import asdict, dataclass, fields, replace

from classificador.errors import SettingsError

MAX_EPOCHS = 10_000  # the history of more would not fit the files


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a training run does. Impossible values raise SettingsError at construction."""

    preset: str
    epochs: int
    batch_size: int
    lr: float  # peak learning rate of Adam
    # network: the arguments of CNN
    channels: tuple[int, int] = (64, 128)
    kernels: tuple[int, int] = (5, 3)
    pools: tuple[int, int] = (2, 4)
    hidden: int = 256
    dropout: float = 0.0
    norm: bool = True  # batch normalisation
    contrast: bool = False  # the first layer's responses at each point divided by their strength there
    means: bool = False  # the second pooling keeps the mean of each region beside its maximum
    mirror: bool = False  # an image and its mirror image seen together, and answered alike, unless flip is False
    whiten: bool = True  # fix the first convolution to the whitening filters of the training patches
    train_first: bool = False  # let it learn from there on
    # optimisation
    beta2: float = 0.99  # Adam's default 0.999 remembers longer than these runs last
    weight_decay: float = 1e-4  # decoupled, as in AdamW
    label_smoothing: float = 0.1
    warmup: float = 0.2  # fraction of the steps in which lr rises; afterwards it falls to zero. 0: lr stays constant
    # augmentation
    shift: int = 2  # pixels
    flip: bool = True  # every image mirrored in every other epoch; False where that changes its meaning
    cutout: int = 0  # side of the square of each image that is hidden, pixels, even
    mixup: float = 0.0  # fraction of the batches whose images are mixed in pairs
    # distillation
    teacher: str = ""  # the file of the network whose answers to the training images are learnt; "": their labels
    # run
    bf16: bool = False  # matrix products in bfloat16, where the machine has it natively: see device.autocast()
    seed: int = 42
    device: str = "auto"

    def __post_init__(self):
        _require(_number(self.mixup) and 0 <= self.mixup <= 1, "mixup", "precisa estar entre 0 e 1")
        _require(isinstance(self.teacher, str), "teacher", 'precisa ser o nome de um arquivo, ou "" para nenhum')
        for name in ("epochs", "batch_size", "hidden"):
            _require(_whole(getattr(self, name), 1), name, "precisa ser um inteiro a partir de 1")
        _require(self.epochs <= MAX_EPOCHS, "epochs", f"no máximo {MAX_EPOCHS}")
        alone = self.batch_size == 1 and self.norm
        _require(not alone, "batch_size", "precisa ser pelo menos 2, por causa da normalização em lote")
        _require(_number(self.lr) and self.lr > 0, "lr", "precisa ser um número maior que 0, como 0.001")
        _require(_whole(self.seed, 0) and self.seed < 2**63, "seed", "precisa ser um inteiro a partir de 0")
        _require(_whole(self.shift, 0) and self.shift < 32, "shift", "precisa ser um inteiro de 0 a 31 (pixels)")
        even = _whole(self.cutout, 0) and self.cutout <= 32 and self.cutout % 2 == 0
        _require(even, "cutout", "precisa ser um inteiro par de 0 a 32 (pixels)")
        for name in ("dropout", "label_smoothing", "warmup", "beta2"):
            value = getattr(self, name)
            _require(_number(value) and 0 <= value < 1, name, "precisa estar entre 0 e 1 (1 excluído)")
        _require(_number(self.weight_decay) and self.weight_decay >= 0, "weight_decay", "não pode ser negativo")
        for name in ("channels", "kernels", "pools"):
            value = getattr(self, name)
            pair = isinstance(value, tuple) and len(value) == 2 and all(_whole(v, 1) for v in value)
            _require(pair, name, "precisa ser um par de inteiros a partir de 1")
        _require(math.prod(self.pools) <= 32, "pools", "o produto não pode passar de 32, o lado da imagem")
        for name in ("contrast", "means", "mirror", "train_first", "flip", "bf16"):
            _require(isinstance(getattr(self, name), bool), name, "precisa ser True ou False")
        _require(isinstance(self.device, str), "device", 'use "auto", "cpu", "cuda" ou "mps"')

    @property
    def architecture(self) -> dict:
        """The keyword arguments with which CNN builds this run's network."""
        names = ("channels", "kernels", "pools", "hidden", "dropout", "norm", "contrast", "means")
        return {name: getattr(self, name) for name in names} | {"mirror": self.mirror and self.flip}

    def to_dict(self) -> dict:
        """The settings as plain values, for a checkpoint or a JSON file."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _require(condition: bool, field: str, remedy: str) -> None:
    if not condition:
        raise SettingsError(f"{field}: {remedy}.")


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


PRESETS = {
    "rapido": Settings("rapido", epochs=9, batch_size=128, lr=1e-2),
    "completo": Settings(
        "completo",
        epochs=27,
        batch_size=128,
        lr=8e-3,
        channels=(64, 192),
        hidden=512,
        dropout=0.3,
        weight_decay=0.02,
        shift=3,
    ),
    # Learns from the answers of a deeper network, which `python -m classificador professor` trains beforehand.
    # Made for a GPU: minutes there, hours on a CPU.
    "destilado": Settings(
        "destilado",
        epochs=133,  # what the GPU time at hand allowed
        batch_size=256,
        lr=1e-2,
        channels=(128, 160),
        hidden=384,
        contrast=True,
        means=True,
        mirror=True,
        train_first=True,
        weight_decay=0.02,
        label_smoothing=0.0,
        shift=3,
        mixup=0.5,
        teacher="professor.pth",
        bf16=True,
    ),
    # The project's first recipe: no augmentation, no batch normalisation, Adam at its defaults.
    "original": Settings(
        "original",
        epochs=8,
        batch_size=64,
        lr=1e-3,
        channels=(32, 64),
        kernels=(3, 3),
        pools=(2, 2),
        hidden=512,
        dropout=0.25,
        norm=False,
        whiten=False,
        beta2=0.999,
        weight_decay=0.0,
        label_smoothing=0.0,
        warmup=0.0,
        shift=0,
        flip=False,
    ),
}

# The recipe of the teacher, which is another network: see teacher.py. Label smoothing would blur which
# classes it takes for alike (Müller et al. 2019, arXiv 1906.02629).
TEACHER = Settings(
    "professor",
    epochs=30,
    batch_size=256,
    lr=4e-3,
    weight_decay=0.05,
    label_smoothing=0.0,
    shift=3,
    cutout=12,
    bf16=True,
)


def make_settings(preset: str = "rapido", **changes) -> Settings:
    """Return the recipe `preset` with the given fields changed; a change of None keeps the recipe's value.

    preset: one of PRESETS. Raises SettingsError for an unknown preset, an unknown field or an
    impossible value.
    """
    if preset not in PRESETS:
        raise SettingsError(f"Receita desconhecida: {preset!r}. Use uma destas: {', '.join(PRESETS)}.")
    known = {field.name for field in fields(Settings)} - {"preset"}
    for name in changes:
        _require(name in known, name, f"parâmetro desconhecido; existem: {', '.join(sorted(known))}")
    return replace(PRESETS[preset], **{name: value for name, value in changes.items() if value is not None})
