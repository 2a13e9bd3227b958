"""Files of weights: written whole or not at all, read without running anything from them, refused when damaged.

Writing: serialise, read back as any reader would, then atomic.py: temporary file, fsync, replace, fsync of the folder.
Reading: size, check sums, what reader.py lets a pickle make, kind and format, the values of the tensors.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from classificador.atomic import write_bytes
from classificador.drives import patiently
from classificador.errors import CheckpointError, NotFiniteError, brief
from classificador.files.reader import read_entries, unpickle
from classificador.portuguese import reason

FORMAT = 3  # 2: the network of until 30/11/2026, whose contrast came before the pooling
BEST, RESUME = "classificador/best", "classificador/resume"
NAMES = {BEST: "um modelo pronto", RESUME: "um treino interrompido, para retomar"}
MAX_BYTES = 512 * 2**20  # what a file can make us hold; far above what any network of this shape needs
SAVE_WEIGHTS = '`torch.save(rede.state_dict(), "pesos.pth")`'
FOREIGN = "não foi gravado por este projeto e foi recusado."


def write_file(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write `content` (tensors and plain values only) to `path`, so that read_file takes it; see write_bytes.

    Raises CheckpointError also when `content` holds what read_file would refuse. Errors of `content` itself propagate.
    """
    write_bytes(path, serialise(kind, content))


def serialise(kind: str, content: dict[str, Any]) -> bytes:
    """Return the bytes of a file. Raises CheckpointError for content that read_file would refuse."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "kind": kind} | content, buffer)
    data = buffer.getvalue()
    try:
        if len(data) > MAX_BYTES:
            raise CheckpointError("é grande demais.")
        deserialise(data, kind)
    except CheckpointError as error:
        raise type(error)(f"Isto não pode ser salvo: {error.problem}") from error
    return data


def model_remedy(path: Path) -> str:
    """Return what to do about a model file that cannot be used."""
    if path.name != "best_model.pth":
        return f"Confira o caminho, ou treine de novo; de outro programa, traga pesos: {SAVE_WEIGHTS}"
    original = "traga o original: `git checkout best_model.pth`" if Path(".git").exists() else "ponha aqui o do projeto"
    return f"Treine de novo (a seção 1 do caderno, ou `python -m classificador treinar`), ou {original}"


def read_file(path: Path, kind: str, remedy: str) -> dict[str, Any]:
    """Return the content of a file that write_file wrote; for BEST, also of another dict of plain values and tensors.

    Raises CheckpointError, one line with the remedy, for a file that is missing, damaged, foreign, newer or older, or
    whose tensors are not finite.
    """
    try:
        if not os.path.exists(path):
            raise CheckpointError(f"não existe na pasta {path.absolute().parent}.")
        if not os.path.isfile(path):
            raise CheckpointError("é uma pasta." if os.path.isdir(path) else "não é um arquivo comum.")
        return deserialise(patiently(lambda: _read(path)), kind)  # read once: what is checked is what is loaded
    except OSError as error:
        raise CheckpointError(f"{path} não pôde ser lido: {reason(error)}.", f"{remedy}.") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path} {error.problem}", error.remedy or f"{remedy}.") from error


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise CheckpointError("é grande demais para ser um modelo deste projeto.")
        return file.read(size)


def deserialise(data: bytes, kind: str) -> dict[str, Any]:
    """Return the content of a file's bytes; for BEST, also of one without a kind: somebody's weights, perhaps.

    Raises CheckpointError, whose problem lacks the subject, the file; with a remedy where it is not the usual one.
    """
    try:
        entries = read_entries(data)
    except Exception as error:  # whatever a file makes of its reader, it is refused; so below
        raise CheckpointError("está danificado ou não é um modelo.") from error
    try:
        content = unpickle(entries)
        ours = kind != BEST or "kind" in content
        found, version = (content["kind"], content["format"]) if ours else (BEST, FORMAT)
        if type(found) is not str or found not in NAMES or type(version) is not int:
            raise ValueError("kind, format")
    except Exception as error:
        if b"torch.nn.modules." in data:
            problem = "é uma rede inteira, e não pesos: abri-la executaria código que o arquivo traz."
            remedy = f"Onde ela foi feita, salve os pesos: {SAVE_WEIGHTS}, e abra esse arquivo."
            raise CheckpointError(problem, remedy) from error
        raise CheckpointError(FOREIGN) from error
    if version > FORMAT:
        raise CheckpointError("foi gravado por uma versão mais nova deste projeto: atualize-o.")
    if version < FORMAT:
        raise CheckpointError("foi gravado por uma versão anterior deste projeto, em outro formato.")
    if found != kind:
        raise CheckpointError(f"é {NAMES[found]}, e aqui se esperava {NAMES[kind]}.")
    total = 0
    for key, value in _tensors(content):
        total += value.nbytes
        if total > 2 * len(data):  # many tensors of the same bytes would take hours to look through
            raise CheckpointError(FOREIGN)
        if not torch.isfinite(value).all():
            raise NotFiniteError(f"contém valores não finitos em {brief(key)}.")
    return content


def _tensors(content: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor inside nested dicts and lists, with its key; each container once, however often it is named."""
    waiting, seen = [("", content)], set()
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield str(key), value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.items() if isinstance(value, dict) else enumerate(value)
