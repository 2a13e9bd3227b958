"""Brings one file over https: resumed, timed, at a least speed; and the progress bar of every source."""

import errno
import re
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from tqdm import tqdm

from classificador.errors import SlowError, SourceError
from classificador.portuguese import reason

STALL_SECONDS = 10  # without a byte
WINDOW_SECONDS = 10  # over which the speed is measured
FAILURES = {
    socket.gaierror: "nome não encontrado",
    ssl.SSLCertVerificationError: "certificado TLS inválido",
    ssl.SSLError: "falha de TLS",
    TimeoutError: "sem resposta",
    ConnectionRefusedError: "conexão recusada",
    ConnectionError: "conexão interrompida",
}


def progress_bar(source: str, total: int, start: int = 0) -> tqdm:
    """A bar in bytes, of which `start` are there already, with speed and time left; it vanishes at the end."""
    look = {"unit": "B", "unit_scale": True, "file": sys.stdout, "dynamic_ncols": True, "leave": False}
    return tqdm(desc=f"Baixando CIFAR-10 de {source}", total=total, initial=start, **look)


def no_answer(url: str, timeout: float) -> str:
    """Return "" if the host answers within `timeout` seconds, whatever it answers, and else what went wrong."""
    try:
        _open(url, "HEAD", timeout).close()
    except urllib.error.HTTPError:
        pass  # some refuse HEAD; the download itself will tell
    except (SourceError, OSError, HTTPException) as error:
        return explain(error)
    return ""


def receive(url: str, partial: Path, size: int, least_speed: float) -> None:
    """Complete the file `partial`, of `size` bytes, from where it stops if the server can.

    least_speed: bytes a second, averaged over WINDOW_SECONDS; 0 accepts any. Raises SlowError, SourceError for what is
    cut short or not of this size, and OSError or HTTPException when the network or the disk failed.
    """
    have = partial.stat().st_size if partial.exists() else 0
    if have == size:
        return
    with _open(url, "GET", STALL_SECONDS, have if have < size else 0) as response:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        start, total = (int(span[1]), int(span[2])) if span else (0, response.length)
        if total not in (size, None) or start not in (0, have):  # None: the server did not tell
            raise SourceError(f"tamanho errado, {total} bytes em vez de {size}")
        with partial.open("ab" if start else "wb") as file, progress_bar(urlsplit(url).netloc, size, start) as bar:
            _copy(response, file, bar, least_speed)
    if partial.stat().st_size != size:
        raise SourceError("conexão interrompida")


def _copy(response: HTTPResponse, file: BinaryIO, bar: tqdm, least_speed: float) -> None:
    mark, received = time.monotonic(), 0
    while chunk := response.read1(1 << 18):  # read1 returns what has come; read would wait for all of it
        file.write(chunk)
        bar.update(len(chunk))
        if bar.n > bar.total:
            return
        received += len(chunk)
        elapsed = time.monotonic() - mark
        if elapsed >= WINDOW_SECONDS:
            if received / elapsed < least_speed:
                raise SlowError(f"lenta, {received / elapsed / 1000:.0f} kB/s")
            mark, received = time.monotonic(), 0


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect that gives up https, whatever the first address was."""

    def redirect_request(self, request, file, code, message, headers, url):
        if urlsplit(url).scheme != "https":
            file.close()
            raise SourceError("redirecionamento para fora de https recusado")
        return super().redirect_request(request, file, code, message, headers, url)


def _open(url: str, method: str, timeout: float, start: int = 0) -> HTTPResponse:
    headers = {"User-Agent": "classificador-cifar10"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers, method=method)
    return urllib.request.build_opener(_HttpsRedirects).open(request, timeout=timeout)


def explain(error: Exception) -> str:
    """The reason of a failed connection, in a few words of Portuguese."""
    if isinstance(error, urllib.error.HTTPError):
        return f"resposta HTTP {error.code}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return explain(error.reason)
    if getattr(error, "errno", None) in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return "rede inalcançável"
    known = (text for kind, text in FAILURES.items() if isinstance(error, kind))
    return next(known, reason(error) or type(error).__name__)
