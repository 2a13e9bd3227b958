"""Accuracy, F1 and their friends, computed by scikit-learn, with the uncertainty said; and the calibration error."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import nn

from classificador.data.dataset import Split
from classificador.device import autocast
from classificador.errors import CheckpointError
from classificador.network.model_info import SHARES, info_of, take_classes
from classificador.portuguese import first_few, number, percent, tell
from classificador.results.predict import predict

LEAST_TO_JUDGE = 10  # images of a class: even if all are right, its recall may well be 72 % (Wilson's interval)


@dataclass(frozen=True)
class Report:
    """What a model does on a labelled set of N images with C classes."""

    classes: tuple[str, ...]
    pictures: Split  # the N images, with their classes as labels
    probabilities: np.ndarray  # N×C
    distilled: bool = False  # whether the network learnt from another one's answers
    crossed: int = 0  # of how many images the answer is that of networks that had not seen it: cross-validation

    @cached_property
    def labels(self) -> np.ndarray:
        """N true class indices."""
        return self.pictures.labels.cpu().numpy()

    @cached_property
    def predictions(self) -> np.ndarray:
        """N predicted class indices."""
        return self.probabilities.argmax(1)

    @property
    def accuracy(self) -> float:
        """Fraction of right predictions."""
        return float((self.predictions == self.labels).mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, fractions: Wilson's score interval, which stays inside 0 … 1, of `groups`."""
        right = round(self.accuracy * self.groups)
        low, high = binomtest(right, self.groups).proportion_ci(method="wilson")
        return float(low), float(high)

    @property
    def groups(self) -> int:
        """How many images there are, those that show nearly the same counted once: they are answered alike."""
        return len({origin.group for origin in self.pictures.origins}) or len(self.pictures)

    @property
    def per_class(self) -> np.ndarray:
        """C×4: precision, recall, F1 and number of images of each class; an empty ratio counts as 0."""
        look = {"labels": range(len(self.classes)), "zero_division": 0}
        return np.stack(precision_recall_fscore_support(self.labels, self.predictions, **look), 1)

    @property
    def macro(self) -> np.ndarray:
        """Unweighted means over the classes that have images: precision, recall, F1."""
        return self.per_class[self.per_class[:, 3] > 0, :3].mean(0)

    @property
    def confusion(self) -> np.ndarray:
        """C×C counts, rows the true class, columns the predicted one."""
        return confusion_matrix(self.labels, self.predictions, labels=range(len(self.classes)))

    def most_confused(self, count: int = 3) -> list[tuple[int, int, int]]:
        """The `count` most frequent mistakes as (true class, predicted class, times), most frequent first."""
        wrong = self.predictions != self.labels
        pairs = Counter(zip(self.labels[wrong].tolist(), self.predictions[wrong].tolist(), strict=True))
        return [(true, predicted, times) for (true, predicted), times in pairs.most_common(count)]

    def surest_mistakes(self, count: int = 12) -> list[int]:
        """Indices of the wrong predictions with the highest probability, highest first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong].max(1), kind="stable")][:count].tolist()

    def by_difficulty(self, label: int) -> np.ndarray:
        """Indices of the images of one class, the one whose true class got the highest probability first."""
        own = np.flatnonzero(self.labels == label)
        return own[np.argsort(-self.probabilities[own, label], kind="stable")]

    @property
    def few(self) -> list[str]:
        """The classes with fewer than LEAST_TO_JUDGE images, whose figures say little."""
        counts = zip(self.classes, self.per_class[:, 3], strict=True)
        return [name for name, images in counts if images < LEAST_TO_JUDGE]

    def summary(self) -> str:
        """In Portuguese: accuracy with its interval, macro F1, n, whether distilled; and a line of classes with few."""
        low, high = (percent(bound, 1) for bound in self.interval)
        line = (
            f"Acurácia {percent(self.accuracy, 2)} (IC de 95%: {low} a {high}), F1 macro {number(self.macro[2], 4)}, "
            f"n = {number(len(self.labels), 0)}{_of_what(self)}{', destilado' if self.distilled else ''}"
        )
        if not self.few:
            return line
        some = first_few(self.few, 5)
        images = "imagens" if self.crossed else "imagens de teste"
        return f"{line}\nMenos de {LEAST_TO_JUDGE} {images}: {some}. Os números destas classes dizem pouco."

    def table(self) -> str:
        """Precision, recall and F1 per class and macro, as aligned text in Portuguese."""
        width = max(len("Média macro"), *map(len, self.classes)) + 2

        line = f"{{:<{width}}}{{:>10}}{{:>11}}{{:>8}}{{:>9}}".format
        head = line("Classe", "Precisão", "Revocação", "F1", "Imagens")
        figures = [*self.per_class, [*self.macro, len(self.labels)]]
        *rows, macro = (
            line(name, *(number(score, 3) if images else "—" for score in scores), number(images, 0))
            for name, (*scores, images) in zip([*self.classes, "Média macro"], figures, strict=True)
        )
        return "\n".join([head, rule := "─" * len(head), *rows, rule, macro])

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        keys = ("precision", "recall", "f1", "images")
        rows = [dict(zip(keys, row, strict=True)) for row in self.per_class.tolist()]
        return {
            "accuracy": self.accuracy,
            "accuracy_95": list(self.interval),
            "macro_precision": float(self.macro[0]),
            "macro_recall": float(self.macro[1]),
            "macro_f1": float(self.macro[2]),
            "expected_calibration_error": calibration_error(self.probabilities, self.labels),
            "images": len(self.labels),
            "distinct": self.groups,
            "cross_validated": self.crossed,
            "few_images": self.few,
            "distilled": self.distilled,
            "per_class": dict(zip(self.classes, rows, strict=True)),
            "confusion": self.confusion.tolist(),
            "mistakes": _named_mistakes(self),
        }


def _of_what(report: Report) -> str:
    """What is said beside n: how many count of those that are nearly the same, and what comes from cross-validation."""
    scenes = f" ({number(report.groups, 0)} diferentes)" if report.groups < len(report.pictures) else ""
    some = "" if report.crossed == len(report.pictures) else f" em {number(report.crossed, 0)} delas"
    return f"{scenes}, validação cruzada{some}" if report.crossed else scenes


def _named_mistakes(report: Report) -> list[dict[str, Any]]:
    """The pictures of one's own that were taken for another class, the surest first: their files, and what for."""
    return [
        {
            "file": report.pictures.origins[row].file,
            "class": report.classes[report.labels[row]],
            "predicted": report.classes[report.predictions[row]],
            "probability": float(report.probabilities[row].max()),
        }
        for row in (report.surest_mistakes(len(report.pictures)) if report.pictures.origins else [])
    ]


