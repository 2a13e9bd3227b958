"""The notebook's figures: one style, colour-blind-safe, legible in print. Each function returns a Figure."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from classificador.brazilian import number, percent
from classificador.dataset import Split
from classificador.history import History
from classificador.metrics import Report

# Okabe and Ito's palette: told apart with every kind of colour vision, and by lightness when printed in grey.
BLUE, ORANGE, BLACK = "#0072B2", "#D55E00", "#222222"
STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "#dddddd",
    "legend.frameon": False,
}
COMMA = FuncFormatter(lambda value, position: f"{value:g}".replace(".", ","))
PERCENT = FuncFormatter(lambda value, position: f"{100 * value:g}%".replace(".", ","))


def sample_grid(split: Split, classes: tuple[str, ...], columns: int = 8) -> Figure:
    """The first `columns` images of each class, one row a class, the class name at the left."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(classes), columns, figsize=(6, 0.56 * len(classes)))
        for row, name in enumerate(classes):
            chosen = (split.labels == row).nonzero().flatten()[:columns].tolist()
            for axis in axes[row]:
                axis.axis("off")
            for axis, index in zip(axes[row], chosen, strict=False):
                _show(axis, split.images[index])
            axes[row, 0].text(-0.2, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center")
    return figure


def class_counts(splits: dict[str, Split], classes: tuple[str, ...]) -> Figure:
    """Bars with the number of images of each class in each named split."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 2.8))
        width = 0.8 / len(splits)
        looks = ((BLUE, ""), (ORANGE, "//"), ("#999999", ".."))  # hatches tell the bars apart in print
        for place, ((name, split), (colour, hatch)) in enumerate(zip(splits.items(), looks, strict=False)):
            counts = torch.bincount(split.labels, minlength=len(classes)).tolist()
            position = np.arange(len(classes)) + (place - (len(splits) - 1) / 2) * width
            label = f"{name} ({number(sum(counts), 0)})"
            bars = axis.bar(position, counts, width, color=colour, hatch=hatch, edgecolor="white", label=label)
            axis.bar_label(bars, [number(count, 0) for count in counts], fontsize=7)
        axis.set_xticks(range(len(classes)), classes)
        axis.set_ylabel("imagens")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, position: number(value, 0)))
        axis.legend(ncols=len(splits), loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def normalisation_effect(images: torch.Tensor) -> Figure:
    """Histograms of the pixel values before (0 … 255) and after normalising to mean 0.5, standard deviation 0.5."""
    values = images.flatten().numpy()
    with plt.rc_context(STYLE):
        figure, (image, before, after) = plt.subplots(1, 3, figsize=(9, 2.6), width_ratios=(1, 2, 2))
        _show(image, images[0])
        image.set_title("uma delas")
        before.hist(values, bins=64, range=(0, 256), color=BLUE)
        before.set(title=f"pixels de {len(images)} imagens, de 0 a 255", xlabel="valor", yticks=[])
        after.hist((values / 255 - 0.5) / 0.5, bins=64, range=(-1, 1), color=ORANGE)
        after.set(title="(x / 255 − 0,5) / 0,5", xlabel="valor", yticks=[])
        after.xaxis.set_major_formatter(COMMA)
    return figure


def training_curves(history: History, figure: Figure | None = None) -> Figure:
    """Loss and accuracy for training and validation, the best epoch marked. Redraws into `figure` when given."""
    with plt.rc_context(STYLE):
        figure = figure or plt.figure(figsize=(9, 3.4))
        figure.clear()
        for axis, name, column in zip(figure.subplots(1, 2), ("loss", "accuracy"), (1, 2), strict=True):
            train, val = getattr(history, f"train_{name}"), getattr(history, f"val_{name}")
            if history.steps:
                axis.plot(
                    [s[0] for s in history.steps], [s[column] for s in history.steps], color=BLUE, alpha=0.25, lw=1
                )
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


def confusion_matrices(report: Report) -> Figure:
    """Counts and row percentages side by side, rows the true class."""
    counts = report.confusion
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5.4))
        for axis, values, title in zip(
            axes, (counts, 100 * shares), ("contagem", "% da classe verdadeira"), strict=True
        ):
            axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            axis.set(title=title, xlabel="classe prevista")
            axis.set_xticks(range(len(counts)), report.classes, rotation=45, ha="right", rotation_mode="anchor")
            axis.set_yticks(range(len(counts)), report.classes)
            axis.tick_params(length=0)
            for row, column in np.ndindex(*counts.shape):
                colour = "white" if shares[row, column] > 0.5 else BLACK
                axis.text(
                    column, row, f"{values[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8.5
                )
        axes[0].set_ylabel("classe verdadeira")
    return figure


def prediction_grid(report: Report, images: torch.Tensor, indices: list[int], columns: int = 6) -> Figure:
    """Images with predicted class, probability and true class; a wrong one has a ✗ and a dashed frame."""
    rows = -(-len(indices) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(9, 1.95 * rows), squeeze=False)
        for axis in axes.flat[len(indices) :]:
            axis.axis("off")
        for axis, index in zip(axes.flat, indices, strict=False):
            true, predicted = int(report.labels[index]), int(report.predictions[index])
            right, probability = true == predicted, report.probabilities[index, predicted]
            _show(axis, images[index])
            colour, mark = (BLUE, "✓") if right else (ORANGE, "✗")
            _frame(axis, colour, dashed=not right)
            text = f"{mark} {report.classes[predicted]} {percent(probability, 0)}\nverdade: {report.classes[true]}"
            axis.set_title(text, fontsize=8.5, color=colour, weight="normal" if right else "bold")
    return figure


def confused_pairs(report: Report, images: torch.Tensor, pairs: int = 3, columns: int = 8) -> Figure:
    """The most frequent mistakes, a row each: how often, and the pictures the model was surest and wrong about."""
    found = report.most_confused(pairs)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(max(1, len(found)), columns, figsize=(9, 1.3 * max(1, len(found))), squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for row, (true, predicted, times) in zip(axes, found, strict=False):
            chosen = np.flatnonzero((report.labels == true) & (report.predictions == predicted))
            chosen = chosen[np.argsort(-report.probabilities[chosen, predicted])][:columns]
            for axis, index in zip(row, chosen, strict=False):
                _show(axis, images[index])
                axis.set_title(percent(report.probabilities[index, predicted], 0), fontsize=8)
            share = percent(times / max(1, (report.labels == true).sum()))
            text = f"{report.classes[true]}\n→ {report.classes[predicted]}\n{times} vezes ({share})"
            row[0].text(-0.15, 0.5, text, transform=row[0].transAxes, ha="right", va="center", fontsize=9)
    return figure


def _show(axis, image: torch.Tensor) -> None:
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.axis("off")


def _frame(axis, colour: str, dashed: bool) -> None:
    axis.axis("on")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.5, linestyle="--" if dashed else "-")
