"""The names of classes as a figure can show them: short, no two alike, in letters that a font has."""

from functools import cache

from matplotlib.font_manager import findfont, fontManager, get_font

LONGEST = 16  # letters of a name above a small picture
NUMBER = "nº"


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