def evaluate(model: nn.Module, split: Split, classes: tuple[str, ...]) -> Report:
    """Return the Report of `model` on a labelled split, computed in bfloat16 where the device has it natively.

    (A single picture's answer, predict(), is in float32 everywhere, and so is the same everywhere.)

    classes: the names of the labels of `split`, in any order; some of the model's own, or all of them. The Report is
    in the model's. Of pictures that a model learnt from, few as they were, the Report has the answers of networks that
    had not seen them, from its cross-validation; where there was none it leaves them out, and says so.
    Raises CheckpointError when the model does not know one of the classes, or has learnt from all the pictures.
    """
    take_classes(model, classes)
    info = info_of(model)
    known = list(info.classes or classes)
    if unknown := [name for name in classes if name not in known]:
        problem = f"O modelo não conhece a classe {unknown[0]}, e sim {', '.join(known)[:80]}."
        raise CheckpointError(problem, "Use os dados do mesmo treino: --dados, ou DATA_DIR.")
    labels = torch.tensor([known.index(name) for name in classes])[split.labels.cpu()]
    pictures = _unseen(replace(split, labels=labels), info.known)
    with autocast(next(model.parameters()).device):
        probabilities = predict(model, pictures.images).numpy()
    answers = {row: info.known[key] for row, key in enumerate(pictures.keys if info.known else []) if key in info.known}
    for row, answer in answers.items():
        probabilities[row] = np.array(answer) / SHARES
    return Report(tuple(known), pictures, probabilities, info.distilled, len(answers))


def _unseen(pictures: Split, known: dict[str, list[int]]) -> Split:
    """The pictures but those that a model has learnt from and nothing else answered to. known: as in ModelInfo."""
    if not known:
        return pictures
    rows = [row for row, key in enumerate(pictures.keys) if known.get(key) != []]
    if not rows:
        problem = "O modelo aprendeu com todas estas imagens, e com elas não se mede o que ele sabe."
        raise CheckpointError(problem, "Dê outras.")
    if left := len(pictures) - len(rows):
        tell(f"Ficam de fora da avaliação {number(left, 0)} das {number(len(pictures), 0)} imagens, que são de treino.")
    return pictures[torch.tensor(rows)]


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> np.ndarray:
    """Return bins×3: mean confidence, accuracy and number of images whose confidence falls into each equal interval.

    probabilities: N×C. The confidence of an image is its highest probability. Empty intervals hold zeros.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (confidence, right)]
    return np.stack([*(total / np.maximum(counts, 1) for total in sums), counts], 1)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy, as a fraction."""
    confidence, accuracy, counts = reliability(probabilities, labels, bins).T
    return float((np.abs(confidence - accuracy) * counts).sum() / max(1, counts.sum()))
