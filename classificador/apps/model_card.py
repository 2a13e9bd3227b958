"""The model card, in Portuguese and English, made from a model and what it does on its test images; never by hand."""

from hashlib import sha256
from pathlib import Path

from classificador.atomic import write_bytes
from classificador.data.dataset import CLASSES, ImageData
from classificador.device import precision
from classificador.errors import CheckpointError
from classificador.files.model_info import LoadedModel, ModelInfo
from classificador.portuguese import duration, number
from classificador.results.calibration import calibration_error
from classificador.results.metrics import FEW, Report, evaluate

# CIFAR-10's own names, for the English card; other classes keep theirs.
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ENGLISH = dict(zip(CLASSES, NAMES, strict=True))
TEMPLATES = ("ficha.md", "model_card.md")  # beside this file: Portuguese, English; _facts() fills in their braces


def write_cards(model: LoadedModel, path: Path, data: ImageData, folder: Path) -> list[Path]:
    """Write ficha.md and model_card.md of the model in the file `path` into `folder`; return their places.

    data: the model's, whose test images it is evaluated on. Raises CheckpointError when a card cannot be written, and
    for weights that came alone.
    """
    if not model.info.preset:
        raise CheckpointError(f"{path} traz só pesos: não conta como foi treinado, e sem isso não há ficha.")
    report = evaluate(model, data.test, data.classes)
    for name in TEMPLATES:
        card = Path(__file__).with_name(name).read_text(encoding="utf-8")
        text = card.format(**_facts(model, path, data, report, english=name == "model_card.md"))
        write_bytes(folder / name, text.encode())
    return [folder / name for name in TEMPLATES]


class _Words:
    """The numbers of a card in its language, and the words that depend on the model."""

    def __init__(self, english: bool):
        self.english = english

    def digits(self, value: float, count: int) -> str:
        """A number with so many decimal places."""
        return f"{value:,.{count}f}" if self.english else number(value, count)

    def percent(self, fraction: float, count: int = 1) -> str:
        """A fraction in percent."""
        return self.digits(100 * fraction, count) + "%"

    def distillation(self, info: ModelInfo) -> str:
        """Whose answers the model learnt."""
        if not info.distilled:
            return "No distillation" if self.english else "Sem destilação"
        text = (
            "Distilled: it learnt a deeper network's answers to the same training images ({} in validation; "
            "its training is not in the time above)"
            if self.english
            else "Destilado: aprendeu as respostas de uma rede mais funda às mesmas imagens de treino ({} na "
            "validação; o treino dela não está no tempo acima)"
        )
        return text.format(self.percent(info.teacher["val_accuracy"], 2))

    def start(self, info: ModelInfo) -> str:
        """Whose weights the training began with."""
        if not info.start:
            return "It began with new weights" if self.english else "Começou de pesos novos"
        text = "It began with the weights of {}" if self.english else "Partiu dos pesos de {}"
        return text.format(info.start)

    def framing(self, info: ModelInfo) -> str:
        """What part of a photo the model sees."""
        if info.framing == "inteira":
            return "all, on white" if self.english else "o todo, sobre fundo branco"
        return "the central square" if self.english else "o quadrado do centro"

    def few(self, classes: list[str]) -> str:
        """A line about the classes with few test images; nothing where there are none."""
        if not classes:
            return ""
        text = "- Fewer than {} test images: {}." if self.english else "- Menos de {} imagens de teste: {}."
        return "\n" + text.format(FEW, ", ".join(classes))

    def source(self, classes: tuple[str, ...], side: int) -> str:
        """Where the images come from."""
        if classes == CLASSES:
            return "CIFAR-10 (Alex Krizhevsky, 2009), 32×32"
        return f"{'the user’s images' if self.english else 'imagens do usuário'}, {side}×{side}"

    def names(self, classes: tuple[str, ...]) -> list[str]:
        """The classes, as a table can show them."""
        english = self.english and classes == CLASSES
        return [ENGLISH[name] if english else name.replace("|", "\\|") for name in classes]


def _facts(model: LoadedModel, path: Path, data: ImageData, report: Report, english: bool) -> dict[str, object]:
    """What the cards' places in braces stand for."""
    say = _Words(english)
    return (
        {
            "file": path.name,
            "sha256": sha256(path.read_bytes()).hexdigest(),
            "weights": say.digits(sum(weight.numel() for weight in model.parameters()), 0),
            "source": say.source(tuple(data.classes), model.info.side),
            "computed": precision(next(model.parameters()).device),
        }
        | {name: say.digits(len(getattr(data, name)), 0) for name in ("train", "val", "test")}
        | _facts_of_training(model.info, say)
        | _facts_of_test(report, say)
    )


def _facts_of_training(info: ModelInfo, say: _Words) -> dict[str, object]:
    return {
        "preset": info.preset,
        "seed": info.settings.get("seed", "—"),
        "epoch": info.epoch,
        "epochs": info.settings["epochs"],
        "val_accuracy": say.percent(info.val_accuracy, 2),
        "time": duration(info.seconds),
        "device": info.device,
        "precision": info.precision,
        "torch": info.versions["torch"],
        "created": info.created,
        "temperature": say.digits(info.temperature, 3),
        "doubt_below": say.percent(info.doubt_below),
        "side": info.side,
        "distillation": say.distillation(info),
        "start": say.start(info),
        "framing": say.framing(info),
    }


def _facts_of_test(report: Report, say: _Words) -> dict[str, object]:
    names, digits = say.names(tuple(report.classes)), say.digits
    distilled = ("distilled" if say.english else "destilado") if report.distilled else ""
    classes = [
        f"| {name} | {digits(precision, 3)} | {digits(recall, 3)} | {digits(f1, 3)} | {digits(n, 0)} |"
        for name, (precision, recall, f1, n) in zip(names, report.per_class, strict=True)
    ]
    confused = [f"{names[true]} → {names[found]} ({times})" for true, found, times in report.most_confused(3)]
    worst = report.per_class[:, 1].argmin()
    return {
        "distilled": distilled and f", {distilled}",
        "accuracy": say.percent(report.accuracy, 2),
        "interval": " – ".join(map(say.percent, report.interval)),
        "f1": digits(report.macro[2], 4),
        "calibration": say.percent(calibration_error(report.probabilities, report.labels)),
        "count": len(names),
        "classes": "\n".join(classes),
        "confused": ", ".join(confused) or "—",
        "worst": names[worst],
        "worst_recall": say.percent(report.per_class[worst, 1]),
        "few": say.few(report.few),
    }
