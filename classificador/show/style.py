"""How the project's figures look: one style, colour-blind-safe, legible in print; how they show pictures and names."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.ticker import FuncFormatter

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
LONGEST = 16  # letters of a name above a small picture
NUMBER = "nº"  # before that of a class whose name cannot be shown
MOST = 20  # classes in a figure: a hundred rows of pictures take long to draw and longer to look at
COMMA = FuncFormatter(lambda value, position: f"{value:g}".replace(".", ","))
PERCENT = FuncFormatter(lambda value, position: f"{100 * value:g}%".replace(".", ","))


@contextmanager
def styled() -> Iterator[None]:
    """Give what is drawn the style: in a `with` block, or in a function that it decorates."""
    with plt.rc_context(STYLE):
        yield


def subplots(classes: tuple[str, ...], which: str, *shape: int, **look: Any) -> tuple[Figure, Any, list[str]]:
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


def picture_grid(classes: tuple[str, ...], which: str, *shape: int, **look: Any) -> tuple[Figure, Any, list[str]]:
    """Return the same as subplots() for rows and columns of pictures: axes always rows×columns, without lines."""
    figure, axes, names = subplots(classes, which, *shape, squeeze=False, **look)
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes, names


def show(axis: Axes, image: torch.Tensor, title: str = "", **look: Any) -> None:
    """Show a picture (3×S×S, uint8 or 0 … 1), its pixels sharp, under a title."""
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.set_title(title, **look)
    axis.axis("off")


def show_heat(axis: Axes, image: torch.Tensor, heat: torch.Tensor) -> None:
    """Show a picture (uint8 3×S×S) in grey under its map (S×S, 0 … 1)."""
    axis.imshow(image.float().mean(0).numpy(), cmap="gray", vmin=0, vmax=255)
    axis.imshow(heat.numpy(), cmap="inferno", vmin=0, vmax=1, alpha=0.6)
    axis.axis("off")


def label_row(axes: Sequence[Axes], text: str, **look: Any) -> None:
    """Write a text at the left of a row of pictures."""
    axes[0].text(-0.2, 0.5, text, transform=axes[0].transAxes, ha="right", va="center", **look)


def short_names(classes: tuple[str, ...], drawable: set[str]) -> list[str]:
    """Return the names, the long ones with "…" in place of their end, or of their middle where that tells them apart.

    One that stays like another's, or that has letters which are not `drawable`, becomes its number, from 1.
    """
    cut = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in classes]
    half = LONGEST // 2
    ends = [f"{name[: half - 1]}…{name[-half:]}" if cut.count(cut[i]) > 1 else cut[i] for i, name in enumerate(classes)]
    return [
        short if drawable.issuperset(name) and ends.count(short) == 1 else f"{NUMBER} {place}"
        for place, (name, short) in enumerate(zip(classes, ends, strict=True), 1)
    ]


@cache
def fonts_for(letters: str) -> tuple[list[str], set[str]]:
    """Return font families that between them have most of the letters, and those letters; matplotlib's own comes first.

    matplotlib takes each letter from the first of the families that has it.
    """
    families, missing = ["DejaVu Sans"], set(letters)
    missing -= set(map(chr, get_font(findfont("DejaVu Sans")).get_charmap()))
    for font in fontManager.ttflist if missing else ():
        if found := missing.intersection(map(chr, get_font(font.fname).get_charmap())):
            families.append(font.name)
            missing -= found
    return families, set(letters) - missing
