"""A pickle of torch.save, read so that it can make nothing but plain values and tensors, whoever wrote it.

torch.load with weights_only looks at no check sums, lets a kilobyte ask for gigabytes, and before torch 2.10, which
Colab and Kaggle had until 2026, can be made to write beyond its memory (CVE-2026-24747).
"""

import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import torch

MAX_PICKLE, MAX_ENTRIES = 2 * 2**20, 10_000  # far above what any network of this shape needs
STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "ByteStorage": torch.uint8,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}
# What torch.save writes into the pickle of plain values and tensors, and Python's reader may do as ever.
OPCODES = (
    "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE EMPTY_DICT EMPTY_LIST "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL BINPERSID"
)
# Of the opcodes that fill a container: its type, and where it and its new keys lie when they are met.
FILLING: dict[str, tuple[type, Callable, Callable]] = {
    "SETITEM": (dict, lambda reader: reader.stack[-3], lambda reader: reader.stack[-2:-1]),
    "SETITEMS": (dict, lambda reader: reader.metastack[-1][-1], lambda reader: reader.stack[::2]),
    "APPEND": (list, lambda reader: reader.stack[-2], lambda reader: []),
    "APPENDS": (list, lambda reader: reader.metastack[-1][-1], lambda reader: []),
}


def open_archive(data: bytes) -> zipfile.ZipFile:
    """The zip in these bytes, its entries stored and whole. Raises any error."""
    if data.count(b"PK\1\2") > MAX_ENTRIES:
        raise ValueError("entradas demais")
    archive = zipfile.ZipFile(io.BytesIO(data))
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("compactado")
    if len({entry.filename.lower() for entry in entries}) < len(entries):
        raise ValueError("duas entradas de um nome")
    if sum(entry.file_size for entry in entries) > len(data):
        raise ValueError("uma entrada dentro de outra")
    if bad := archive.testzip():
        raise ValueError(f"soma de {bad}")
    return archive


def unpickle(archive: zipfile.ZipFile) -> dict:
    """Return the dict that the archive's one pickle makes. Raises any error for what torch.save would not write."""
    content = _Unpickler(archive).load()
    if not isinstance(content, dict):
        raise ValueError("não é um dict")
    return content


class _Unpickler(pickle._Unpickler):
    """Calls nothing that the pickle names. (The reader in Python: what an opcode does can be set.)"""

    stack: list

    def __init__(self, archive: zipfile.ZipFile):
        (entry,) = (entry for entry in archive.infolist() if entry.filename.lower().endswith(".pkl"))
        if entry.file_size > MAX_PICKLE:
            raise ValueError("pickle longo demais")
        super().__init__(io.BytesIO(archive.read(entry)))
        self.archive, self.folder = archive, entry.filename.rpartition("/")[0]
        self.storages: dict[str, torch.Tensor] = {}
        order = f"{self.folder}/byteorder"
        if order in archive.namelist() and archive.read(order) != sys.byteorder.encode():
            raise ValueError("de um processador com outra ordem de bytes")

    def find_class(self, module: str, name: str) -> object:
        """What a name stands for: a type of number, or one of our own functions."""
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        return FUNCTIONS[f"{module} {name}"]

    def persistent_load(self, pid: tuple) -> torch.Tensor:
        """The numbers of a tensor, which lie in an entry of their own, in a row."""
        if type(pid) is not tuple:
            raise ValueError("números de lugar nenhum")
        _, dtype, key, _, count = pid
        if type(key) is not str or type(count) is not int:  # two keys of another kind could name one entry twice
            raise ValueError("números de lugar nenhum")
        if key not in self.storages:
            data = bytearray(self.archive.read(f"{self.folder}/data/{key}"))
            self.storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        storage = self.storages[key]
        if storage.dtype != dtype or len(storage) != count:
            raise ValueError("outros números")
        return storage

    def load_call(self) -> None:
        """Call one of our own functions, with arguments that are a tuple: a tensor in its place would be unpacked."""
        if type(self.stack[-1]) is not tuple or self.stack[-2] not in FUNCTIONS.values():
            raise ValueError("REDUCE")
        ordinary("REDUCE")(self)

    def load_nothing(self) -> None:
        """Drop what a state_dict says besides its weights: the versions of its modules."""
        self.stack.pop()


def code(opcode: str) -> int:
    """The byte that stands for an opcode of this name."""
    return getattr(pickle, opcode)[0]


def ordinary(opcode: str) -> Callable[[Any], None]:
    """What Python's own reader does when it meets this opcode."""
    return pickle._Unpickler.dispatch[code(opcode)]


def _filler(name: str) -> Callable[[Any], None]:
    """What fills a dict or a list, and nothing else that takes items, such as a tensor.

    Keys are texts or numbers: tuples within tuples take long to hash, or forever.
    """
    kind, find, keys = FILLING[name]

    def load(reader: Any) -> None:
        if type(find(reader)) is not kind:
            raise ValueError(f"{name} de {type(find(reader))}")
        if not all(type(key) in (str, int) for key in keys(reader)):
            raise ValueError("chave")
        ordinary(name)(reader)

    return load


_Unpickler.dispatch = (
    {code(name): ordinary(name) for name in OPCODES.split()}
    | {code(name): _filler(name) for name in FILLING}
    | {code("BUILD"): _Unpickler.load_nothing, code("REDUCE"): _Unpickler.load_call}
)


def _tensor(storage: torch.Tensor, offset: int, size: tuple, stride: tuple, *_: object) -> torch.Tensor:
    """What torch calls _rebuild_tensor_v2, for numbers that lie in the storage in a row, in any order of dimensions.

    Raises any error.
    """
    if not all(type(part) is tuple and all(type(n) is int for n in part) for part in (size, stride)):
        raise ValueError("tamanhos")
    apart = 1  # how far two neighbours along a dimension lie from each other, if none in between is left out or shared
    for step, count in sorted(zip(stride, size, strict=True)):
        if count != 1 and step != apart:
            raise ValueError("passos")
        apart *= count
    return torch.as_strided(storage, size, stride, offset)  # which refuses what goes beyond the storage


FUNCTIONS = {  # what stands for the names in a pickle that are called
    "collections OrderedDict": lambda: {},
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,  # the tensor itself serves
}
