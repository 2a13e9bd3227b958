"""Checkpoints made to harm: refused before anything of theirs runs, with bounded memory and time."""

import io
import os
import pickle
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classificador.errors import CheckpointError
from classificador.files import reader, safe
from classificador.files.model_file import load_model, pack, save_checkpoint
from classificador.network.cnn import CNN, make_network
from conftest import INFO

LOOP: list = []
LOOP.append(LOOP)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "best_model.pth"


def memory(field: str) -> int:
    """VmRSS or VmHWM, resident memory now or at most, in bytes; 0 where Linux's /proc is missing."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


@pytest.fixture(autouse=True)
def bounded():
    """Whatever the test loads may take neither 200 MB more than before nor ten seconds."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # the largest so far counts from here, not from earlier tests
    before, started = memory("VmRSS"), time.perf_counter()
    yield
    assert memory("VmHWM") - before < 200 * 2**20
    assert time.perf_counter() - started < 10


def content(**info):
    made = {"format": safe.FORMAT, "kind": safe.BEST}
    made |= pack(make_network(CNN, channels=(4, 8), hidden=16), INFO).to_dict()
    return made | {"info": made["info"] | info}


@pytest.fixture(scope="module")
def sound():
    return content()


def rezip(path, saved, change, compression=zipfile.ZIP_STORED):
    """Write what torch.save makes of `saved`, each entry as change(name, bytes) wants it."""
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", compression) as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))


def with_pickle(path, program):
    """A container as torch.save makes it, with this pickle in place of its own."""
    rezip(path, {"w": torch.arange(4.0)}, lambda name, data: program if name.endswith(".pkl") else data)


def refused(path, words="foi recusado|danificado|não combinam"):
    """Return what first went wrong."""
    with pytest.raises(CheckpointError, match=words) as caught:
        load_model(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    error = caught.value
    while error.__cause__:
        error = error.__cause__
    return error


class Call:
    """Unpickling it calls `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("form", "function"),
    [
        *[("torch", function) for function in (os.system, eval, exec, torch.load)],
        *[(form, os.system) for form in ("legacy", "legacy tar", "pickle", "protocol 4")],
    ],
)
def test_code_in_a_checkpoint_never_runs(path, tmp_path, monkeypatch, function, form):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    canary = tmp_path / "canary"
    inner = tmp_path / "inner.pth"
    torch.save(Call(os.system, f"touch {canary}"), inner)
    text = f"touch {canary}" if function is os.system else f"open({str(canary)!r}, 'w')"
    hostile = content() | {"x": Call(function, str(inner) if function is torch.load else text)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(hostile["x"]))
    elif form == "protocol 4":
        torch.save(hostile, path, pickle_protocol=4)
    elif form == "legacy tar":
        with tarfile.open(path, "w") as archive:
            for name in ("sys_info", "pickle", "storages", "tensors"):
                member, data = tarfile.TarInfo(name), pickle.dumps(hostile["x"])
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    else:
        torch.save(hostile, path, _use_new_zipfile_serialization=form == "torch")
    refused(path)
    assert not canary.exists()


def test_the_canary_would_have_died_without_our_care(path, tmp_path):
    canary = tmp_path / "canary"
    torch.save(Call(os.system, f"touch {canary}"), path)
    torch.load(path, weights_only=False)
    assert canary.exists()


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_a_torchscript_archive_is_refused(path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    refused(path)


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def tensor(count=b"K\x04", size=b"K\x04\x85", stride=b"K\x01\x85", key=b"X\x01\0\0\x000"):
    """A pickle's opcodes for a tensor of four numbers, or of what is given instead."""
    return b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n" + (
        key + b"X\x03\0\0\0cpu" + count + b"tQK\0" + size + stride + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def test_a_pickle_of_the_form_of_the_next_ones_is_read(path):
    with_pickle(path, b"\x80\x02}X\x01\0\0\0w" + tensor() + b"s.")
    assert "conv1" in str(refused(path))  # nothing is wrong with it but that these are not the weights of a network


# What weights_only itself calls for any size the file names, 4 GB each; and opcodes that torch.save does not write.
@pytest.mark.parametrize(
    ("named", "program"),
    [
        ("GLOBAL builtins bytearray", b"cbuiltins\nbytearray\n" + number(1 << 32) + b"\x85R"),
        ("GLOBAL torch FloatTensor", b"ctorch\nFloatTensor\n" + number(1 << 32) + b"\x85R"),
        ("GLOBAL builtins set", b"cbuiltins\nset\n" + tensor() + b"\x85R"),
        ("EMPTY_SET", b"}}\x8f"),
        ("STACK_GLOBAL", b"}}\x93"),
        ("INST a b", b"}(ia\nb\n"),
        ("NEWOBJ", b"}}\x81"),
        ("PERSID a", b"Pa\n"),
        ("bytearray8", b"\x96" + bytes(5) + b"\1\0\0"),
    ],
)
def test_a_kilobyte_can_neither_name_nor_ask_for_anything_else(path, named, program):
    with_pickle(path, b"\x80\x02" + program + b".")
    assert path.stat().st_size < 3000
    assert named in str(refused(path))


@pytest.mark.parametrize("program", [b"K\0K\1s", b"(K\0K\1u", b"K\1a", b"(K\1e"], ids=["s", "u", "a", "e"])
def test_only_dicts_and_lists_are_filled(path, program):
    """On torch before 2.10 such a pickle wrote into a tensor, and beyond it."""
    with_pickle(path, b"\x80\x02}X\x01\0\0\0w" + tensor() + program + b"s.")
    assert "Tensor" in str(refused(path))


@pytest.mark.parametrize("size", [5, 2**40])
def test_a_tensor_cannot_reach_beyond_its_bytes(path, size):
    """Whatever it says that its storage has. On torch before 2.10 it could."""
    with_pickle(path, b"\x80\x02}X\x01\0\0\0w" + tensor(number(size), number(size) + b"\x85") + b"s.")
    assert "out of bounds" in str(refused(path))


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_changed_pickle_whose_check_sums_hold_is_refused_or_opens(path, sound, data):
    def change(name, content):
        program = bytearray(content)
        for _ in range(data.draw(st.integers(1, 4)) if name.endswith(".pkl") else 0):
            at, length = data.draw(st.integers(0, len(program))), data.draw(st.integers(0, 8))
            program[at : at + length] = data.draw(
                st.binary(max_size=8) | st.sampled_from([b"\xff" * 4, b"\x7f", b"R", b"t"])
            )
        return program

    rezip(path, sound, change)
    with suppress(CheckpointError):
        load_model(path)


DOUBLING = b"K\x01" + b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(40))  # 2^40 ones
EMPTY_ROWS = tensor(size=number(2**31) + b"K\0\x86", stride=b"K\x01K\x01\x86")


