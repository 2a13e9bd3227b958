"""The model card, in Portuguese and English, made from a model and what it does on its test images; never by hand."""

from hashlib import sha256
from pathlib import Path
from string import Formatter

from torch import nn

from classificador.atomic import write_bytes
from classificador.constants import CLASSES
from classificador.data.dataset import ImageData
from classificador.device import precision
from classificador.errors import CheckpointError
from classificador.network.model_info import ModelInfo, info_of
from classificador.portuguese import SEPARATORS, duration
from classificador.recipes import FEW
from classificador.results.metrics import LEAST_TO_JUDGE, Report, calibration_error, evaluate

# Beside this file: what each card says in one case or another, and its template.
CARDS = ("ficha.md", "model_card.md")


def write_cards(model: nn.Module, path: Path, data: ImageData, folder: Path) -> list[Path]:
    """Write ficha.md and model_card.md of the model in the file `path` into `folder`; return their places.

    data: the model's, whose test images it is evaluated on. Raises WriteError when a card cannot be written, and
    CheckpointError for weights that came alone.
    """
    if not info_of(model).preset:
        raise CheckpointError(f"{path} traz só pesos: não conta como foi treinado, e sem isso não há ficha.")
    report = evaluate(model, data.test, data.classes)
    for name in CARDS:
        form = PortugueseFormatter() if name == "ficha.md" else Formatter()
        head, template = Path(__file__).with_name(name).read_text(encoding="utf-8").split("\n---\n")
        words = dict(line.split(": ", 1) for line in head.splitlines())
        values = _facts(model, path, data, form, words) | _facts_of_test(report, form, words)
        values["sizes"] = _sizes(model, data, report, form, words)
        write_bytes(folder / name, form.format(template, **values).encode())
    return [folder / name for name in CARDS]


class PortugueseFormatter(Formatter):
    """Writes as str.format does, but a number with a decimal comma."""

    def format_field(self, value: object, form: str) -> str:
        """The text of a value that stands in braces; form: what follows its name, such as .1%."""
        text = super().format_field(value, form)
        return text.translate(SEPARATORS) if form else text


def _facts(model: nn.Module, path: Path, data: ImageData, form: Formatter, words: dict[str, str]) -> dict:
    """What the templates' braces stand for that say what the model is and how it was made."""
    info = info_of(model)
    learnt = form.format(words["learnt answers"], info.teacher["val_accuracy"]) if info.distilled else ""
    return {
        "info": info,
        "file": path.name,
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "weights": sum(weight.numel() for weight in model.parameters()),
        "computed": "float32" if info.preset == FEW else precision(next(model.parameters()).device),
        "source": words["CIFAR-10" if data.classes == CLASSES else "own pictures"].format(info.side),
        "way": form.format(words["at once" if info.preset == FEW else "epochs"], info=info),
        "calibrated": words["calibrated"] if info.temperature != 1 else "",
        "fitted": form.format(words[_fit_of(info)], info.temperature, info.validated_on),
        "seed": info.settings.get("seed", "—"),
        "time": duration(info.seconds),
        "distillation": learnt or words["learnt labels"],
        "start": words["earlier weights"].format(info.start) if info.start else words["new weights"],
        "framing": words[info.framing],
    }


def _sizes(model: nn.Module, data: ImageData, report: Report, form: Formatter, words: dict) -> str:
    """How many images the model learnt from, and on how many it was measured."""
    train, val, test = len(data.train), len(data.val), len(report.labels)
    if info_of(model).preset != FEW:
        return form.format(words["apart"], train, val, test)
    if report.crossed == test:
        return form.format(words["crossed"], test)
    return form.format(words["few apart"], train + val, test)


def _fit_of(info: ModelInfo) -> str:
    """Which words tell how the temperature came about."""
    if info.temperature == 1:
        return "not fitted"
    if info.preset == FEW:
        return "fitted crossed"
    return "fitted on" if info.validated_on else "fitted"


def _facts_of_test(report: Report, form: Formatter, words: dict[str, str]) -> dict:
    """What the others stand for, which say how it does on the test images."""
    names = [name.replace("|", "\\|") for name in report.classes]
    if tuple(report.classes) == CLASSES:
        names = words.get("names of CIFAR-10", ", ".join(CLASSES)).split(", ")
    rows = [
        form.format("| {} | {:.3f} | {:.3f} | {:.3f} | {:,.0f} |", name, *row)
        for name, row in zip(names, report.per_class, strict=True)
    ]
    confused = [f"{names[true]} → {names[found]} ({times})" for true, found, times in report.most_confused(3)]
    recall = report.per_class[:, 1]
    return {
        "report": report,
        "distilled": words["distilled"] if report.distilled else "",
        "calibration": calibration_error(report.probabilities, report.labels),
        "count": len(names),
        "classes": "\n".join(rows),
        "confused": ", ".join(confused) or "—",
        "worst": form.format(words["worst" if recall.min() < 1 else "none"], names[recall.argmin()], recall.min()),
        "few": "\n" + words["few"].format(LEAST_TO_JUDGE, ", ".join(report.few)) if report.few else "",
    }
