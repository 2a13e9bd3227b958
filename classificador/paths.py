"""Paths as people write them: in quotes, copied from a text, or with backslashes that Python took for signs."""

import os
from pathlib import Path

from classificador.errors import ClassificadorError, DataError

QUOTES = {"'": "'", '"': '"', "“": "”", "‘": "’", "«": "»"}
ADDRESSES = ("http:/", "https:/")  # of which Path leaves one of the slashes
ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}


def as_path(given: str | os.PathLike[str], error: type[ClassificadorError] = DataError) -> Path:
    """Return the path meant by a text: what is there as it is, or else without quotes around it, ~ for the home.

    Raises `error` for an address, and for one with a sign like that of "\\t", which a Windows path has by accident.
    """
    text = os.fspath(given)
    if os.path.lexists(text):
        return Path(text)
    text = unquote(text)
    if text.startswith(ADDRESSES):
        scheme, _, rest = text.partition(":")
        problem = f"{scheme}://{rest.lstrip('/')} é um endereço da internet."
        raise error(problem, "Salve o que há nele e dê o arquivo.")
    if text.endswith('"'):  # of cmd.exe, from "C:\fotos\"
        text = text[:-1]
    if any(sign in text for sign in ESCAPES):
        shown = "".join(ESCAPES.get(sign, sign) for sign in text)
        problem = f"O caminho {shown} tem sinais que não são letras: em Python, \\ muda a letra seguinte."
        raise error(problem, f'Escreva r"{shown}" ou "{shown.replace(chr(92), "/")}".')
    return Path(os.path.expanduser(text))


def unquote(text: str) -> str:
    """Return a text without the quotes around it, if there are."""
    text = text.strip()
    while len(text) > 1 and QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text


def plain_argument(text: str) -> str:
    """Return an argument of the command line with the hyphens and quotes that a text processor took away."""
    for dash, hyphens in (("—", "--"), ("–", "--"), ("--", "--"), ("−", "-")):
        if text.startswith(dash) and text[len(dash) :][:1].isalpha():
            return hyphens + text[len(dash) :]
    return unquote(text) if text[:1] in "“‘«" else text
