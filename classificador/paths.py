"""Paths as people write them: in quotes, copied from a text, or with backslashes that Python took for signs."""

import os
import re
from collections.abc import Collection, Iterator
from itertools import count
from pathlib import Path
from urllib.request import url2pathname

from classificador.errors import ClassificadorError, DataError, brief

OPENING, CLOSING = "“«„", "”»"  # of one that ended at a space, and of one that began before it
QUOTES = {"'": "'", '"': '"', "“": "”", "‘": "’", "«": "»", "”": "”", "„": "“"}
DASHES = "-‐‑‒–—―−﹣－"  # of which a text processor makes what it likes
ADDRESS = re.compile(r"(https?|ftps?|gs|s3):/+|www\.|data:", re.IGNORECASE)  # Path leaves one of the slashes
ESCAPES = {"\0": r"\0", "\1": r"\1", "\2": r"\2", "\3": r"\3", "\4": r"\4", "\5": r"\5", "\6": r"\6"}
ESCAPES |= {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}


def as_path(given: str | os.PathLike[str], error: type[ClassificadorError] = DataError) -> Path:
    """Return the path meant by a text: what is there as it is, or else without quotes around it, ~ for the home.

    Raises `error` for none, for an address, and for one with a sign like that of "\\t", which a Windows path has by
    accident.
    """
    text = os.fspath(given)
    if os.path.lexists(text):
        return Path(text)
    text = unquote(text)
    if not text:
        raise error("O caminho está vazio.", "Dê o de um arquivo ou de uma pasta.")
    if ADDRESS.match(text):
        shown = brief(re.sub(r"^(\w+):/+", r"\1://", text))
        raise error(f"{shown} é um endereço, e não um arquivo daqui.", "Salve o que há nele, e dê o arquivo salvo.")
    if text.lower().startswith("file:/"):  # as a browser shows a file
        text = url2pathname(re.sub("^/+(localhost/)?", "/", text[len("file:") :], flags=re.IGNORECASE))
    if (text[0] in OPENING or text[-1] in CLOSING) and not os.path.lexists(os.path.expanduser(text)):
        raise error(f"O caminho {text} tem aspas de um texto copiado.", 'Escreva as retas: "…".')
    if text.endswith('"'):  # of cmd.exe, from "C:\fotos\"
        text = text[:-1]
    if any(sign in text for sign in ESCAPES) or any("\x7f" <= sign < "\xa0" for sign in text):
        shown = "".join(ESCAPES.get(sign, "\\…" if "\x7f" <= sign < "\xa0" else sign) for sign in text)
        problem = f"O caminho {shown} tem sinais que não são letras: em Python, \\ muda a letra seguinte."
        plain = f'Escreva r"{shown}" ou "{shown.replace(chr(92), "/")}".'
        raise error(problem, "Ponha um r antes das aspas." if "…" in shown else plain)
    return Path(os.path.expanduser(text))


def numbered(path: Path) -> Iterator[Path]:
    """Return a path, and others for where it is taken: "x.png", "x (2).png", "x (3).png" and so on."""
    yield path
    yield from (path.with_name(f"{path.stem} ({number}){path.suffix}") for number in count(2))


def unquote(text: str) -> str:
    """Return a text without the quotes around it, if there are."""
    text = text.strip()
    while len(text) > 1 and QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text


def plain_argument(text: str, options: Collection[str]) -> str:
    """Return an argument of the command line with the hyphens and quotes that a text processor took away.

    options: those that there are; what would be none of them stays as it is.
    """
    if text[:1] and text[0] in DASHES:
        name, sign, value = text.lstrip(DASHES).partition("=")
        name = "".join("-" if letter in DASHES else letter for letter in name)
        option = ("-" if len(name) == 1 else "--") + name
        return f"{option}{sign}{value}" if option in options else text
    return unquote(text) if text[:1] in "“”„‘«" else text
