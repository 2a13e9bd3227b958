"""`prever --separar`: copies of pictures, in a folder for each class; nothing is moved, and nothing written over."""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from glob import glob
from itertools import count
from pathlib import Path

from classificador.atomic import write_bytes
from classificador.drives import patiently
from classificador.errors import DataError, WriteError
from classificador.paths import as_path, numbered, unquote
from classificador.portuguese import first_few, number, reason

DOUBTFUL = "duvidosas"


def prepare_target(target: Path, arguments: list[str]) -> None:
    """Make the folder. Raises WriteError where it cannot be, and for one within a folder whose pictures are sorted.

    Its copies would be read the next time.
    """
    for argument in arguments:
        start, stars, _ = unquote(argument).partition("**")  # which look into all folders within
        with suppress(DataError):  # of a path that cannot be one, which is told with the others
            place = as_path(start or ".")
            for folder in map(Path, glob(str(place))) if stars else [place]:
                if folder.is_dir() and target.resolve().is_relative_to(folder.resolve()):
                    problem = f"{target} fica dentro de {folder}, e as cópias seriam lidas da próxima vez."
                    raise WriteError(problem, "Dê outra.")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"Não é possível gravar em {target}: {reason(error)}.", "Dê outra pasta.") from error


def sort_pictures(homes: dict[str, str], target: Path, classes: Sequence[str]) -> str:
    """Copy each picture into the folder of its class in `target`; return what is said of it.

    homes: class by path, "" for a doubtful one. classes: all that there are. One that is there already is not copied
    again; another of its name gets a number. Raises WriteError.
    """
    copied: Counter[str] = Counter()
    there, unread, folders = 0, list[str](), _folders({*classes, *homes.values(), ""})
    try:
        for path, name in homes.items():
            try:
                content = patiently(Path(path).read_bytes)
            except OSError as error:  # it is gone by now
                unread.append(f"{path} ({reason(error)})")
                continue
            folder = target / folders[name]
            folder.mkdir(parents=True, exist_ok=True)
            new = _copy(Path(path), content, folder)
            copied[folder.name] += new
            there += not new
    except (OSError, WriteError) as error:
        done = number(sum(copied.values()), 0)
        problem = f"Depois de {done} cópias, não foi possível gravar em {target}: {reason(error)}."
        remedy = "Libere espaço ou dê outra pasta; o mesmo comando continua: o que já está lá não se copia de novo."
        raise WriteError(problem, remedy) from error
    counts = ", ".join(f"{name} ({number(times, 0)})" for name, times in sorted(copied.items()) if times)
    again = f" Já estavam lá: {number(there, 0)}." if there else ""
    again += f" Não puderam ser lidas: {first_few(unread, 3)}." if unread else ""
    return f"Copiadas para {target}: {counts or 'nenhuma'}.{again} Os originais ficam onde estão."


def _copy(path: Path, content: bytes, folder: Path) -> int:
    """Copy a file, with this content, into a folder unless it is there; return how many copies were made."""
    for copy in numbered(folder / path.name):
        if not os.path.lexists(copy):
            write_bytes(copy, content)
            with suppress(OSError):  # some drives keep no times
                shutil.copystat(path, copy)
            return 1
        if copy.read_bytes() == content:
            break
    return 0


def _folders(names: set[str]) -> dict[str, str]:
    """A folder for each class, none of them another's, also where capitals do not count; "" is for the doubtful."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names, reverse=True):  # the doubtful last
        wanted = _as_folder(name) if name else DOUBTFUL
        folders = (wanted if place == 1 else f"{wanted} ({place})" for place in count(1))
        found[name] = next(folder for folder in folders if folder.casefold() not in taken)
        taken.add(found[name].casefold())
    return found


def _as_folder(name: str) -> str:
    """A class's name as that of a folder, on any system, and within the one it is to lie in."""
    safe = "".join("_" if sign in '/\\:*?"<>|' else sign for sign in name).strip(" .")
    return safe or "classe"
