"""Files that appear whole or not at all, whatever crashes while they are written; and one writer of a file."""

import errno
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from string import digits

from filelock import BaseFileLock, FileLock, Timeout

from classificador.drives import HELD, patiently
from classificador.errors import WriteError
from classificador.portuguese import reason

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # what file systems without locks answer


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file atomically and durably: at every moment it is absent, the complete old one or the complete new one.

    Raises WriteError naming the path when it cannot be written; the old file is then unchanged. Where `path` is a
    symbolic link, the new file takes the link's place; what it pointed to stays as it was.
    """
    unfinished = temporary(path)
    try:
        unfinished.unlink(missing_ok=True)  # of a process that died and had our number
        with open(unfinished, "xb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        patiently(lambda: os.replace(unfinished, path), HELD)
        _sync_folder(path.parent)
    except OSError as error:
        there = os.path.isdir(path.parent)
        free = f" ({shutil.disk_usage(path.parent).free // 2**20} MB livres no disco)" if there else ""
        raise WriteError(f"Não foi possível gravar {path}{free}: {reason(error)}.") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _sync(descriptor: int) -> None:
    """Have the system write a file to its disk, where its drive knows how to: some network drives do not."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def _sync_folder(path: Path) -> None:
    """Let a rename in a folder survive a power cut, where its file system can: the file itself is whole by now.

    Windows cannot open a folder; network drives, VirtualBox's and WSL's answer EINVAL, ENOTSUP or EIO.
    """
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def temporary(path: Path) -> Path:
    """Where this process writes what becomes `path` when it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed while writing `path` left; only for who holds its lock."""
    for file in path.parent.iterdir():
        if re.fullmatch(rf"\.{re.escape(path.name)}\.\d+\.tmp", file.name):
            with suppress(OSError):
                file.unlink()


def reserve(path: Path) -> BaseFileLock:
    """Return a lock on `path`, which can be written. Raises WriteError.

    The lock is the system's, so that of a process that died it is free. Where the file system has no locks, what is
    returned holds none.
    """
    try:
        if os.path.exists(path) and not path.is_file():  # a folder; or a device, which must not be replaced
            raise OSError("é uma pasta" if path.is_dir() else "não é um arquivo comum")
        probe = temporary(path)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise WriteError(f"Não é possível gravar em {path}: {reason(error)}.", "Escolha outro caminho.") from error
    holder = path.with_name(f".{path.name}.lock")
    lock = FileLock(holder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        pid = holder.read_text(errors="replace").strip() if os.name == "posix" else ""
        name = f"o processo {pid}" if pid.isdigit() else "outro processo"
        problem = f"{path} é de um treino em andamento ({name})."
        raise WriteError(problem, "Espere que termine ou escolha outro caminho.") from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise WriteError(f"Não é possível reservar {path} em {holder}: {reason(error)}.") from error
        return lock
    with suppress(OSError):  # Windows lets nobody write to a locked file
        if not holder.read_text().strip(digits):  # empty or our own; filelock's fallback keeps its marker there
            holder.write_text(str(os.getpid()))
    remove_unfinished(path)
    return lock
