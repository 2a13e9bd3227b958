"""What a model file says of its weights: typed, and checked once, when it is read or made."""

from dataclasses import dataclass, field, fields, replace
from datetime import datetime

from torch import nn

from classificador.constants import CLASSES, FRAMINGS
from classificador.portuguese import duration, number, percent

LARGEST = 10_000  # of the whole numbers in an architecture: bounds what the sizes of a hostile file can ask for
LARGEST_SIDE = 512  # pixels; pictures are scaled to it before the network sees them
COLDEST, HOTTEST = 0.05, 20.0  # temperatures beyond which a softmax is certain, or says the same of every class
HUGE = 1e12  # no number of a training comes near


@dataclass(frozen=True)
class ModelInfo:
    """Who made the weights, how good they are, and how to build the network for them.

    Every text in it can be printed and every number is of a size, whoever wrote the file: ValueError otherwise.
    """

    preset: str  # "": the file holds weights alone, and only architecture and classes are known
    settings: dict  # of the training: plain values, "epochs" among them
    classes: tuple[str, ...]  # names, by label
    epoch: float  # the epoch, from 1, after which these weights were kept
    val_accuracy: float  # fraction
    val_loss: float
    seconds: float  # of training
    history: dict  # History.to_dict()
    created: str  # date and time, ISO 8601
    versions: dict  # of "torch", and of others
    split: str  # how many images were trained on and validated with, in words
    device: str  # on which it was trained, in words
    precision: str  # in which it was trained, "bfloat16" or "float32"
    architecture: dict  # the arguments of make_network
    temperature: float = 1.0  # what logits are divided by, for calibrated probabilities
    doubt_below: float = 0.0  # the best probability under which a picture may well show none of the classes
    teacher: dict = field(default_factory=dict)  # empty for a network that learnt labels
    start: str = ""  # the file of the network whose weights this training began with, its recipe and date
    earlier_epochs: float = 0.0  # of the trainings whose weights this one began with
    run: str = ""  # the name of the run's folder
    framing: str = "centro"  # how pictures are made square, as in to_tensor()

    def __post_init__(self):
        kinds = {float: int | float, tuple[str, ...]: tuple}
        if not all(isinstance(getattr(self, part.name), kinds.get(part.type, part.type)) for part in fields(self)):
            raise ValueError("metadados de outro tipo")
        epochs, scores = self.settings.get("epochs"), [self.val_accuracy, self.val_loss]
        plain = [*_parts(self.settings), *_parts(self.teacher), *_parts(self.versions)]  # no tensors, no endless lists
        texts = [self.preset, self.split, self.device, self.precision, self.start, self.run, self.versions.get("torch")]
        if not (
            architecture_is_sound(self.architecture)
            and all(map(_printable, [*texts, *self.classes]))
            and all(part is None or isinstance(part, str | int | float) for part in plain)
            and 0 < len(set(self.classes)) == len(self.classes) == self.architecture.get("classes", 10)
            and type(epochs) is int
            and all(abs(value) < HUGE for value in [self.epoch, epochs, *scores, self.seconds, self.earlier_epochs])
            and 0 <= self.doubt_below <= 1
            and self.framing in FRAMINGS
            and COLDEST <= self.temperature <= HOTTEST
            and (not self.teacher or isinstance(self.teacher.get("val_accuracy"), float))
        ):
            raise ValueError("metadados impossíveis")
        datetime.fromisoformat(self.created)

    @classmethod
    def from_dict(cls, values: object) -> "ModelInfo":
        """Return the info that to_dict() made these plain values of. Raises ValueError for any others."""
        if not isinstance(values, dict) or not isinstance(values.get("classes"), list):
            raise ValueError("não são metadados")
        known = {part.name: values[part.name] for part in fields(cls) if part.name in values}
        try:
            return cls(**known | {"classes": tuple(values["classes"])})
        except TypeError as error:  # a part is missing, or a class is no name
            raise ValueError(str(error)) from error

    @classmethod
    def of_weights_alone(cls, architecture: dict) -> "ModelInfo":
        """Return what can be said of weights that nothing is said about: ten classes are taken for CIFAR-10's.

        Raises ValueError for an impossible architecture.
        """
        ten = architecture["classes"] == len(CLASSES)
        names = CLASSES if ten else [f"classe {label}" for label in range(architecture["classes"])]
        unknown: dict[str, object] = dict.fromkeys(("preset", "split", "device", "precision"), "")
        unknown |= dict.fromkeys(("epoch", "val_accuracy", "val_loss", "seconds"), 0.0)
        unknown |= {"settings": {"epochs": 0}, "history": {}, "versions": {"torch": ""}, "created": "1970-01-01"}
        return cls.from_dict(unknown | {"classes": list(names), "architecture": architecture})

    def to_dict(self) -> dict:
        """The info as the plain values that a file holds."""
        return {part.name: getattr(self, part.name) for part in fields(self)} | {"classes": list(self.classes)}

    @property
    def side(self) -> int:
        """Of the images that the network takes, pixels."""
        return self.architecture.get("side", 32)

    @property
    def provenance(self) -> dict:
        """How the weights were made, as plain values; nothing for weights that came alone."""
        facts = ["preset", "settings", "teacher", "start", "epoch", "val_accuracy", "temperature", "seconds"]
        facts += ["created", "device", "precision", "versions", "split"]
        return {name: getattr(self, name) for name in facts} if self.preset else {}

    @property
    def distilled(self) -> bool:
        """Whether it learnt another network's answers instead of labels."""
        return bool(self.teacher)


