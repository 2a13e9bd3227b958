"""Files of weights: written whole or not at all, read without running anything from them, refused when damaged."""

import glob
import io
import os
import pickletools
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from classificador.brazilian import reason
from classificador.errors import CheckpointError

FORMAT = 1
BEST, RESUME = "classificador/best", "classificador/resume"
NAMES = {BEST: "um modelo pronto", RESUME: "um treino interrompido, para retomar"}
MAX_BYTES = 512 * 2**20  # far above any network of this shape; bounds what a hostile file can make us read
DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int32, torch.int64}
# What the pickle inside may name, and the ways of pickle to name or call things that torch.save does not use.
STORAGES = {f"torch {kind}Storage" for kind in ("Half", "BFloat16", "Float", "Double", "Byte", "Int", "Long")}
PICKLED = STORAGES | {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
CALLS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}
REMEDY = "Treine de novo (`python -m classificador treinar`) ou traga o original: `git checkout best_model.pth`"


def write_file(path: Path, kind: str, content: dict) -> None:
    """Write `content` (tensors and plain values only) to `path`, atomically and durably.

    At every moment the file is absent, the complete old one or the complete new one. Raises CheckpointError naming the
    path when it cannot be written; the old file is then unchanged. An error of `content` itself propagates. Where
    `path` is a symbolic link, the new file takes the link's place; what it pointed to stays as it was.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "kind": kind} | content, buffer)
    unfinished = temporary(path)
    try:
        unfinished.unlink(missing_ok=True)  # of a process that died and had our number
        with open(unfinished, "xb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except OSError as error:
        free = shutil.disk_usage(path.parent).free // 2**20 if path.parent.is_dir() else 0
        raise CheckpointError(
            f"Não foi possível gravar {path} ({free} MB livres no disco): {reason(error)}."
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def read_file(path: Path, kind: str, remedy: str = REMEDY) -> dict:
    """Return the content of a file that write_file wrote: its check sums, kind, format and tensors are sound.

    Raises CheckpointError, one line with the remedy, for a file that is missing, damaged, foreign or newer, or whose
    tensors are not finite.
    """
    if not path.is_file():
        what = "não é um arquivo comum" if path.exists() else f"não existe na pasta {path.resolve().parent}"
        raise CheckpointError(f"{path} {what}. {remedy}.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise CheckpointError(f"{path} é grande demais para ser um modelo deste projeto. {remedy}.")
    try:
        with open(path, "rb") as file:
            data = file.read(size)  # once: what is checked below is what is loaded
    except OSError as error:
        raise CheckpointError(f"{path} não pôde ser lido: {reason(error)}. {remedy}.") from error
    try:
        damaged = _find_damage(data)
    except Exception as error:  # whatever a file makes of its reader, it is refused; so below
        raise CheckpointError(f"{path} está danificado ou não é um modelo. {remedy}.") from error
    if damaged:
        raise CheckpointError(f"{path} está danificado ({damaged}). {remedy}.")
    foreign = CheckpointError(f"{path} não foi gravado por este projeto e foi recusado. {remedy}.")
    try:
        _refuse_foreign_names(data)
        # weights_only stays explicit: an environment variable can change the default.
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise foreign from error
    if not isinstance(content, dict) or content.get("kind") not in NAMES or type(content.get("format")) is not int:
        raise foreign
    if content["kind"] != kind:
        raise CheckpointError(f"{path} é {NAMES[content['kind']]}, e aqui se esperava {NAMES[kind]}. {remedy}.")
    if content["format"] > FORMAT:
        raise CheckpointError(f"{path} foi gravado por uma versão mais nova deste projeto. Atualize o projeto.")
    for name, value in _tensors(content):
        # A hostile tensor can claim more elements than the file has: strides of 0, other layouts.
        plain = type(value) is torch.Tensor and value.layout == torch.strided and value.dtype in DTYPES
        if not plain or not value.is_contiguous():
            raise foreign
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path} contém valores não finitos em {name}. {remedy}.")
    return content


def temporary(path: Path) -> Path:
    """Where this process writes what becomes `path` when it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed while writing `path` left; only for who holds its lock."""
    for file in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        file.unlink(missing_ok=True)


def _find_damage(data: bytes) -> str | None:
    """What is wrong with the zip: compressed, or a check sum that does not hold. torch.load itself does not look."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        whole = sum(entry.file_size for entry in entries) <= len(data)  # no entry inside another
        return archive.testzip() if stored and whole else "compactado"


def _refuse_foreign_names(data: bytes) -> None:
    """Raise ValueError if the pickle names anything but what makes plain tensors.

    weights_only runs no code, but on torch 2.14 it still calls bytearray(n) or FloatTensor(n) for any n the file says:
    a kilobyte can fill the memory.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (pickle,) = (name for name in archive.namelist() if name.endswith(".pkl"))
        for opcode, argument, _ in pickletools.genops(archive.read(pickle)):
            if opcode.name in CALLS or (opcode.name == "GLOBAL" and argument not in PICKLED):
                raise ValueError(f"{opcode.name} {argument}")


def _tensors(content: dict) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor inside nested dicts and lists, with where it was found; each container once, however often named."""
    waiting, seen = [("", content)], set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{name}.{key}".lstrip("."), part) for key, part in parts]


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; Windows cannot open a folder and needs none of it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
