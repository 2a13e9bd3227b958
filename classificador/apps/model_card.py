"""The model card, in Portuguese and English, made from a model and what it does on its test images; never by hand."""

from hashlib import sha256
from pathlib import Path

from classificador.atomic import write_bytes
from classificador.data.dataset import CLASSES, ImageData
from classificador.device import precision
from classificador.errors import CheckpointError
from classificador.files.model_info import LoadedModel, ModelInfo
from classificador.portuguese import duration, number
from classificador.results.metrics import FEW, Report, calibration_error, evaluate

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

    def say(self, portuguese: str, english: str) -> str:
        """The one of the two that is the card's."""
        return english if self.english else portuguese

    def digits(self, value: float, count: int) -> str:
        """A number with so many decimal places."""
        return f"{value:,.{count}f}" if self.english else number(value, count)

    def percent(self, fraction: float, count: int = 1) -> str:
        """A fraction in percent."""
        return self.digits(100 * fraction, count) + "%"


def _facts(model: LoadedModel, path: Path, data: ImageData, report: Report, english: bool) -> dict[str, object]:
    """What the cards' places in braces stand for."""
    words = _Words(english)
    source = words.say("imagens do usuário", "the user’s images") + f", {model.info.side}×{model.info.side}"
    return (
        {
            "file": path.name,
            "sha256": sha256(path.read_bytes()).hexdigest(),
            "weights": words.digits(sum(weight.numel() for weight in model.parameters()), 0),
            "source": "CIFAR-10 (Alex Krizhevsky, 2009), 32×32" if data.classes == CLASSES else source,
            "computed": precision(next(model.parameters()).device),
        }
        | {name: words.digits(len(getattr(data, name)), 0) for name in ("train", "val", "test")}
        | _facts_of_training(model.info, words)
        | _facts_of_test(report, words)
    )


def _facts_of_training(info: ModelInfo, words: _Words) -> dict[str, object]:
    learnt = words.say("Sem destilação", "No distillation")
    if info.distilled:
        learnt = words.say(
            "Destilado: aprendeu as respostas de uma rede mais funda às mesmas imagens de treino ({} na validação; o "
            "treino dela não está no tempo acima)",
            "Distilled: it learnt a deeper network's answers to the same training images ({} in validation; its "
            "training is not in the time above)",
        ).format(words.percent(info.teacher["val_accuracy"], 2))
    start = words.say("Partiu dos pesos de {}", "It began with the weights of {}").format(info.start)
    whole = words.say("o todo, sobre fundo branco", "all, on white")
    return {
        "preset": info.preset,
        "seed": info.settings.get("seed", "—"),
        "epoch": info.epoch,
        "epochs": info.settings["epochs"],
        "val_accuracy": words.percent(info.val_accuracy, 2),
        "time": duration(info.seconds),
        "device": info.device,
        "precision": info.precision,
        "torch": info.versions["torch"],
        "created": info.created,
        "temperature": words.digits(info.temperature, 3),
        "doubt_below": words.percent(info.doubt_below),
        "side": info.side,
        "distillation": learnt,
        "start": start if info.start else words.say("Começou de pesos novos", "It began with new weights"),
        "framing": whole if info.framing == "inteira" else words.say("o quadrado do centro", "the central square"),
    }


def _facts_of_test(report: Report, words: _Words) -> dict[str, object]:
    digits, percent = words.digits, words.percent
    known = words.english and tuple(report.classes) == CLASSES
    names = [ENGLISH[name] if known else name.replace("|", "\\|") for name in report.classes]
    classes = [
        f"| {name} | {digits(precision, 3)} | {digits(recall, 3)} | {digits(f1, 3)} | {digits(n, 0)} |"
        for name, (precision, recall, f1, n) in zip(names, report.per_class, strict=True)
    ]
    confused = [f"{names[true]} → {names[found]} ({times})" for true, found, times in report.most_confused(3)]
    worst = report.per_class[:, 1].argmin()
    few = words.say("\n- Menos de {} imagens de teste: {}.", "\n- Fewer than {} test images: {}.")
    return {
        "distilled": words.say(", destilado", ", distilled") if report.distilled else "",
        "accuracy": percent(report.accuracy, 2),
        "interval": " – ".join(map(percent, report.interval)),
        "f1": digits(report.macro[2], 4),
        "calibration": percent(calibration_error(report.probabilities, report.labels)),
        "count": len(names),
        "classes": "\n".join(classes),
        "confused": ", ".join(confused) or "—",
        "worst": names[worst],
        "worst_recall": percent(report.per_class[worst, 1]),
        "few": few.format(FEW, ", ".join(report.few)) if report.few else "",
    }
