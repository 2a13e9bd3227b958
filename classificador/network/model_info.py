"""What is known of a network: how to build it, where its weights come from, and how good they are."""

from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, get_origin

from torch import nn

from classificador.constants import CLASSES, FRAMINGS
from classificador.portuguese import duration, number, percent, tell
from classificador.recipes import FEW, LARGEST

LARGEST_SIDE = 512  # pixels; pictures are scaled to it before the network sees them
COLDEST, HOTTEST = 0.05, 20.0  # temperatures beyond which a softmax is certain, or says the same of every class
HUGE = 1e12  # no number of a training comes near
MOST_KNOWN = 500_000  # probabilities that are kept of the answers to pictures
SHARES = 10_000  # into which a probability is divided there
PROBED = 10  # logits, at most, that are kept of the answer to the probe image


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a network, its attribute `info`; what is not known has its default value.

    Every text in it can be printed and every number is of a size, whoever wrote the file: ValueError otherwise.
    """

    architecture: dict[str, Any] = field(
        default_factory=dict
    )  # the arguments of make_network; empty: it was made otherwise
    classes: tuple[str, ...] = ()  # names, by label
    seed: int | None = None  # with which its starting weights were drawn
    start: str = ""  # the file of the network whose weights it began with, its recipe and date
    earlier_epochs: float = 0.0  # of the trainings before the last, whose weights that one began with
    epoch: float = 0.0  # of the last training: after so many these weights were kept
    preset: str = ""  # the recipe of the last training; "": nothing is known of one
    settings: dict[str, Any] = field(default_factory=lambda: {"epochs": 0})  # of it: plain values
    val_accuracy: float = 0.0  # fraction
    val_loss: float = 0.0
    seconds: float = 0.0  # of training
    created: str = "1970-01-01"  # date and time, ISO 8601
    versions: dict[str, Any] = field(default_factory=lambda: {"torch": ""})  # of "torch", and of others
    split: str = ""  # how many images were trained on and validated with, in words
    device: str = ""  # on which it was trained, in words
    precision: str = ""  # in which it was trained, "bfloat16" or "float32"
    validated_on: int = 0  # how many images val_accuracy is of, and temperature and doubt_below fitted on; 0: not known
    temperature: float = 1.0  # what logits are divided by, for calibrated probabilities; 1: they are not calibrated
    doubt_below: float = 0.0  # the best probability under which a picture may well show none of the classes
    teacher: dict[str, Any] = field(default_factory=dict)  # empty for a network that learnt labels
    run: str = ""  # the name of the run's folder
    framing: str = "centro"  # how pictures are made square, as in to_tensor()
    probe: list[float] = field(default_factory=list)  # what it answers to a certain image, by which it is known again
    # Of few pictures, by their keys: what a network that had not seen the picture answered, probabilities times SHARES;
    # empty for those that all have learnt from.
    known: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind_of: dict[Any, Any] = {float: int | float, int | None: int | None}
        for one in fields(self):
            if not isinstance(getattr(self, one.name), kind_of.get(one.type, get_origin(one.type) or one.type)):
                raise ValueError(f"metadados de outro tipo: {one.name}")
        epochs, scores = self.settings.get("epochs"), [self.val_accuracy, self.val_loss]
        plain = [*_items(self.settings), *_items(self.teacher), *_items(self.versions)]  # no tensors, no endless lists
        texts = [self.preset, self.split, self.device, self.precision, self.start, self.run, self.versions.get("torch")]
        if not (
            architecture_is_sound(self.architecture)
            and all(map(_is_printable, [*texts, *self.classes]))
            and all(item is None or isinstance(item, str | int | float) for item in plain)
            and len(set(self.classes)) == len(self.classes)
            and len(self.classes) in (0, self.architecture.get("classes", len(self.classes)))
            and type(epochs) is int
            and (self.seed is None or 0 <= self.seed < 2**63)
            and all(abs(value) < HUGE for value in [self.epoch, epochs, *scores, self.seconds, self.earlier_epochs])
            and 0 <= self.doubt_below <= 1
            and self.framing in FRAMINGS
            and COLDEST <= self.temperature <= HOTTEST
            and len(self.probe) <= PROBED
            and 0 <= self.validated_on < HUGE
            and len(self.known) * max(1, len(self.classes)) <= MOST_KNOWN
            and all(map(_is_printable, self.known))
            and all(_are_probabilities(answer, len(self.classes)) for answer in self.known.values())
            and all(isinstance(value, float) and abs(value) < HUGE for value in self.probe)
            and (not self.teacher or isinstance(self.teacher.get("val_accuracy"), float))
        ):
            raise ValueError("metadados impossíveis")
        datetime.fromisoformat(self.created)

    @classmethod
    def from_dict(cls, values: object) -> "ModelInfo":
        """Return the info of a trained network that to_dict() made these plain values of. Raises ValueError."""
        if not isinstance(values, dict) or not isinstance(values.get("classes"), list):
            raise ValueError("não são metadados")
        if not values["classes"] or not values.get("preset"):
            raise ValueError("metadados incompletos")
        known = {one.name: values[one.name] for one in fields(cls) if one.name in values}
        try:
            return cls(**known | {"classes": tuple(values["classes"])})
        except TypeError as error:  # a class is no name
            raise ValueError(str(error)) from error

    @classmethod
    def of_weights_alone(cls, architecture: dict[str, Any]) -> "ModelInfo":
        """Return what can be said of weights that nothing is said about: ten classes are taken for CIFAR-10's.

        Raises ValueError for an impossible architecture.
        """
        count = architecture["classes"]
        names = CLASSES if count == len(CLASSES) else tuple(f"classe {label}" for label in range(count))
        return cls(architecture, names)

    def to_dict(self) -> dict[str, Any]:
        """The info as the plain values that a file holds."""
        return {one.name: getattr(self, one.name) for one in fields(self)} | {"classes": list(self.classes)}

    @property
    def side(self) -> int:
        """Of the images that the network takes, pixels."""
        return self.architecture.get("side", 32)

    @property
    def epochs_trained(self) -> float:
        """For how many epochs its weights have learnt, in all trainings together."""
        return self.earlier_epochs + self.epoch

    @property
    def provenance(self) -> dict[str, Any]:
        """How the weights were made, as plain values; nothing for weights that came alone."""
        names = ["preset", "settings", "teacher", "start", "epoch", "val_accuracy", "temperature", "seconds"]
        names += ["created", "device", "precision", "versions", "split"]
        return {name: getattr(self, name) for name in names} if self.preset else {}

    @property
    def distilled(self) -> bool:
        """Whether it learnt another network's answers instead of labels."""
        return bool(self.teacher)