class LoadedModel(nn.Module):
    """What load_model() returns, to a type checker: any network, with what its file says of it. It is never made."""

    info: ModelInfo
    epochs_trained: float


def take_classes(model: nn.Module, classes: tuple[str, ...]) -> None:
    """Let a network of which only the weights are known have the class names of these data, if they are as many."""
    info = info_of(model)
    if info and not info.preset and len(info.classes) == len(classes) and set(info.classes) != set(classes):
        print("As classes são as destes dados, na ordem deles.")
        vars(model)["info"] = replace(info, classes=classes)


def info_of(model: nn.Module) -> ModelInfo | None:
    """Return what the file said that a model was loaded from; None for one that comes from no file."""
    return getattr(model, "info", None)


def describe_checkpoint(info: ModelInfo) -> str:
    """Return in a few Portuguese lines what a model is: recipe, epoch, validation score, when and where it was made."""
    size = ", ".join(f"{name} {value}" for name, value in info.architecture.items())
    network = [f"Rede:        {size}", f"Classes:     {', '.join(info.classes)}"]
    if not info.preset:
        return "\n".join(["Origem:      não se sabe; o arquivo traz só os pesos", *network])
    created = datetime.fromisoformat(info.created)
    epoch = number(info.epoch, 0 if info.epoch == round(info.epoch) else 1)
    lines = [
        f"Receita:     {info.preset}, época {epoch} de {info.settings['epochs']}, {duration(info.seconds)}",
        f"Validação:   acurácia {percent(info.val_accuracy, 2)}, perda {number(info.val_loss, 3)}",
    ]
    if info.distilled:
        score = percent(info.teacher["val_accuracy"], 2)
        lines.append(f"Destilação:  aprendeu as respostas de um professor, com {score} na validação")
    if info.earlier_epochs:
        origin = info.start or "pesos já treinados"
        lines.append(f"Partiu de:   {origin}, {number(info.earlier_epochs, 1)} épocas")
    if info.framing == "inteira":
        lines.append("Enquadra:    a imagem inteira, sobre fundo branco")
    lines += [
        f"Calibração:  temperatura {number(info.temperature, 3)}",
        f"Treinado em: {created:%d/%m/%Y %H:%M} UTC, {info.device}, {info.precision}, torch {info.versions['torch']}",
        f"Divisão:     {info.split}",
    ]
    return "\n".join(lines + network)


def architecture_is_sound(architecture: dict) -> bool:
    """Whether these can be the arguments of a network: few, plain, printable and of a size."""
    parts, side = _parts(architecture), architecture.get("side", 32)
    return (
        len(architecture) < 50
        and all(map(_printable, architecture))
        and all(part is None or _printable(part) or isinstance(part, int | float) for part in parts)
        and all(abs(part) <= LARGEST for part in parts if isinstance(part, int | float))
        and type(architecture.get("symmetric", False)) is bool
        and type(side) is int
        and 1 <= side <= LARGEST_SIDE
    )


def _parts(values: dict) -> list:
    """The keys and the values; of short lists among the values, what they hold."""
    parts = list(values)
    for value in values.values():
        parts += value if isinstance(value, list) and len(value) < 50 else [value]
    return parts


def _printable(text: object) -> bool:
    """Control characters could rewrite the terminal they are printed to, and endless texts fill it."""
    return isinstance(text, str) and text.isprintable() and len(text) < 200
