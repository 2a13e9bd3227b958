"""How the project's figures look: one style, colour-blind-safe, legible in print; how they show pictures and names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from classificador.show.names import NUMBER, fonts_for, short_names

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
MOST = 20  # classes in a figure: a hundred rows of pictures take long to draw and longer to look at
COMMA = FuncFormatter(lambda value, position: f"{value:g}".replace(".", ","))
PERCENT = FuncFormatter(lambda value, position: f"{100 * value:g}%".replace(".", ","))


@contextmanager
def styled() -> Iterator[None]:
    """Give what is drawn the style: in a `with` block, or in a function that it decorates."""
    with plt.rc_context(STYLE):
        yield


def subplots(classes: tuple[str, ...], which: str, *shape: int, **look) -> tuple[Figure, Any, list[str]]:
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


def picture_grid(classes: tuple[str, ...], which: str, *shape: int, **look) -> tuple[Figure, Any, list[str]]:
    """Return the same as subplots() for rows and columns of pictures: axes always rows×columns, without lines."""
    figure, axes, names = subplots(classes, which, *shape, squeeze=False, **look)
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes, names


def show(axis, image: torch.Tensor, title: str = "", **look) -> None:
    """Show a picture (3×S×S, uint8 or 0 … 1), its pixels sharp, under a title."""
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.set_title(title, **look)
    axis.axis("off")


def show_heat(axis, image: torch.Tensor, heat: torch.Tensor) -> None:
    """Show a picture (uint8 3×S×S) in grey under its map (S×S, 0 … 1)."""
    axis.imshow(image.float().mean(0).numpy(), cmap="gray", vmin=0, vmax=255)
    axis.imshow(heat.numpy(), cmap="inferno", vmin=0, vmax=1, alpha=0.6)
    axis.axis("off")


def label_row(axes, text: str, **look) -> None:
    """Write a text at the left of a row of pictures."""
    axes[0].text(-0.2, 0.5, text, transform=axes[0].transAxes, ha="right", va="center", **look)
