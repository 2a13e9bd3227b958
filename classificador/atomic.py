"""Files that appear whole or not at all, whatever crashes while they are written."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from classificador.brazilian import reason
from classificador.errors import CheckpointError


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically and durably: at every moment it is absent, the complete old one or the complete new one.

    Raises CheckpointError naming the path when it cannot be written; the old file is then unchanged. Where `path` is a
    symbolic link, the new file takes the link's place; what it pointed to stays as it was.
    """
    unfinished = temporary(path)
    try:
        unfinished.unlink(missing_ok=True)  # of a process that died and had our number
        with open(unfinished, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except OSError as error:
        there = os.path.isdir(path.parent)
        free = f" ({shutil.disk_usage(path.parent).free // 2**20} MB livres no disco)" if there else ""
        raise CheckpointError(f"Não foi possível gravar {path}{free}: {reason(error)}.") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def temporary(path: Path) -> Path:
    """Where this process writes what becomes `path` when it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed while writing `path` left; only for who holds its lock."""
    for file in path.parent.iterdir():
        if re.fullmatch(rf"\.{re.escape(path.name)}\.\d+\.tmp", file.name):
            with suppress(OSError):
                file.unlink()


def free_name(path: Path, label: str) -> Path:
    """A name beside `path` that nothing has: best_model.anterior-84.42.pth, or with -2, -3 … behind the label."""
    number, name = 1, path.with_name(f"{path.stem}.{label}{path.suffix}")
    while os.path.lexists(name):
        number += 1
        name = path.with_name(f"{path.stem}.{label}-{number}{path.suffix}")
    return name


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; Windows cannot open a folder and needs none of it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
