"""Checkpoints made to harm: refused before anything of theirs runs, with bounded memory and time."""

import io
import os
import pickle
import struct
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import torch

from classificador.errors import CheckpointError
from classificador.files import reader, safe
from classificador.files.model_file import load_model, pack, save_checkpoint
from classificador.network.cnn import CNN, make_network
from conftest import INFO


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


def with_pickle(path, data):
    """A container as torch.save makes it, with this pickle in place of its own."""
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(4.0)}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, data if entry.filename.endswith(".pkl") else source.read(entry))


def refused(path, words="foi recusado|danificado|não combinam"):
    with pytest.raises(CheckpointError, match=words) as caught:
        load_model(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    return caught.value


class Call:
    """Unpickling it calls `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("form", ["torch", "legacy", "legacy tar", "pickle", "protocol 4"])
@pytest.mark.parametrize("function", [os.system, eval, exec, torch.load])
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


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_a_torchscript_archive_is_refused(path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    refused(path)


def test_the_canary_would_have_died_without_our_care(path, tmp_path):
    canary = tmp_path / "canary"
    torch.save(Call(os.system, f"touch {canary}"), path)
    torch.load(path, weights_only=False)
    assert canary.exists()


# What weights_only itself calls for any size the file names; 4 GB each.
@pytest.mark.parametrize("name", [b"cbuiltins\nbytearray\n", b"ctorch\nFloatTensor\n", b"cbuiltins\nset\n"])
def test_a_kilobyte_cannot_ask_for_gigabytes(path, name):
    with_pickle(path, b"\x80\x02" + name + b"\x8a\x05" + struct.pack("<q", 1 << 32)[:5] + b"\x85R.")
    assert path.stat().st_size < 3000
    assert isinstance(refused(path).__cause__.__cause__, KeyError)  # it is no name we know: nothing was called


TENSOR = (  # a pickle's opcodes for a tensor, up to how many numbers its storage has
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu"
)


@pytest.mark.parametrize(
    "program",
    [
        b"K\x00K\x01s",  # number[0] = 1
        b"(K\x00K\x01u",
        b"K\x01a",
        b"(K\x01e",
    ],
    ids=["setitem", "setitems", "append", "appends"],
)
def test_only_dicts_and_lists_are_filled(path, program):
    """On torch before 2.10 such a pickle wrote into a tensor, and beyond it."""
    tensor = TENSOR + b"K\x04tQK\0K\x04\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    with_pickle(path, b"\x80\x02}X\x01\0\0\0w" + tensor + b"s.")
    assert "conv1" in str(refused(path).__cause__)  # sound, but for the names
    with_pickle(path, b"\x80\x02}X\x01\0\0\0w" + tensor + program + b"s.")
    assert "Tensor" in str(refused(path).__cause__.__cause__)


@pytest.mark.parametrize(("count", "size"), [(5, 4), (4, 5), (4, 2**40), (2**40, 4)])
def test_a_tensor_cannot_reach_beyond_its_bytes(path, count, size):
    def number(value):
        return b"\x8a\x08" + struct.pack("<q", value)

    tensor = TENSOR + number(count) + b"tQK\0" + number(size) + b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    with_pickle(path, b"\x80\x02}X\x01\0\0\0w" + tensor + b"s.")
    assert isinstance(refused(path).__cause__.__cause__, ValueError | RuntimeError)


def test_many_tensors_of_the_same_bytes_are_refused_before_they_are_looked_through(path):
    shared = torch.zeros(2**22)
    torch.save(content(history={"x": [shared.view(2**22) for _ in range(5000)]}), path)
    refused(path)


DOUBLING = b"K\x01" + b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(40))  # 2^40 ones


@pytest.mark.parametrize(
    "program",
    [
        b"}" + b")" + b"\x85" * 1_900_000 + b"K\x01s.",  # a key so deep that to hash it ends the process
        b"}" + DOUBLING + b"K\x01s.",
        b"}(" + DOUBLING + b"K\x01u.",
        b"}X\x04\0\0\0kind" + DOUBLING + b"s.",
        b"(X\x07\0\0\0storagectorch\nFloatStorage\n" + DOUBLING + b"X\x03\0\0\0cpuK\x04tQ.",
        TENSOR + b"K\x04tQK\0" + DOUBLING + b"K\x01\x85\x89)tR.",
        b"ctorch._utils\n_rebuild_tensor_v2\n" + TENSOR + b"K\x04tQK\0K\x04\x85K\x01\x85\x89)tRR.",
        TENSOR + b"K\x04tQK\0J\0\0\0\x7fK\0\x86K\x01J\0\0\0\x7f\x86\x89)tR.",
    ],
    ids=["deep key", "key", "keys", "kind", "storage", "size", "unpacked tensor", "nothing of much"],
)
def test_a_short_pickle_takes_neither_long_nor_much(path, program):
    with_pickle(path, b"\x80\x02" + program)
    refused(path)


def test_many_names_of_weights_are_looked_at_once(path):
    many = {f"{number}.conv1.weight": 0 for number in range(40_000)}
    torch.save({str(number): many for number in range(50)}, path)
    refused(path)


@pytest.mark.parametrize("name", ["settings", "teacher", "versions"])
def test_facts_that_no_json_takes_are_refused(path, name):
    loop = []
    loop.append(loop)
    for value in (torch.zeros(2), loop, {"a": 1}, [0] * 60 + [loop], [0] * 40 + [loop]):
        hostile = content()
        hostile["info"][name] = hostile["info"].get(name, {}) | {"x": value}
        torch.save(hostile, path)
        refused(path)


def test_numbers_of_another_byte_order_are_refused(path):
    buffer = io.BytesIO()
    torch.save(content(), buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, b"big" if entry.filename.endswith("byteorder") else source.read(entry))
    refused(path)


@pytest.mark.parametrize("opcode", [b"\x8f", b"\x93", b"ia\nb\n", b"\x81", b"Pa\n"], ids=str)
def test_opcodes_that_torch_save_does_not_write_are_refused(path, opcode):
    with_pickle(path, b"\x80\x02}}" + opcode + b".")
    assert isinstance(refused(path).__cause__.__cause__, KeyError)


def test_a_pickle_hidden_by_its_case_is_refused(path):
    buffer = io.BytesIO()
    torch.save(content(), buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename.replace("data.pkl", "DATA.PKL"), source.read(entry))
        target.writestr("a/x.pkl", b"\x80\x02}.")
    refused(path)


def test_an_endless_pickle_and_endless_entries_are_refused(path):
    with_pickle(path, b"\x80\x02" + b"]" * 3_000_000 + b".")
    refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(reader.MAX_ENTRIES + 1):
            archive.writestr(str(number), b"")
    refused(path)


@pytest.mark.parametrize("kind", [[], {}, None, 3, "outro"], ids=str)
def test_another_kind_of_kind_is_refused(path, kind):
    torch.save(content() | {"kind": kind}, path)
    refused(path)


def test_names_in_a_file_cannot_act_on_the_terminal(path):
    weights = {"\x1b[2J\nabc": torch.tensor(float("nan"))}
    torch.save(content() | {"weights": weights}, path)
    refused(path, "não finitos")


def test_a_side_larger_than_any_picture_needs_is_refused(path):
    hostile = content()
    hostile["info"]["architecture"] |= {"side": 20_000, "pools": [20_000, 1]}
    torch.save(hostile, path)
    refused(path)


def test_a_tensor_larger_than_its_bytes_is_refused(path):
    weights = content()["weights"] | {"fc1.weight": torch.zeros(1).expand(100_000, 100_000)}
    torch.save(content() | {"weights": weights}, path)
    refused(path)


@pytest.mark.filterwarnings("ignore:torch.quantize")
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(3, 3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8),
        lambda: torch.empty(3, device="meta"),
        lambda: torch.zeros(3, dtype=torch.complex64),
        lambda: torch.zeros(4, 4).T[1:],
    ],
    ids=["sparse", "quantised", "meta", "complex", "view"],
)
def test_other_kinds_of_tensors_are_refused(path, make):
    torch.save(content() | {"weights": content()["weights"] | {"fc2.bias": make()}}, path)
    refused(path)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("sizes", [[10**6, 10**6], [10**12, 10**12], [-4, 8], [0, 0], ["4", 8], []])
def test_an_architecture_cannot_ask_for_memory(path, sizes):
    hostile = content()
    hostile["info"]["architecture"]["channels"] = sizes
    torch.save(hostile, path)
    refused(path)


def test_containers_named_in_each_other_are_walked_once(path):
    nested = [1]
    for _ in range(60):
        nested = [nested, nested]  # 2^60 elements, for whoever does not look
    loop = []
    loop.append(loop)
    deep = []
    for _ in range(200):
        deep = [deep]
    torch.save(content(history={"a": nested, "b": loop, "c": deep}), path)
    load_model(path)  # unusual, but nothing of it is used
    hostile = content()
    hostile["info"]["architecture"]["channels"] = nested
    torch.save(hostile, path)
    refused(path)


@pytest.mark.parametrize(
    "info",
    [
        {"preset": "\x1b[2J\x1b]0;pwned\x07"},
        {"classes": ["x\ny"] + ["z"] * 9},
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
        {"classes": ["a"] * 10},
    ],
    ids=[
        "escapes",
        "newline",
        "endless",
        "huge",
        "infinite",
        "nan",
        "no-epochs",
        "no-version",
        "zero",
        "not-a-number",
        "text",
        "above-1",
        "precision",
        "classes",
    ],
)
def test_metadata_that_would_spoil_the_screen_or_a_result_is_refused(path, info):
    torch.save(content(**info), path)
    refused(path)


@pytest.mark.slow
def test_a_zip_bomb_is_refused(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/data.pkl", "w") as entry:
        for _ in range(300):
            entry.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    refused(path)


def test_a_file_above_the_limit_is_refused_unread(path, monkeypatch):
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO)
    monkeypatch.setattr(safe, "MAX_BYTES", path.stat().st_size - 1)
    refused(path, "grande demais")
