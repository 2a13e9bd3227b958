"""Every layout gives the same verified records; damaged and hostile ones are refused and touch nothing."""

import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

import fake_cifar
from classificador.data import formats
from classificador.errors import DataError

RECORDS = fake_cifar.make_records()
LAYOUTS = {"bin": fake_cifar.bin_files, "python": fake_cifar.python_files, "npm": fake_cifar.npm_files}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    fake_cifar.shrink(monkeypatch, RECORDS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_archive_and_folder_of_each_layout(layout, tmp_path):
    path = fake_cifar.write_tar(LAYOUTS[layout](RECORDS), tmp_path / "a.tar.gz")
    assert np.array_equal(formats.read(path), RECORDS)
    assert list(tmp_path.iterdir()) == [path]
    folder = fake_cifar.write_folder(LAYOUTS[layout](RECORDS), tmp_path / "dados")
    assert np.array_equal(formats.read(folder), RECORDS)


def test_folder_above_the_official_one(tmp_path):
    fake_cifar.write_folder(fake_cifar.python_files(RECORDS), tmp_path / "cifar-10-batches-py")
    assert np.array_equal(formats.read(tmp_path), RECORDS)


def test_the_fake_python_batch_is_a_true_pickle():
    batch = pickle.loads(fake_cifar.python_batch(RECORDS[: fake_cifar.ROWS]), encoding="latin1")  # our own bytes
    assert np.array_equal(batch["data"], RECORDS[: fake_cifar.ROWS, 1:])
    assert batch["labels"] == RECORDS[: fake_cifar.ROWS, 0].tolist()


def test_pickles_are_never_obeyed(tmp_path):
    canary = tmp_path / "canario"
    order = f"cbuiltins\nopen\n(X{chr(len(str(canary)))}\0\0\0{canary}X\1\0\0\0wtR0".encode("latin-1")
    files = fake_cifar.python_files(RECORDS, injected=order)
    with pytest.warns(ResourceWarning):  # nobody closes what it opened
        pickle.loads(files["test_batch"], encoding="latin1")
    assert canary.exists(), "the canary does not sing: this test would prove nothing"
    canary.unlink()
    assert np.array_equal(formats.read(fake_cifar.write_folder(files, tmp_path / "dados")), RECORDS)
    assert not canary.exists()


def _link(target):
    link = tarfile.TarInfo("data_batch_1.bin")
    link.type, link.linkname = tarfile.SYMTYPE, target
    return link, b""


def test_hostile_members_write_nothing(tmp_path):
    inside = tmp_path / "dentro"
    inside.mkdir()
    outside = [(tarfile.TarInfo("../fora"), b"x"), (tarfile.TarInfo(str(tmp_path / "absoluto")), b"x")]
    extra = (*outside, _link("/etc/passwd"))
    path = fake_cifar.write_tar(fake_cifar.bin_files(RECORDS), inside / "a.tar.gz", "../../", extra)
    assert np.array_equal(formats.read(path), RECORDS)
    assert sorted(tmp_path.rglob("*")) == [inside, path]


def test_symlink_in_place_of_a_file_is_not_followed(tmp_path):
    files = fake_cifar.bin_files(RECORDS)
    del files["data_batch_1.bin"]
    path = fake_cifar.write_tar(files, tmp_path / "a.tar.gz", extra=(_link("data_batch_2.bin"),))
    with pytest.raises(DataError, match="não contém"):
        formats.read(path)


def test_oversized_member_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MEMBER_LIMIT", 1000)
    with pytest.raises(DataError, match="não contém"):
        formats.read(fake_cifar.write_tar(fake_cifar.bin_files(RECORDS), tmp_path / "a.tar.gz"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("row", "column"), [(fake_cifar.ROWS * 2 + 3, 1000), (-1, 0)])
def test_one_changed_pixel_or_label_is_told_with_both_sums(layout, row, column, tmp_path):
    changed = RECORDS.copy()
    changed[row, column] ^= 1
    message = _refused(fake_cifar.write_tar(LAYOUTS[layout](changed), tmp_path / "a.tar.gz"))
    assert formats.SHA256[:12] in message and hashlib.sha256(changed).hexdigest()[:12] in message


def _half(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


@pytest.mark.parametrize("damage", [_half, lambda whole: b"", lambda whole: b"<html>404</html>"])
def test_broken_archive_is_one_line(damage, tmp_path):
    path = fake_cifar.write_tar(fake_cifar.python_files(RECORDS), tmp_path / "a.tar.gz")
    path.write_bytes(damage(path.read_bytes()))
    _refused(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_broken_or_missing_file_inside_is_one_line(layout, tmp_path):
    files = LAYOUTS[layout](RECORDS)
    for name, content in files.items():
        _refused(fake_cifar.write_folder(files | {name: _half(content)}, tmp_path / name))
    del files[name]
    _refused(fake_cifar.write_folder(files, tmp_path / "dados"))


def test_picture_of_another_kind_is_refused(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (1024, fake_cifar.ROWS)).save(buffer, "PNG")
    files = fake_cifar.npm_files(RECORDS) | {"data_batch_1.png": buffer.getvalue()}
    _refused(fake_cifar.write_folder(files, tmp_path / "dados"))


def _refused(path) -> str:
    with pytest.raises(DataError) as caught:
        formats.read(path)
    message = str(caught.value)
    assert str(path) in message and "Use outra cópia." in message and "\n" not in message
    return message
