"""The notebook's figures. Each function returns a figure that a notebook shows; elsewhere, savefig() writes it."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from classificador.data.dataset import Split
from classificador.portuguese import number, percent, shorten
from classificador.results.metrics import Report, calibration_error, reliability
from classificador.results.predict import uncalibrated
from classificador.show.style import (
    BLACK,
    BLUE,
    COMMA,
    LONGEST,
    MOST,
    ORANGE,
    PERCENT,
    Described,
    label_row,
    new_figure,
    picture_grid,
    show,
    show_heat,
    styled,
    subplots,
)
from classificador.training.history import History


@styled("Fotos de treino, uma linha por classe")
def sample_grid(split: Split, classes: tuple[str, ...], columns: int = 8) -> Described:
    """The first `columns` images of each class (at most MOST), one row a class, the class name at the left."""
    rows = min(MOST, len(classes))
    figure, axes, names = picture_grid(classes, "as primeiras", (rows, columns), (5.2, 0.48))
    for label, row in enumerate(axes):
        label_row(row, names[label])
        chosen = (split.labels == label).nonzero().flatten()[:columns]
        for axis, image in zip(row, split.images[chosen], strict=False):
            show(axis, image)
    return figure


@styled("Barras com o número de imagens de cada classe no treino, na validação e no teste")
def class_counts(splits: dict[str, Split], classes: tuple[str, ...]) -> Described:
    """Bars with the number of images in each named split of each class, or of the MOST with the fewest."""
    counts = torch.stack([torch.bincount(split.labels, minlength=len(classes)) for split in splits.values()])
    shown = counts.sum(0).argsort(stable=True)[:MOST].sort().values
    figure, axis, names = subplots(classes, "as de menos imagens", figsize=(9, 2.8))
    width = 0.8 / len(splits)
    looks = ((BLUE, ""), (ORANGE, "//"), ("#999999", ".."))  # hatches tell the bars apart in print
    for place, ((name, split), (colour, hatch)) in enumerate(zip(splits.items(), looks, strict=False)):
        values = counts[place, shown].tolist()
        position = np.arange(len(shown)) + (place - (len(splits) - 1) / 2) * width
        label = f"{name} ({number(len(split), 0)})"
        bars = axis.bar(position, values, width, color=colour, hatch=hatch, edgecolor="white", label=label)
        axis.bar_label(bars, [number(value, 0) for value in values], fontsize=7)
    axis.set_xticks(range(len(shown)), [names[i] for i in shown.tolist()])
    if len(shown) * max(map(len, names)) > 100:  # side by side they would run into each other
        axis.tick_params(axis="x", rotation=45)
        for text in axis.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    axis.set_ylabel("imagens")
    axis.yaxis.set_major_formatter(lambda value, position: number(value, 0))
    axis.legend(ncols=len(splits), loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


@styled("Uma foto e dois histogramas dos pixels: de 0 a 255 e, normalizados, de −1 a 1")
def normalisation_effect(images: torch.Tensor) -> Described:
    """Histograms of the pixel values before (0 … 255) and after normalising to mean 0.5, standard deviation 0.5."""
    values = images.flatten().numpy()
    figure, (image, before, after) = new_figure(1, 3, figsize=(9, 2.6), width_ratios=(1, 2, 2))
    show(image, images[0], "uma delas")
    before.hist(values, bins=64, range=(0, 256), color=BLUE)
    before.set(title=f"pixels de {len(images)} imagens, de 0 a 255", xlabel="valor", yticks=[])
    after.hist((values / 255 - 0.5) / 0.5, bins=64, range=(-1, 1), color=ORANGE)
    after.set(title="(x / 255 − 0,5) / 0,5", xlabel="valor", yticks=[])
    after.xaxis.set_major_formatter(COMMA)
    return figure


@styled("Curvas de perda e de acurácia por época, do treino e da validação, com a melhor época marcada")
def training_curves(history: History) -> Described:
    """Loss and accuracy for training and validation, the best epoch marked."""
    figure, axes = new_figure(1, 2, figsize=(9, 3.4))
    fractions, *measured = np.array(history.steps).reshape(-1, 3).T  # also where there are none yet
    views = (
        ("perda", COMMA, history.train_loss, history.val_loss),
        ("acurácia", PERCENT, history.train_accuracy, history.val_accuracy),
    )
    for axis, values, (title, formatter, train, val) in zip(axes, measured, views, strict=True):
        axis.plot(fractions, values, color=BLUE, alpha=0.25, lw=1, label="treino, dentro da época")
        epochs = range(1, len(val) + 1)
        axis.plot(epochs, train, "o-", color=BLUE, markersize=4, label="treino")
        axis.plot(epochs, val, "s--", color=ORANGE, markersize=4, label="validação")
        if val:
            best = history.best + 1
            axis.axvline(best, color=BLACK, lw=1, ls=":", label=f"melhor época ({best})")
            axis.legend()
        axis.set(xlabel="época", title=title)
        axis.yaxis.set_major_formatter(formatter)
        axis.xaxis.set_major_formatter(COMMA)
        axis.xaxis.get_major_locator().set_params(integer=len(val) > 2)
        axis.grid(axis="y")
    return figure


@styled("Matriz de confusão: classes verdadeiras nas linhas, respostas da rede nas colunas")
def confusion_matrices(report: Report) -> Described:
    """Counts and row percentages side by side, rows the true class; of many classes the MOST with the most mistakes."""
    shown = _most_mistaken(report)
    counts = report.confusion[shown]
    shares = (counts / counts.sum(1, keepdims=True).clip(1))[:, shown]
    figure, axes, every = subplots(report.classes, "as de mais erros", 1, 2, figsize=(11, 5.4))
    names = [every[label] for label in shown]
    views = {"contagem": counts[:, shown], "% da classe verdadeira": 100 * shares}
    for axis, (title, values) in zip(axes, views.items(), strict=True):
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axis.set(title=title, xlabel="classe prevista")
        axis.set_xticks(range(len(shown)), names, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(shown)), names)
        axis.tick_params(length=0)
        for row, column in np.ndindex(*shares.shape):
            colour = "white" if shares[row, column] > 0.5 else BLACK
            axis.text(column, row, f"{values[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8.5)
    axes[0].set_ylabel("classe verdadeira")
    return figure


@styled("Acurácia das respostas para cada faixa de confiança, antes e depois da calibração")
def reliability_diagram(report: Report, temperature: float) -> Described:
    """Accuracy against confidence before and after the temperature, with the expected calibration error of each."""
    raw = uncalibrated(report.probabilities, temperature)
    fitted = f"calibrada (temperatura {number(temperature, 2)})" if temperature != 1 else "não se ajustou nada"
    looks = ((raw, "sem calibração"), (report.probabilities, fitted))
    figure, axes = new_figure(1, 2, figsize=(9, 3.6), sharey=True)
    for axis, (probabilities, name) in zip(axes, looks, strict=True):
        confidence, accuracy, counts = reliability(probabilities, report.labels).T
        centres = (np.arange(len(counts)) + 0.5) / len(counts)
        axis.bar(centres, confidence, 0.94 / len(counts), color="#dddddd", label="confiança")
        bars = axis.bar(centres, accuracy, 0.5 / len(counts), color=BLUE, label="acurácia")
        axis.bar_label(bars, [number(count, 0) if count else "" for count in counts], fontsize=6)
        axis.plot((0, 1), (0, 1), color=BLACK, lw=1, ls=":")
        gap = percent(calibration_error(probabilities, report.labels))
        axis.set(title=f"{name}: erro de {gap}", xlabel="confiança na resposta", xlim=(0, 1), ylim=(0, 1))
        axis.xaxis.set_major_formatter(PERCENT)
    axes[0].set_ylabel("acurácia")
    axes[0].yaxis.set_major_formatter(PERCENT)
    axes[0].legend(loc="upper left")
    return figure


@styled("Fotos com a resposta da rede, a confiança dela e, nos erros, a classe verdadeira")
def prediction_grid(report: Report, indices: list[int], columns: int = 6) -> Described:
    """Images with predicted class, probability and true class; a wrong one has a ✗ and a dashed frame."""
    rows = -(-len(indices) // columns)
    figure, axes, names = picture_grid(report.classes, "", (rows, columns), (9, 2.15))
    for axis, index in zip(axes.flat, indices, strict=False):
        right, colour, text = _verdict(report, names, index)
        show(
            axis, report.pictures.images[index], text, fontsize=8.5, color=colour, weight="normal" if right else "bold"
        )
        axis.axis("on")
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set(visible=True, color=colour, linewidth=2.5, linestyle="-" if right else "--")
    return figure


@styled("Os pares de classes mais trocados, com os erros mais confiantes de cada um")
def confused_pairs(report: Report, pairs: int = 3, columns: int = 8) -> Described:
    """The most frequent mistakes, a row each: how often, and the pictures the model was surest and wrong about."""
    found = report.most_confused(pairs)
    figure, axes, names = picture_grid(report.classes, "", (len(found), columns), (9, 1.3))
    for row, (true, predicted, times) in zip(axes, found, strict=False):
        chosen = np.flatnonzero((report.labels == true) & (report.predictions == predicted))
        chosen = chosen[np.argsort(-report.probabilities[chosen, predicted])]
        for axis, index in zip(row, chosen, strict=False):
            show(axis, report.pictures.images[index], percent(report.probabilities[index, predicted], 0), fontsize=8)
        share = percent(times / (report.labels == true).sum())
        label_row(row, f"{names[true]}\n→ {names[predicted]}\n{times} vezes ({share})", fontsize=9)
    return figure


@styled("De cada classe, as fotos reconhecidas com mais confiança e as mais difíceis")
def typical_and_hardest(report: Report, columns: int = 4) -> Described:
    """A row for each class: the pictures surest to belong to it, and those least, under what they were taken for."""
    shown = _most_mistaken(report)
    widths = [1] * columns + [0.3] + [1] * columns
    shape = len(shown), len(widths)
    figure, axes, names = picture_grid(report.classes, "as de mais erros", shape, (8, 0.8), width_ratios=widths)
    size = 7 if max(map(len, names)) <= 10 else 5
    for row, label in zip(axes, shown, strict=True):
        label_row(row, names[label])
        order = report.by_difficulty(label)
        for axis, index in zip(row, order[:columns], strict=False):
            show(axis, report.pictures.images[index])
        for axis, index in zip(row[columns + 1 :], order[columns:][::-1], strict=False):
            image = report.pictures.images[index]
            show(axis, image, names[report.predictions[index]], fontsize=size, pad=2)
    figure.suptitle("à esquerda, as mais típicas; à direita, as mais difíceis e a resposta da rede", fontsize=11)
    return figure


@styled("Fotos e, abaixo, as mesmas em cinza, amarelas onde a resposta depende delas")
def heat_maps(report: Report, indices: list[int], maps: list[torch.Tensor]) -> Described:
    """Images above, and below them the same in grey under their maps (S×S, 0 … 1): bright is where the answer hangs."""
    figure, axes, names = picture_grid(report.classes, "", (2, len(indices)), (9, 1.25))
    for (above, below), (index, heat) in zip(axes.T, zip(indices, maps, strict=True), strict=False):
        _, colour, text = _verdict(report, names, index)
        image = report.pictures.images[index]
        show(above, image, text, fontsize=8, color=colour, pad=2)
        show_heat(below, image, heat)
    return figure


@styled("Os filtros da primeira convolução como quadrados coloridos")
def first_filters(model: nn.Module, columns: int = 16) -> Described:
    """The filters of the first convolution as small colour pictures; grey is zero.

    Where the second half repeats the first with the signs turned, as whitening makes them, only the first is shown.
    """
    weights = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d)).weight.detach().cpu()
    half = len(weights) // 2
    weights = weights[:half] if torch.equal(weights[:half], -weights[half:]) else weights
    figure, axes, _ = picture_grid((), "", (-(-len(weights) // columns), columns), (9, 0.6))
    for axis, weight in zip(axes.flat, weights, strict=False):
        show(axis, 0.5 + weight / (2 * weight.abs().max().clamp(min=1e-9)))
    return figure


@styled("Acurácia conforme a força de cada tipo de dano nas imagens")
def robustness(scores: dict[str, list[float]], undamaged: float) -> Described:
    """A line for each kind of damage: accuracy without it and at five strengths; `scores` as made by robustness.py."""
    figure, axis = new_figure(figsize=(7, 3.6))
    looks = zip("osD^v", (BLUE, ORANGE, BLACK, "#009E73", "#CC79A7"), strict=True)
    for (name, row), (marker, colour) in zip(scores.items(), looks, strict=True):
        axis.plot(range(6), [undamaged, *row], marker=marker, color=colour, label=name.partition(" (")[0])
    axis.set(xlabel="força do dano (0: nenhum)", ylabel="acurácia", ylim=(0, 1))
    axis.yaxis.set_major_formatter(PERCENT)
    axis.grid(axis="y")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _most_mistaken(report: Report) -> list[int]:
    """The classes, or of many the MOST that are most often taken for others or others for them, ascending."""
    wrong = report.confusion - np.diag(np.diag(report.confusion))
    order = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")
    return sorted(order[:MOST].tolist())


def _verdict(report: Report, names: list[str], index: int) -> tuple[bool, str, str]:
    """Whether the model took an image for what it is, the colour for that, and the answer in a few lines."""
    predicted, label = report.predictions[index], report.labels[index]
    sure = percent(report.probabilities[index, predicted], 0)
    if predicted == label:
        return True, BLUE, f"✓ {names[predicted]}\n{sure}"
    origins = report.pictures.origins
    file = f"\n{shorten(Path(origins[index].file).name, LONGEST)}" if origins else ""
    return False, ORANGE, f"✗ {names[predicted]}\n{sure}\né {names[label]}{file}"