@pytest.mark.parametrize(
    "program",
    [
        b"})" + b"\x85" * 300_000 + b"K\x01s",  # so deep that to hash it ends the process
        b"}" + DOUBLING + b"K\x01s",
        b"}(" + DOUBLING + b"K\x01u",
        b"}X\x04\0\0\0kind" + DOUBLING + b"s",
        tensor(key=DOUBLING),
        tensor(size=DOUBLING),
        tensor(size=number(2**40) + number(2**40) + b"\x86", stride=b"K\0K\0\x86"),
        b"ctorch._utils\n_rebuild_tensor_v2\n" + EMPTY_ROWS + b"R",
        b"ccollections\nOrderedDict\n" + EMPTY_ROWS + b"\x85R",
        b"}X\x01\0\0\0wccollections\nOrderedDict\n)R" + EMPTY_ROWS + b"bs",
        b"]" * 3_000_000,
    ],
    ids=["deep key", "key", "keys", "kind", "storage", "size", "sizes", "arguments", "OrderedDict", "state", "long"],
)
def test_a_short_pickle_takes_neither_long_nor_much(path, program):
    with_pickle(path, b"\x80\x02" + program + b".")
    refused(path)


def test_many_tensors_of_the_same_bytes_are_refused_before_they_are_looked_through(path):
    shared = torch.zeros(2**22)
    torch.save(content(history={"x": [shared.view(2**22) for _ in range(5000)]}), path)
    refused(path)


def test_many_names_of_weights_are_looked_at_once(path):
    many = {f"{number}.conv1.weight": 0 for number in range(40_000)}
    torch.save({str(number): many for number in range(50)}, path)
    refused(path)


def test_a_compressed_file_is_refused(path):
    rezip(path, content(), lambda name, data: data, zipfile.ZIP_DEFLATED)
    assert "compactado" in str(refused(path))


def test_endless_entries_are_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(reader.MAX_ENTRIES + 1):
            archive.writestr(str(number), b"")
    assert "entradas demais" in str(refused(path))


