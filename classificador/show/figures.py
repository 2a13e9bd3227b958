"""The notebook's figures: one style, colour-blind-safe, legible in print. Each function returns a Figure."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image
from torch import nn

from classificador.data.dataset import Split
from classificador.portuguese import number, percent
from classificador.results.metrics import Report, calibration_error, reliability
from classificador.results.predict import uncalibrated
from classificador.show.names import NUMBER, fonts_for, short_names
from classificador.training.history import History

# Okabe and Ito's palette: told apart with every kind of colour vision, and by lightness when printed in grey.
BLUE, ORANGE, BLACK = "#0072B2", "#D55E00", "#222222"
STYLE: dict[Any, Any] = {  # matplotlib types its keys as one long list of literals
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called "R$ 5 e R$ 10"
}
Function = TypeVar("Function", bound=Callable)
styled = cast(Callable[[Function], Function], plt.rc_context(STYLE))  # what a function draws has the style
MOST = 20  # classes in a figure: a hundred rows of pictures take long to draw and longer to look at
NO_MISTAKE = "Nenhum erro nestas imagens."
COMMA = FuncFormatter(lambda value, position: f"{value:g}".replace(".", ","))
PERCENT = FuncFormatter(lambda value, position: f"{100 * value:g}%".replace(".", ","))


@styled
def sample_grid(split: Split, classes: tuple[str, ...], columns: int = 8) -> Figure:
    """The first `columns` images of each class (at most MOST), one row a class, the class name at the left."""
    shown = range(min(MOST, len(classes)))
    size = (5.2, 0.48 * len(shown))
    figure, axes, names = _subplots(classes, "as primeiras", len(shown), columns, figsize=size)
    for row, name in zip(shown, names, strict=False):
        chosen = (split.labels == row).nonzero().flatten()[:columns].tolist()
        for axis in axes[row]:
            axis.axis("off")
        for axis, index in zip(axes[row], chosen, strict=False):
            _show(axis, split.images[index])
        axes[row, 0].text(-0.2, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center")
    return figure


@styled
def class_counts(splits: dict[str, Split], classes: tuple[str, ...]) -> Figure:
    """Bars with the number of images in each named split of each class, or of the MOST with the fewest."""
    every = sum(torch.bincount(split.labels, minlength=len(classes)) for split in splits.values())
    shown = torch.as_tensor(every).argsort(stable=True)[:MOST].sort().values
    figure, axis, names = _subplots(classes, "as de menos imagens", figsize=(9, 2.8))
    width = 0.8 / len(splits)
    looks = ((BLUE, ""), (ORANGE, "//"), ("#999999", ".."))  # hatches tell the bars apart in print
    for place, ((name, split), (colour, hatch)) in enumerate(zip(splits.items(), looks, strict=False)):
        counts = torch.bincount(split.labels, minlength=len(classes))[shown].tolist()
        position = np.arange(len(shown)) + (place - (len(splits) - 1) / 2) * width
        label = f"{name} ({number(len(split), 0)})"
        bars = axis.bar(position, counts, width, color=colour, hatch=hatch, edgecolor="white", label=label)
        axis.bar_label(bars, [number(count, 0) for count in counts], fontsize=7)
    axis.set_xticks(range(len(shown)), [names[i] for i in shown.tolist()])
    if len(shown) * max(map(len, names)) > 100:  # side by side they would run into each other
        plt.setp(axis.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    axis.set_ylabel("imagens")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, position: number(value, 0)))
    axis.legend(ncols=len(splits), loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


@styled
def normalisation_effect(images: torch.Tensor) -> Figure:
    """Histograms of the pixel values before (0 … 255) and after normalising to mean 0.5, standard deviation 0.5."""
    values = images.flatten().numpy()
    figure, (image, before, after) = plt.subplots(1, 3, figsize=(9, 2.6), width_ratios=(1, 2, 2))
    _show(image, images[0])
    image.set_title("uma delas")
    before.hist(values, bins=64, range=(0, 256), color=BLUE)
    before.set(title=f"pixels de {len(images)} imagens, de 0 a 255", xlabel="valor", yticks=[])
    after.hist((values / 255 - 0.5) / 0.5, bins=64, range=(-1, 1), color=ORANGE)
    after.set(title="(x / 255 − 0,5) / 0,5", xlabel="valor", yticks=[])
    after.xaxis.set_major_formatter(COMMA)
    return figure


@styled
def training_curves(history: History, figure: Figure | None = None) -> Figure:
    """Loss and accuracy for training and validation, the best epoch marked. Redraws into `figure` when given."""
    figure = figure or plt.figure(figsize=(9, 3.4))
    figure.clear()
    for axis, name, column in zip(figure.subplots(1, 2), ("loss", "accuracy"), (1, 2), strict=True):
        train, val = getattr(history, f"train_{name}"), getattr(history, f"val_{name}")
        if history.steps:
            axis.plot([s[0] for s in history.steps], [s[column] for s in history.steps], color=BLUE, alpha=0.25, lw=1)
        epochs = range(1, len(val) + 1)
        axis.plot(epochs, train, "o-", color=BLUE, markersize=4, label="treino")
        axis.plot(epochs, val, "s--", color=ORANGE, markersize=4, label="validação")
        if val:
            best = history.best + 1
            axis.axvline(best, color=BLACK, lw=1, ls=":", label=f"melhor época ({best})")
        axis.set(xlabel="época", title="perda" if name == "loss" else "acurácia")
        axis.yaxis.set_major_formatter(COMMA if name == "loss" else PERCENT)
        axis.xaxis.set_major_formatter(COMMA)
        axis.xaxis.get_major_locator().set_params(integer=len(val) > 2)
        axis.grid(axis="y")
        if val:
            axis.legend()
    return figure


@styled
def confusion_matrices(report: Report) -> Figure:
    """Counts and row percentages side by side, rows the true class; of many classes the MOST with the most mistakes."""
    shown = _most_mistaken(report)
    counts = report.confusion
    shares = (counts / counts.sum(1, keepdims=True).clip(1))[shown][:, shown]
    counts = counts[shown][:, shown]
    figure, axes, every = _subplots(report.classes, "as de mais erros", 1, 2, figsize=(11, 5.4))
    names = [every[label] for label in shown]
    for axis, values, title in zip(axes, (counts, 100 * shares), ("contagem", "% da classe verdadeira"), strict=True):
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axis.set(title=title, xlabel="classe prevista")
        axis.set_xticks(range(len(counts)), names, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(counts)), names)
        axis.tick_params(length=0)
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if shares[row, column] > 0.5 else BLACK
            axis.text(column, row, f"{values[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8.5)
    axes[0].set_ylabel("classe verdadeira")
    return figure


@styled
def reliability_diagram(report: Report, temperature: float) -> Figure:
    """Accuracy against confidence before and after the temperature, with the expected calibration error of each."""
    raw = uncalibrated(report.probabilities, temperature)
    looks = ((raw, "sem calibração"), (report.probabilities, f"calibrada (temperatura {number(temperature, 2)})"))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for axis, (probabilities, name) in zip(axes, looks, strict=True):
        confidence, accuracy, counts = reliability(probabilities, report.labels).T
        centres = (np.arange(len(counts)) + 0.5) / len(counts)
        axis.bar(centres, confidence, 0.94 / len(counts), color="#dddddd", label="confiança")
        axis.bar(centres, accuracy, 0.5 / len(counts), color=BLUE, label="acurácia")
        axis.plot((0, 1), (0, 1), color=BLACK, lw=1, ls=":")
        gap = percent(calibration_error(probabilities, report.labels))
        axis.set(title=f"{name}: erro de {gap}", xlabel="confiança na resposta", xlim=(0, 1), ylim=(0, 1))
        axis.xaxis.set_major_formatter(PERCENT)
    axes[0].set_ylabel("acurácia")
    axes[0].yaxis.set_major_formatter(PERCENT)
    axes[0].legend(loc="upper left")
    return figure


@styled
def prediction_grid(report: Report, images: torch.Tensor, indices: list[int], columns: int = 6) -> Figure:
    """Images with predicted class, probability and true class; a wrong one has a ✗ and a dashed frame."""
    rows, long = max(1, -(-len(indices) // columns)), max(map(len, report.classes)) > 10
    size = (9, (2.15 if long else 1.95) * rows)
    figure, axes, names = _subplots(report.classes, "", rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat[len(indices) :]:
        axis.axis("off")
    if not indices:
        figure.suptitle(NO_MISTAKE)
    for axis, index in zip(axes.flat, indices, strict=False):
        true, predicted = int(report.labels[index]), int(report.predictions[index])
        right, probability = true == predicted, report.probabilities[index, predicted]
        _show(axis, images[index])
        colour, mark = (BLUE, "✓") if right else (ORANGE, "✗")
        _frame(axis, colour, dashed=not right)
        sure = percent(probability, 0)
        text = f"{mark} {names[predicted]} {sure}\nverdade: {names[true]}"
        if long:
            text = f"{mark} {sure}\n{names[predicted]}\né {names[true]}"
        axis.set_title(text, fontsize=8.5, color=colour, weight="normal" if right else "bold")
    return figure


@styled
def confused_pairs(report: Report, images: torch.Tensor, pairs: int = 3, columns: int = 8) -> Figure:
    """The most frequent mistakes, a row each: how often, and the pictures the model was surest and wrong about."""
    found = report.most_confused(pairs)
    rows = max(1, len(found))
    figure, axes, names = _subplots(report.classes, "", rows, columns, figsize=(9, 1.3 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    if not found:
        figure.suptitle(NO_MISTAKE)
    for row, (true, predicted, times) in zip(axes, found, strict=False):
        chosen = np.flatnonzero((report.labels == true) & (report.predictions == predicted))
        chosen = chosen[np.argsort(-report.probabilities[chosen, predicted])][:columns]
        for axis, index in zip(row, chosen, strict=False):
            _show(axis, images[index])
            axis.set_title(percent(report.probabilities[index, predicted], 0), fontsize=8)
        share = percent(times / max(1, (report.labels == true).sum()))
        text = f"{names[true]}\n→ {names[predicted]}\n{times} vezes ({share})"
        row[0].text(-0.15, 0.5, text, transform=row[0].transAxes, ha="right", va="center", fontsize=9)
    return figure


@styled
def typical_and_hardest(report: Report, images: torch.Tensor, columns: int = 4) -> Figure:
    """A row for each class: the pictures surest to belong to it, and those least, under what they were taken for."""
    shown = _most_mistaken(report)
    rows, widths = len(shown), [1] * columns + [0.3] + [1] * columns
    look = {"figsize": (8, 0.8 * rows), "squeeze": False, "width_ratios": widths}
    figure, axes, names = _subplots(report.classes, "as de mais erros", rows, len(widths), **look)
    size = 7 if max(map(len, names)) <= 10 else 5
    for axis in axes.flat:
        axis.axis("off")
    for row, label in zip(axes, shown, strict=True):
        order = report.by_difficulty(label)
        for axis, index in zip(row, order[:columns], strict=False):
            _show(axis, images[index])
        for axis, index in zip(row[columns + 1 :], order[columns:][: -columns - 1 : -1], strict=False):
            _show(axis, images[index])
            axis.set_title(names[report.predictions[index]], fontsize=size, pad=2)
        row[0].text(-0.2, 0.5, names[label], transform=row[0].transAxes, ha="right", va="center")
    figure.suptitle("à esquerda, as mais típicas; à direita, as mais difíceis e a resposta da rede", fontsize=11)
    return figure


@styled
def heat_maps(report: Report, images: torch.Tensor, indices: list[int], maps: list[torch.Tensor]) -> Figure:
    """Images above, and below them the same in grey under their maps (S×S, 0 … 1): bright is where the answer hangs."""
    columns = max(1, len(indices))
    figure, axes, names = _subplots(report.classes, "", 2, columns, figsize=(9, 2.3), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for (above, below), (index, heat) in zip(axes.T, zip(indices, maps, strict=True), strict=False):
        true, predicted = int(report.labels[index]), int(report.predictions[index])
        colour, mark = (BLUE, "✓") if true == predicted else (ORANGE, "✗")
        _show(above, images[index])
        text = f"{mark} {names[predicted]}"
        text += "" if true == predicted else f"\né {names[true]}"
        above.set_title(text, fontsize=8, color=colour, pad=2)
        _show_heat(below, images[index], heat)
    return figure


@styled
def first_filters(model: nn.Module, columns: int = 16) -> Figure:
    """The filters of the first convolution as small colour pictures; grey is zero.

    Where the second half repeats the first with the signs turned, as whitening makes them, only the first is shown.
    """
    weights = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d)).weight
    half = len(weights) // 2
    weights = weights[:half] if torch.equal(weights[:half], -weights[half:]) else weights
    rows = -(-len(weights) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(9, 0.6 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, weight in zip(axes.flat, weights.detach().cpu(), strict=False):
        axis.imshow((0.5 + weight / (2 * weight.abs().max().clamp(min=1e-9))).permute(1, 2, 0).numpy())
    return figure


@styled
def own_picture(
    image: Image.Image, seen: torch.Tensor, probabilities: dict[str, float], heat: torch.Tensor, warning: str = ""
) -> Figure:
    """A picture, the square the network sees of it (uint8 3×S×S), its likeliest classes as bars, and its map (S×S)."""
    top = list(probabilities.items())[:3][::-1]
    look = {"figsize": (9, 2.4), "width_ratios": (1, 1, 1.3, 1)}
    classes = tuple(name for name, _ in top)
    figure, (whole, square, bars, where), names = _subplots(classes, "", 1, 4, **look)
    smaller = min(1, 400 / max(image.size))  # not 50 megapixels
    whole.imshow(image.resize([max(1, round(length * smaller)) for length in image.size]))
    whole.set_title("a imagem")
    _show(square, seen)
    square.set_title(f"o que a rede vê ({seen.shape[1]}×{seen.shape[2]})")
    drawn = bars.barh(range(len(top)), [value for _, value in top], color="#999999")
    bars.set_yticks(range(len(top)), names)
    drawn[-1].set_color(BLUE)
    bars.bar_label(drawn, [percent(value, 0) for _, value in top], padding=3)
    bars.set(xlim=(0, 1.25), xticks=[], title="a resposta")
    bars.spines["bottom"].set_visible(False)
    bars.tick_params(length=0)
    _show_heat(where, seen, heat)
    where.set_title("de onde ela vem")
    whole.axis("off")
    if warning:
        figure.supxlabel(f"⚠ {warning}", color=ORANGE, weight="bold", fontsize=10)
    return figure


@styled
def robustness(scores: dict[str, list[float]], undamaged: float) -> Figure:
    """A line for each kind of damage: accuracy without it and at five strengths; `scores` as made by robustness.py."""
    figure, axis = plt.subplots(figsize=(7, 3.6))
    looks = zip("osD^v", (BLUE, ORANGE, BLACK, "#009E73", "#CC79A7"), strict=True)
    for (name, row), (marker, colour) in zip(scores.items(), looks, strict=True):
        axis.plot(range(6), [undamaged, *row], marker=marker, color=colour, label=name.partition(" (")[0])
    axis.set(xlabel="força do dano (0: nenhum)", ylabel="acurácia", ylim=(0, 1))
    axis.yaxis.set_major_formatter(PERCENT)
    axis.grid(axis="y")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _subplots(classes: tuple[str, ...], which: str, *shape: int, **look) -> tuple[Figure, Any, list[str]]:
    """Return a figure, its axes as plt.subplots() does, and the classes' names; a line below says what is left out.

    which: the classes that are shown of many; "" where the figure is not by class.
    """
    plt.rcParams["font.family"], drawable = fonts_for("".join(classes))  # before there are texts
    names, notes = short_names(classes, drawable), []
    if which and len(classes) > MOST:
        notes.append(f"{MOST} das {len(classes)} classes: {which}")
    if any(name.startswith(NUMBER) for name in set(names) - set(classes)):
        notes.append(
            f"{NUMBER}: o lugar da classe na lista, onde o nome não cabe ou falta uma fonte com as letras dele"
        )
    figure, axes = plt.subplots(*shape, **look)
    if notes:
        figure.supxlabel(". ".join(notes), fontsize=8)
    return figure, axes, names


def _most_mistaken(report: Report) -> list[int]:
    """The classes, or of many the MOST that are most often taken for others or others for them, ascending."""
    wrong = report.confusion - np.diag(np.diag(report.confusion))
    order = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")
    return sorted(order[:MOST].tolist())


def _show(axis, image: torch.Tensor) -> None:
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.axis("off")


def _show_heat(axis, image: torch.Tensor, heat: torch.Tensor) -> None:
    axis.imshow(image.float().mean(0).numpy(), cmap="gray", vmin=0, vmax=255)
    axis.imshow(heat.numpy(), cmap="inferno", vmin=0, vmax=1, alpha=0.6)
    axis.axis("off")


def _frame(axis, colour: str, dashed: bool) -> None:
    axis.axis("on")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.5, linestyle="--" if dashed else "-")
