"""What torch.save wrote, read so that it can make nothing but plain values and tensors, whoever wrote it.

Why not torch.load(weights_only=True), even after the checks of the zip that are made here? We gave it 220 files, most
of them small and made to harm. torch 2.14.1 and 2.10.0 died of 11 or gave no answer in 10 s (tuples within tuples as
keys of a dict; a bytearray of gigabytes), 2.9.1, which Colab had in 2026, of 10, and it took tensors that reach beyond
their bytes (CVE-2026-24747). With a scan that first refused all opcodes and names but those of torch.save 8 were left
on each: they depend on what lies on the stack, and who follows that has read the pickle. So it is read here, on top of
pickletools, which only parses. Nothing died (tried with torch 2.14.1), and 2 MB, the longest, take 3 s of a processor.
"""

import io
import pickletools
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import torch

MAX_PICKLE, MAX_ENTRIES = 2 * 2**20, 10_000  # far above what any network of this shape needs
STORAGES = {
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
    "torch ByteStorage": torch.uint8,
    "torch IntStorage": torch.int32,
    "torch LongStorage": torch.int64,
    "torch BoolStorage": torch.bool,
}
FUNCTIONS = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# What an opcode takes off the stack: all since the last MARK, so many items, or none.
TO_MARK = ("TUPLE", "APPENDS", "SETITEMS")
TAKEN = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2, "BINPERSID": 1, "REDUCE": 2, "BUILD": 1}


def read_entries(data: bytes) -> dict[str, bytearray]:
    """Return what lies in the zip in these bytes, by name. Raises any error for one that is damaged or compressed."""
    if data.count(b"PK\1\2") > MAX_ENTRIES:
        raise ValueError("entradas demais")
    archive = zipfile.ZipFile(io.BytesIO(data))
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("compactado")
    if sum(entry.file_size for entry in entries) > len(data):
        raise ValueError("uma entrada dentro de outra")
    return {entry.filename: bytearray(archive.read(entry)) for entry in entries}  # read() compares the check sums


def unpickle(entries: dict[str, bytearray]) -> dict[str, Any]:
    """Return the dict that the one pickle in these entries makes. Raises any error for what torch.save never writes."""
    (name,) = (name for name in entries if name.endswith("data.pkl"))
    folder, ours = name.removesuffix("data.pkl"), sys.byteorder.encode()
    if len(entries[name]) > MAX_PICKLE:
        raise ValueError("pickle longo demais")
    if entries.get(f"{folder}byteorder", ours) != ours:
        raise ValueError("de um processador com outra ordem de bytes")
    content = _run(entries[name], lambda key: entries[f"{folder}data/{key}"])
    if not isinstance(content, dict):
        raise ValueError("não é um dict")
    return content


def _run(program: bytearray, numbers: Callable[[str], bytearray]) -> object:
    """Return what a pickle makes; numbers: gives the bytes of a storage, by the name that the pickle has for it."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[object, object] = {}
    for opcode, value, _ in pickletools.genops(program):
        name = opcode.name
        start = marks.pop() if name in TO_MARK else len(stack) - TAKEN.get(name, 0)
        items = stack[start:]
        del stack[start:]
        match name:
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                stack.append(value)
            case "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(CONSTANTS[name])
            case "GLOBAL" if value in STORAGES or value in FUNCTIONS:
                stack.append(value)  # the name: nothing is looked up
            case "EMPTY_TUPLE" | "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(items))
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append([] if name == "EMPTY_LIST" else {})
            case "APPEND" | "APPENDS" | "SETITEM" | "SETITEMS":
                _fill(stack[-1], items)
            case "MARK":
                marks.append(len(stack))
            case "BINPERSID":
                stack.append(_storage(items[0], numbers))
            case "REDUCE":
                stack.append(_call(*items))
            case "PROTO" | "STOP" | "BUILD":  # BUILD: what a state_dict says besides weights, its modules' versions
                pass
            case _:
                raise ValueError(f"{name} {value}")
    return stack.pop()


def _fill(container: object, items: list[Any]) -> None:
    """Put items into a list, or keys and values by turns into a dict; nothing else, such as a tensor, is filled.

    Keys are texts or whole numbers: tuples within tuples take long to hash, or end the process.
    """
    if type(container) is list:
        container.extend(items)
    elif type(container) is dict and all(type(key) in (str, int) for key in items[::2]):
        container.update(zip(items[::2], items[1::2], strict=True))
    else:
        raise ValueError(f"{type(container)} ou as suas chaves")


def _storage(identity: object, numbers: Callable[[str], bytearray]) -> torch.Tensor:
    """Return the numbers in an entry of their own, in a row: what tensors are views of."""
    match identity:
        case ("storage", str(kind), str(key), *_):
            data, dtype = numbers(key), STORAGES[kind]
            return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    raise ValueError("números de lugar nenhum")


def _call(function: object, arguments: object) -> object:
    """Return what the function of this name makes of arguments as torch.save writes them."""
    match function, arguments:
        case "collections OrderedDict", ():
            return {}
        case "torch._utils _rebuild_parameter", (torch.Tensor() as tensor, *_):
            return tensor  # it serves as well
        case "torch._utils _rebuild_tensor_v2", (torch.Tensor() as base, int(offset), tuple(size), tuple(stride), *_):
            tensor = base.as_strided(size, stride, offset)  # refuses what goes beyond the storage
            outer_first = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
            if tensor.permute(outer_first).is_contiguous():  # no number twice or left out, in any order of dimensions
                return tensor
    raise ValueError(f"{type(function)} de {type(arguments)}")
