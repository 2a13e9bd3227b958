"""The figures of the notebook's lesson: how a convolution computes, what is altered, and what each idea is worth."""

import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from classificador.portuguese import number, percent
from classificador.show.style import BLACK, BLUE, COMMA, ORANGE, PERCENT, Described, new_figure, show, styled
from classificador.training.trainer import lr_factor

IDEAS = Path(__file__).with_name("ideas.json")  # measured by benchmarks/ideas.py


@styled("Uma foto, 5×5 pixels dela em números, um filtro de 3×3 e as nove respostas dele")
def convolution(
    image: torch.Tensor, place: tuple[int, int], corner: torch.Tensor, kernel: torch.Tensor, answers: torch.Tensor
) -> Described:
    """A photo (3×S×S) with a frame where `corner` was cut out; the numbers of it, of a filter, and of its answers.

    place: row and column of the corner's first pixel. What the first answer is made of has a frame, too.
    """
    figure, (photo, *grids) = new_figure(1, 4, figsize=(9, 2.5), width_ratios=(1.2, 1.2, 0.8, 0.8))
    row, column = place
    show(photo, image, "a foto")
    photo.add_patch(Rectangle((column - 0.5, row - 0.5), *corner.shape, fill=False, color=ORANGE, lw=2))
    titles = (f"{'×'.join(map(str, corner.shape))} pixels, em cinza", "o filtro", "as respostas")
    for axis, title, values in zip(grids, titles, (corner, kernel, answers), strict=True):
        _numbers(axis, title, values)
    for axis, shape in ((grids[0], kernel.shape), (grids[2], (1, 1))):
        axis.add_patch(Rectangle((-0.5, -0.5), *shape, fill=False, color=ORANGE, lw=3))
    return figure


def _numbers(axis: Axes, title: str, values: torch.Tensor) -> None:
    """Show a table of numbers, the larger the lighter."""
    low, high = values.min().item(), values.max().item()
    axis.imshow(values.numpy(), cmap="gray", vmin=low - 0.6 * (high - low + 1), vmax=high)
    for (row, column), value in np.ndenumerate(values.numpy()):
        axis.text(column, row, number(value, 0).replace("-", "−"), ha="center", va="center", color=BLACK, fontsize=9)
    axis.set(title=title, xticks=[], yticks=[])
    axis.spines[:].set(visible=True, color="#999999")


@styled("Oito versões alteradas de uma mesma foto: deslocadas e espelhadas")
def alterations(image: torch.Tensor, altered: torch.Tensor) -> Described:
    """A photo (3×S×S), and beside it what it was altered to (N×3×S×S)."""
    figure, axes = new_figure(1, 1 + len(altered), figsize=(9, 1.4))
    for axis, picture, title in zip(axes, [image, *altered], ["a foto"] + [""] * len(altered), strict=True):
        show(axis, picture, title)
    return figure


@styled("A taxa de aprendizado ao longo do treino: sobe no primeiro quinto e cai até zero")
def learning_rate(lr: float, epochs: int) -> Described:
    """The learning rate over a training of so many epochs, whose highest is `lr`."""
    figure, axis = new_figure(figsize=(6, 2.2))
    steps = 100 * epochs
    axis.plot([step / 100 for step in range(steps)], [lr * lr_factor(step, steps) for step in range(steps)], color=BLUE)
    axis.set(xlabel="época", ylabel="taxa de aprendizado", ylim=(0, None))
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(COMMA)
    axis.grid(axis="y")
    return figure


@styled("Tabela: a acurácia de validação com cada ideia a mais, o ganho dela e os segundos de uma época")
def ideas() -> Described:
    """What each idea is worth: the accuracy with all down to it, what it adds, and the time of an epoch."""
    results = json.loads(IDEAS.read_text(encoding="utf-8"))
    names, runs = list(results["accuracy"]), np.array(list(results["accuracy"].values()))
    mean, spread = runs.mean(1), runs.std(1, ddof=1)
    gains = ["", *(f"{100 * gain:+.1f}".replace(".", ",").replace("-", "−") for gain in np.diff(mean))]
    figure, axis = new_figure(figsize=(9, 3.2))
    places = np.arange(len(names))
    axis.errorbar(mean, places, xerr=spread, fmt="o-", color=BLUE, ecolor=BLACK, lw=1, capsize=3)
    axis.set(yticks=places)
    axis.grid(axis="x")
    axis.set_yticklabels([names[0], *(f"+ {name}" for name in names[1:])])
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(PERCENT)
    seconds = [f"{number(results['seconds'][name], 1)} s" for name in names]
    columns = (("acurácia", list(map(percent, mean))), ("ganho", gains), ("1 época", seconds))
    for shift, (title, texts) in zip((1.12, 1.23, 1.35), columns, strict=True):
        for place, text in zip([-0.9, *places], [title, *texts], strict=True):
            axis.text(shift, place, text, transform=axis.get_yaxis_transform(), ha="right", va="center")
    settings, machine, n = results["settings"], results["machine"], runs.shape[1]
    axis.set_xlabel(
        f"acurácia na validação, {number(settings['images'], 0)} imagens de treino, {settings['epochs']} épocas; "
        f"média e desvio padrão de {n} sementes;\ntempo em {machine['cores']} núcleos, {machine['kind']}"
    )
    return figure
