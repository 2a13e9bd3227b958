"""Files of weights: written whole or not at all, read without running anything from them, refused when damaged.

Writing: serialise, read back as any reader would, then atomic.py: temporary file, fsync, replace, fsync of the folder.
Reading: size, check sums, the names in the pickle, weights_only, kind and format, kinds and values of the tensors.
"""

import io
import os
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from classificador.atomic import write_bytes
from classificador.errors import CheckpointError, NotFiniteError, brief
from classificador.portuguese import reason

FORMAT = 2  # 1, until 2026-11-27: networks of other shapes
BEST, RESUME = "classificador/best", "classificador/resume"
NAMES = {BEST: "um modelo pronto", RESUME: "um treino interrompido, para retomar"}
# Bounds on what a hostile file can make us hold, far above what any network of this shape needs.
MAX_BYTES, MAX_PICKLE, MAX_ENTRIES = 512 * 2**20, 2 * 2**20, 10_000
STORAGES = {
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Float": torch.float32,
    "Double": torch.float64,
    "Byte": torch.uint8,
    "Int": torch.int32,
    "Long": torch.int64,
    "Bool": torch.bool,
}
# All that torch.save writes into the pickle of plain values and tensors: names, and opcodes.
PICKLED = {f"torch {name}Storage" for name in STORAGES} | {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
}
PLAIN = "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE EMPTY_DICT SETITEM"
PLAIN += (
    " SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT BINGET LONG_BINGET"
)
OPCODES = {*PLAIN.split(), "GLOBAL", "REDUCE", "BINPERSID"}  # the last three for tensors


def write_file(path: Path, kind: str, content: dict) -> None:
    """Write `content` (tensors and plain values only) to `path`, so that read_file takes it; see write_bytes.

    Raises CheckpointError also when `content` holds what read_file would refuse. Errors of `content` itself propagate.
    """
    write_bytes(path, serialise(kind, content))


def serialise(kind: str, content: dict) -> bytes:
    """Return the bytes of a file. Raises CheckpointError for content that read_file would refuse."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "kind": kind} | content, buffer)
    data = buffer.getvalue()
    try:
        if len(data) > MAX_BYTES:
            raise CheckpointError("é grande demais")
        _parse(data, kind)
    except CheckpointError as error:
        raise type(error)(f"Isto não pode ser salvo: {error}.") from error
    return data


def model_remedy(path: Path) -> str:
    """Return what to do about a model file that cannot be used."""
    if Path(path).name == "best_model.pth":
        return "Treine de novo (`python -m classificador treinar`) ou traga o original: `git checkout best_model.pth`"
    return "Confira o caminho ou treine de novo"


def read_file(path: Path, kind: str, remedy: str) -> dict:
    """Return the content of a file that write_file wrote.

    Raises CheckpointError, one line with the remedy, for a file that is missing, damaged, foreign or newer, or whose
    tensors are not finite.
    """
    if not os.path.isfile(path):
        what = (
            "não é um arquivo comum" if os.path.exists(path) else f"não existe na pasta {Path(path).absolute().parent}"
        )
        raise CheckpointError(f"{path} {what}. {remedy}.")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(size) if size <= MAX_BYTES else None  # once: what is checked is what is loaded
    except OSError as error:
        raise CheckpointError(f"{path} não pôde ser lido: {reason(error)}. {remedy}.") from error
    try:
        if data is None:
            raise CheckpointError("é grande demais para ser um modelo deste projeto")
        return _parse(data, kind)
    except CheckpointError as error:
        raise CheckpointError(f"{path} {error}. {remedy}.") from error


def _parse(data: bytes, kind: str) -> dict:
    """Return the content of a file's bytes. Raises CheckpointError saying what is wrong, to stand behind a name."""
    try:
        sound = _checked_copy(data)
    except Exception as error:  # whatever a file makes of its reader, it is refused; so below
        raise CheckpointError("está danificado ou não é um modelo") from error
    foreign = CheckpointError("não foi gravado por este projeto e foi recusado")
    try:
        _refuse_foreign_names(sound)
        # weights_only stays explicit: an environment variable can change the default.
        content = torch.load(sound, map_location="cpu", weights_only=True)
        found, version = content["kind"], content["format"]
        name = NAMES[found]
        newer, older = version > FORMAT, version < FORMAT
        if type(version) is not int or version < 1:
            raise ValueError("format")
    except Exception as error:
        raise foreign from error
    if newer:
        raise CheckpointError("foi gravado por uma versão mais nova deste projeto: atualize-o")
    if older:
        raise CheckpointError("é de uma versão anterior deste projeto, com outra rede, e só abre com o código dela")
    if found != kind:
        raise CheckpointError(f"é {name}, e aqui se esperava {NAMES[kind]}")
    for key, value in _tensors(content):
        # A hostile tensor can claim more elements than the file has: strides of 0, other layouts.
        plain = type(value) is torch.Tensor and value.layout == torch.strided and value.dtype in STORAGES.values()
        if not plain or not value.is_contiguous():
            raise foreign
        if not torch.isfinite(value).all():
            raise NotFiniteError(f"contém valores não finitos em {brief(key)}")
    return content


def _checked_copy(data: bytes) -> io.BytesIO:
    """The same zip written anew from entries that are stored and whole: torch.load looks at no check sum.

    Anew, because torch has its own reader of zips, which could find other entries in the same bytes. Raises any error.
    """
    if data.count(b"PK\1\2") > MAX_ENTRIES:
        raise ValueError("entradas demais")
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(copy, "w") as target:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("compactado")
        if len({entry.filename.lower() for entry in entries}) < len(entries):
            raise ValueError("duas entradas de um nome")
        if sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("uma entrada dentro de outra")
        for entry in entries:
            target.writestr(entry.filename, archive.read(entry))  # read() checks the sum
    copy.seek(0)
    return copy


def _refuse_foreign_names(file: io.BytesIO) -> None:
    """Raise ValueError if the pickle holds anything but what makes plain values and tensors.

    weights_only runs no code, but on torch 2.14 it still calls bytearray(n) or FloatTensor(n) for any n the file says:
    a kilobyte can fill the memory.
    """
    with zipfile.ZipFile(file) as archive:
        (pickle,) = (entry for entry in archive.infolist() if entry.filename.lower().endswith(".pkl"))
        if pickle.file_size > MAX_PICKLE:
            raise ValueError("pickle too long")
        for opcode, argument, _ in pickletools.genops(archive.read(pickle)):
            if opcode.name not in OPCODES or (opcode.name == "GLOBAL" and argument not in PICKLED):
                raise ValueError(f"{opcode.name} {argument}")
    file.seek(0)


def _tensors(content: dict) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor inside nested dicts and lists, with its key; each container once, however often it is named."""
    waiting, seen = [("", content)], set()
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield str(key), value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.items() if isinstance(value, dict) else enumerate(value)