def test_entries_inside_each_other_are_refused(path):
    """A megabyte, and 300 for whoever reads each entry."""
    data, entries = bytes(2**20), []
    for number in range(300):
        entry = zipfile.ZipInfo(str(number))
        entry.file_size = entry.compress_size = len(data)
        entry.CRC = zlib.crc32(data)
        data = entry.FileHeader() + data
        entries.append((entry, len(data)))
    with zipfile.ZipFile(path, "w") as archive:
        archive.fp.write(data)
        archive.start_dir, archive._didModify = len(data), True
        for entry, size in entries:
            entry.header_offset = len(data) - size
            archive.filelist.append(entry)
    assert "dentro de outra" in str(refused(path))


def test_numbers_of_another_byte_order_are_refused(path):
    rezip(path, content(), lambda name, data: b"big" if name.endswith("byteorder") else data)
    assert "ordem de bytes" in str(refused(path))


@pytest.mark.parametrize("kind", [[], {}, None, 3, "outro"], ids=str)
def test_another_kind_of_kind_is_refused(path, kind):
    torch.save(content() | {"kind": kind}, path)
    refused(path)


@pytest.mark.parametrize(
    "content", [[torch.zeros(2)], torch.zeros(2), "text", None], ids=["list", "tensor", "text", "None"]
)
def test_what_is_no_dict_is_refused(path, content):
    torch.save(content, path)
    refused(path)


def test_names_in_a_file_cannot_act_on_the_terminal(path):
    torch.save(content() | {"weights": {"\x1b[2J\nabc": torch.tensor(float("nan"))}}, path)
    refused(path, "não finitos")


@pytest.mark.filterwarnings("ignore:torch.quantize")
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(3, 3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8),
        lambda: torch.empty(3, device="meta"),
        lambda: torch.zeros(3, dtype=torch.complex64),
        lambda: torch.zeros(4, 4).T[1:],
        lambda: torch.zeros(1).expand(100_000, 100_000),
    ],
    ids=["sparse", "quantised", "meta", "complex", "view", "expanded"],
)
def test_other_kinds_of_tensors_are_refused(path, make):
    torch.save(content() | {"weights": content()["weights"] | {"fc2.bias": make()}}, path)
    assert isinstance(refused(path), ValueError)


def nested():
    """A list of 2^60 elements, for whoever does not look."""
    made = [1]
    for _ in range(60):
        made = [made, made]
    return made


def test_containers_named_in_each_other_are_walked_once(path):
    deep = []
    for _ in range(200):
        deep = [deep]
    torch.save(content(history={"a": nested(), "b": LOOP, "c": deep}), path)
    load_model(path)  # unusual, but nothing of it is used


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize(
    "architecture",
    [
        *[{"channels": sizes} for sizes in ([10**6] * 2, [10**12] * 2, [-4, 8], [0, 0], ["4", 8], [], nested())],
        {"side": 20_000, "pools": [20_000, 1]},
    ],
    ids=["large", "huge", "negative", "none", "text", "empty", "nested", "side"],
)
def test_an_architecture_cannot_ask_for_memory(path, architecture):
    hostile = content()
    hostile["info"]["architecture"] |= architecture
    torch.save(hostile, path)
    refused(path)


@pytest.mark.parametrize("name", ["settings", "teacher", "versions"])
def test_facts_that_no_json_takes_are_refused(path, name):
    for value in (torch.zeros(2), LOOP, {"a": 1}, [0] * 60 + [LOOP], [0] * 40 + [LOOP]):
        hostile = content()
        hostile["info"][name] = hostile["info"].get(name, {}) | {"x": value}
        torch.save(hostile, path)
        refused(path)


@pytest.mark.parametrize(
    "info",
    [
        {"preset": "\x1b[2J\x1b]0;pwned\x07"},
        {"classes": ["x\ny"] + ["z"] * 9},
        {"classes": ["a"] * 10},
        {"classes": ["a"]},
        {"classes": [1] * 10},
        {"val_accuracy": "x"},
        {"created": "ontem"},
        {"versions": 3},
        {"split": "x" * 10**6},
        {"epoch": 10**400},
        {"seconds": float("inf")},
        {"val_loss": float("nan")},
        {"settings": {}},
        {"versions": {}},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": "1"},
        {"doubt_below": 2.0},
        {"precision": torch.zeros(2)},
    ],
    ids=lambda info: str(info)[:40],
)
def test_metadata_that_would_spoil_the_screen_or_a_result_is_refused(path, info):
    torch.save(content(**info), path)
    refused(path)


def test_a_file_above_the_limit_is_refused_unread(path, monkeypatch):
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO)
    monkeypatch.setattr(safe, "MAX_BYTES", path.stat().st_size - 1)
    refused(path, "grande demais")
