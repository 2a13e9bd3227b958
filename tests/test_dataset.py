"""The data set: cache, damage, sources of one's own, two processes, split."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout

import fake_cifar
from classificador.constants import CLASSES
from classificador.data import dataset, download, formats
from classificador.data.dataset import load_cifar10, validation_indices
from classificador.errors import DataError

RECORDS = fake_cifar.make_records()
TRAIN_ROWS = formats.TRAIN_FILES * fake_cifar.ROWS


@pytest.fixture
def small(monkeypatch):
    """Small data, and no download; gives the list of downloads asked for."""
    fake_cifar.shrink(monkeypatch, RECORDS)
    monkeypatch.delenv(formats.SOURCE_VARIABLE, raising=False)
    asked = []

    def fetch(root):
        asked.append(root)
        with pytest.raises(Timeout):  # so that no other process fetches as well
            FileLock(root / ".cifar-10.lock").acquire(timeout=0)
        return fake_cifar.write_tar(fake_cifar.python_files(RECORDS), root / formats.PYTHON_ARCHIVE)

    monkeypatch.setattr(download, "fetch", fetch)
    return asked


def _assert_whole(data):
    val = validation_indices(RECORDS[:TRAIN_ROWS, 0])
    train = [row for row in range(TRAIN_ROWS) if row not in val]
    for split, rows in ((data.train, train), (data.val, val), (data.test, range(TRAIN_ROWS, len(RECORDS)))):
        assert split.images.dtype == torch.uint8 and split.labels.dtype == torch.int64
        assert split.images.shape == (len(rows), 3, 32, 32) and split.images.is_contiguous()
        assert np.array_equal(split.images.numpy().reshape(-1, formats.PIXELS), RECORDS[list(rows), 1:])
        assert split.labels.tolist() == RECORDS[list(rows), 0].tolist()
    assert data.classes == CLASSES and len(set(CLASSES)) == 10


def _names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".cifar-10.lock")


def test_fetched_once_then_cached(small, tmp_path):
    root = tmp_path / "novo" / "data"
    _assert_whole(load_cifar10(root))
    _assert_whole(load_cifar10(str(root)))
    assert len(small) == 1
    assert _names(root) == [formats.CACHE], "the cache replaces the downloaded archive"
    assert (root / formats.CACHE).read_bytes() == RECORDS.tobytes()


@pytest.mark.parametrize("damage", ["changed", "cut", "empty"])
def test_damaged_cache_is_named_and_fetched_again(damage, small, tmp_path, capsys):
    whole = RECORDS.tobytes()
    bad = {"changed": whole[:99] + bytes([whole[99] ^ 1]) + whole[100:], "cut": whole[:-1], "empty": b""}[damage]
    (tmp_path / formats.CACHE).write_bytes(bad)
    _assert_whole(load_cifar10(tmp_path))
    assert len(small) == 1
    assert (tmp_path / formats.CACHE).read_bytes() == whole
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 and str(tmp_path / formats.CACHE) in printed[0] and "ignorado" in printed[0]


def test_an_archive_put_there_by_hand_is_used_and_kept_also_beside_damaged_ones(small, tmp_path):
    bad = fake_cifar.write_folder({"data_batch_1": b"half"}, tmp_path / "cifar-10-batches-py")
    (tmp_path / formats.PYTHON_ARCHIVE).write_bytes(b"half")
    fake_cifar.write_tar(fake_cifar.npm_files(RECORDS), tmp_path / formats.NPM_ARCHIVE)
    _assert_whole(load_cifar10(tmp_path))
    assert small == []
    assert {formats.CACHE, formats.NPM_ARCHIVE} < set(_names(tmp_path))
    assert _names(bad) == ["data_batch_1"], "what is damaged is left alone"


@pytest.mark.parametrize("given", ["parameter", "environment"])
@pytest.mark.parametrize("name", ["meu.tar.gz", "copia.bin"])
def test_source_of_ones_own(given, name, small, tmp_path, monkeypatch):
    source = fake_cifar.write_tar(fake_cifar.python_files(RECORDS), tmp_path / "meu.tar.gz").with_name(name)
    (tmp_path / "copia.bin").write_bytes(RECORDS.tobytes())
    if given == "environment":
        monkeypatch.setenv(formats.SOURCE_VARIABLE, str(source))
    root = tmp_path / "data"
    _assert_whole(load_cifar10(root, source if given == "parameter" else None))
    assert small == [] and not root.exists()


def test_bad_source_is_an_error_and_stays_as_it_is(small, tmp_path, monkeypatch):
    bad = tmp_path / "meu.tar.gz"
    bad.write_bytes(b"half")
    monkeypatch.setenv(formats.SOURCE_VARIABLE, str(bad))
    with pytest.raises(DataError, match=r"meu\.tar\.gz não pôde ser lido .* Use outra cópia"):
        load_cifar10(tmp_path)
    with pytest.raises(DataError, match=r"não existe\. Confira o caminho dos dados\.$"):
        load_cifar10(tmp_path, tmp_path / "nada")
    assert bad.read_bytes() == b"half" and small == []


def test_cache_that_cannot_be_written_is_done_without(small, tmp_path, monkeypatch, capsys):
    def replace(*_):
        raise OSError("cheio")

    monkeypatch.setattr(os, "replace", replace)
    _assert_whole(load_cifar10(tmp_path))
    assert "ficam só na memória" in capsys.readouterr().out
    assert _names(tmp_path) == [formats.PYTHON_ARCHIVE], "the archive stays where no cache replaces it"


def test_folder_that_cannot_be_locked(small, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr(FileLock, "acquire", refuse)
    fake_cifar.write_tar(fake_cifar.python_files(RECORDS), tmp_path / formats.PYTHON_ARCHIVE)
    _assert_whole(load_cifar10(tmp_path))


def test_root_is_a_file(small, tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(DataError, match="não pôde ser criada"):
        load_cifar10(tmp_path / "data")


def test_of_several_processes_one_fetches_and_the_others_wait_for_what_it_brings(small, tmp_path, monkeypatch):
    said, waiting = [], threading.Event()
    monkeypatch.setattr(dataset, "tell", lambda text: (said.append(text), waiting.set()))
    monkeypatch.setattr(download, "fetch", lambda root: pytest.fail("fetched twice"))
    with ThreadPoolExecutor() as pool:
        with FileLock(tmp_path / ".cifar-10.lock"):  # as held by a process that fetches
            waits = pool.submit(load_cifar10, tmp_path)
            assert waiting.wait(60)
            (tmp_path / formats.CACHE).write_bytes(RECORDS.tobytes())
        _assert_whole(waits.result(60))
    assert said == ["Outro processo está preparando os dados; aguardando…"]


def test_the_real_data_and_their_split_are_the_same_everywhere(cifar10):
    splits = (cifar10.train, cifar10.val, cifar10.test)
    sizes = [(len(split.images), torch.bincount(split.labels).unique().tolist()) for split in splits]
    assert sizes == [(45_000, [4_500]), (5_000, [500]), (10_000, [1_000])]
    digests = [hashlib.sha256(split.images.numpy()).hexdigest()[:16] for split in splits]
    assert digests == ["b459f49d49aa5f1e", "d94c552c3cfb0bdc", "177777c33ba79825"]