def info_of(model: nn.Module) -> ModelInfo:
    """Return what is known of a model, its attribute `info`; of one that make_network() did not make, nothing."""
    info = getattr(model, "info", None)
    return info if isinstance(info, ModelInfo) else ModelInfo()


def set_info(model: nn.Module, info: ModelInfo) -> None:
    """Let this be what is known of a model. (PyTorch types every other attribute of a module as a tensor or module.)"""
    vars(model)["info"] = info


def take_classes(model: nn.Module, classes: tuple[str, ...]) -> None:
    """Let a network of which only the weights are known have the class names of these data, if they are as many."""
    info = info_of(model)
    if not info.preset and len(info.classes) == len(classes) and set(info.classes) != set(classes):
        tell("As classes são as destes dados, na ordem deles.")
        set_info(model, replace(info, classes=classes))


def describe_checkpoint(info: ModelInfo) -> str:
    """Return in a few Portuguese lines what a model is: recipe, epoch, validation score, when and where it was made."""
    size = ", ".join(f"{name} {value}" for name, value in info.architecture.items())
    network = [f"Rede:        {size}", f"Classes:     {', '.join(info.classes)}"]
    if not info.preset:
        return "\n".join(["Origem:      não se sabe; o arquivo traz só os pesos", *network])
    created = datetime.fromisoformat(info.created)
    epoch = number(info.epoch, 0 if info.epoch == round(info.epoch) else 1)
    calibration = (
        f"temperatura {number(info.temperature, 3)}"
        if info.temperature != 1
        else "nenhuma: imagens de menos, ou nenhum erro"
    )
    lines = [
        f"Receita:     {info.preset}, época {epoch} de {info.settings['epochs']}, {duration(info.seconds)}",
        f"Validação:   acurácia {percent(info.val_accuracy, 2)}, perda {number(info.val_loss, 3)}",
    ]
    if info.preset == FEW:
        lines[0] = f"Receita:     {FEW} imagens, em uma vez só, {duration(info.seconds)}"
        lines[1] = lines[1].replace("acurácia", "cruzada, acurácia")
    if info.distilled:
        score = percent(info.teacher["val_accuracy"], 2)
        lines.append(f"Destilação:  aprendeu as respostas de um professor, com {score} na validação")
    if info.earlier_epochs:
        origin = info.start or "pesos já treinados"
        lines.append(f"Partiu de:   {origin}, {number(info.earlier_epochs, 1)} épocas")
    if info.framing == "inteira":
        lines.append("Enquadra:    a imagem inteira, sobre fundo branco")
    lines += [
        f"Calibração:  {calibration}",
        f"Treinado em: {created:%d/%m/%Y %H:%M} UTC, {info.device}, {info.precision}, torch {info.versions['torch']}",
        f"Divisão:     {info.split}",
    ]
    return "\n".join(lines + network)


def architecture_is_sound(architecture: dict[str, Any]) -> bool:
    """Whether these can be the arguments of a network: few, plain, printable and of a size."""
    items, side = _items(architecture), architecture.get("side", 32)
    return (
        len(architecture) < 50
        and all(map(_is_printable, architecture))
        and all(item is None or _is_printable(item) or isinstance(item, int | float) for item in items)
        and all(abs(item) <= LARGEST for item in items if isinstance(item, int | float))
        and type(architecture.get("symmetric", False)) is bool
        and type(side) is int
        and 1 <= side <= LARGEST_SIDE
    )


def _items(values: dict[str, Any]) -> list[Any]:
    """The keys and the values; of short lists among the values, what they hold."""
    items = list(values)
    for value in values.values():
        items += value if isinstance(value, list) and len(value) < 50 else [value]
    return items


def _are_probabilities(answer: object, count: int) -> bool:
    """Whether this is a share of SHARES for each of so many classes, or an empty list."""
    if not isinstance(answer, list) or len(answer) not in (0, count):
        return False
    return all(type(one) is int and 0 <= one <= SHARES for one in answer)


def _is_printable(text: object) -> bool:
    """Control characters could rewrite the terminal they are printed to, and endless texts fill it."""
    return isinstance(text, str) and text.isprintable() and len(text) < 200
