"""Generated data in every layout of CIFAR-10, a few rows a file."""

import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from classificador.data import formats

ROWS = 20


def make_records(seed: int = 0) -> np.ndarray:
    """uint8, 6 · ROWS × 3073; every class twice a file."""
    random = np.random.RandomState(seed)
    records = random.randint(0, 256, (len(formats.FILES) * ROWS, 1 + formats.PIXELS)).astype(np.uint8)
    records[:, 0] = np.concatenate([random.permutation(ROWS) % 10 for _ in formats.FILES])
    return records


def shrink(monkeypatch, records: np.ndarray) -> None:
    """Make the package take these records for CIFAR-10."""
    monkeypatch.setattr(formats, "ROWS", ROWS)
    monkeypatch.setattr(formats, "SHA256", hashlib.sha256(records).hexdigest())


def by_file(records: np.ndarray) -> dict[str, np.ndarray]:
    """The records of each of the six files, by its name."""
    return dict(zip(formats.FILES, np.split(records, len(formats.FILES)), strict=True))


def bin_files(records: np.ndarray) -> dict[str, bytes]:
    return {f"{name}.bin": rows.tobytes() for name, rows in by_file(records).items()}


def python_files(records: np.ndarray, injected: bytes = b"") -> dict[str, bytes]:
    return {name: python_batch(rows, injected) for name, rows in by_file(records).items()}


def npm_files(records: np.ndarray) -> dict[str, bytes]:
    files = {}
    for name, rows in by_file(records).items():
        pixels = rows[:, 1:].reshape(ROWS, 3, formats.PIXELS // 3).transpose(0, 2, 1)
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
        files[f"{name}.png"] = buffer.getvalue()
    labels = records[:, 0].tolist()
    boundary = formats.TRAIN_FILES * ROWS
    return files | {
        "train_lables.json": json.dumps(labels[:boundary]).encode(),
        "test_lables.json": json.dumps(labels[boundary:]).encode(),
    }


def python_batch(rows: np.ndarray, injected: bytes = b"") -> bytes:
    """What Python 2's cPickle wrote: {'data': array, 'labels': [...], 'batch_label': ..., 'filenames': [...]}.

    `injected` opcodes stand before the rest, where an unpickler would obey them first.
    """

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    pixels = rows[:, 1:].tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x03(cnumpy\nndarray\nq\x04(K\x00tq\x05" + text(b"b") + b"tR"
        b"(K\x01(M" + struct.pack("<H", len(rows)) + b"M" + struct.pack("<H", formats.PIXELS) + b"t"
        b"cnumpy\ndtype\n("
        + text(b"u1")
        + b"K\x00K\x01tR(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89T" + struct.pack("<i", len(pixels)) + pixels + b"tb"
    )
    labels = b"]q\x09(" + b"".join(b"K" + bytes([label]) for label in rows[:, 0]) + b"e"
    names = b"]q\x0c(" + b"".join(text(b"image_%d.png" % row) for row in range(len(rows))) + b"e"
    return b"".join(
        [b"\x80\x02", injected, b"}q\x01(", text(b"data"), b"q\x02", array, text(b"labels"), b"q\x08", labels]
        + [text(b"batch_label"), b"q\x0a", text(b"training batch 1 of 5"), text(b"filenames"), b"q\x0b", names, b"u."]
    )


def write_folder(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, payload in files.items():
        (folder / name).write_bytes(payload)
    return folder


def write_tar(files: dict[str, bytes], path: Path, prefix: str = "cifar-10/", extra: tuple = ()) -> Path:
    """A .tar.gz of the files, after the `extra` members, which are (TarInfo, bytes)."""
    members = [(tarfile.TarInfo(prefix + name), payload) for name, payload in files.items()]
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for member, payload in [*extra, *members]:
            member.size = len(payload)
            tar.addfile(member, io.BytesIO(payload))
    return path
