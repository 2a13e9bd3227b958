"""How the project's figures look: one style, colour-blind-safe, legible in print; how they show pictures and names."""

import base64
import io
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any

import torch
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.ticker import FuncFormatter

from classificador.portuguese import shorten

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
NO_MISTAKE = "Nenhum erro nestas imagens."
MOST = 20  # classes in a figure: a hundred rows of pictures take long to draw and longer to look at
COMMA = FuncFormatter(lambda value, position: f"{value:g}".replace(".", ","))
PERCENT = FuncFormatter(lambda value, position: f"{100 * value:g}%".replace(".", ","))


class Described(Figure):
    """A figure with a text in place of it, `alt`, for who does not see it; a notebook shows it without pyplot."""

    alt = ""

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """What IPython shows: the picture, and beside it the text under the name that nbconvert reads."""
        picture = io.BytesIO()
        self.savefig(picture, format="png", bbox_inches="tight")
        data = {"image/png": base64.b64encode(picture.getvalue()).decode(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


def styled(alt: str) -> Callable[[Callable[..., Described]], Callable[..., Described]]:
    """Give the figure that a function returns the project's style and a text in place of it, in Portuguese."""

    def decorate(draw: Callable[..., Described]) -> Callable[..., Described]:
        """Return the function that draws so."""

        @wraps(draw)
        def drawn(*arguments: Any, **options: Any) -> Described:
            """Draw within the style, and give the figure its text."""
            with rc_context(STYLE):
                figure = draw(*arguments, **options)
            figure.alt = alt
            return figure

        return drawn

    return decorate


def new_figure(rows: int = 1, columns: int = 1, **look: Any) -> tuple[Described, Any]:
    """Return a figure and its axes as plt.subplots() does, which pyplot knows nothing of and need not close.

    look: of it, "figsize" is the figure's, and the rest is for Figure.subplots().
    """
    figure = Described(figsize=look.pop("figsize", None))
    return figure, figure.subplots(rows, columns, **look)


def subplots(classes: tuple[str, ...], which: str, *shape: int, **look: Any) -> tuple[Described, Any, list[str]]:
    """Return a figure, its axes as new_figure() does, and the classes' names, the long ones without their middle.

    One that is then another's, or has letters that no font has, becomes its number, from 1. A line below the figure
    says so. which: the classes that are shown of many, which it says, too; "" where the figure is not by class.
    """
    rcParams["font.family"], drawable = fonts_for("".join(classes))  # before there are texts
    names = [shorten(name, LONGEST) for name in classes]
    numbers = [place for place, name in enumerate(names) if names.count(name) > 1 or not drawable.issuperset(name)]
    notes = [f"{MOST} das {len(classes)} classes: {which}"] if which and len(classes) > MOST else []
    if numbers:
        notes.append("nº: o lugar da classe na lista, onde o nome não cabe ou falta uma fonte com as letras dele")
    figure, axes = new_figure(*shape, **look)
    if notes:
        figure.supxlabel(". ".join(notes), fontsize=8)
    return figure, axes, [f"nº {place + 1}" if place in numbers else name for place, name in enumerate(names)]


def picture_grid(
    classes: tuple[str, ...], which: str, shape: tuple[int, int], size: tuple[float, float], **look: Any
) -> tuple[Described, Any, list[str]]:
    """Return the same as subplots() for rows and columns of pictures: axes always rows×columns, without lines.

    shape: rows and columns; of no rows, one without pictures says that there is no mistake to be shown.
    size: width, and height of one row, in inches.
    """
    rows, columns = max(1, shape[0]), max(1, shape[1])
    look |= {"figsize": (size[0], size[1] * rows), "squeeze": False}
    figure, axes, names = subplots(classes, which, rows, columns, **look)
    for axis in axes.flat:
        axis.axis("off")
    if not shape[0]:
        figure.suptitle(NO_MISTAKE)
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
    return families, set(letters) - missing | {"…"}
