import os
import random

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from classificador.data import folders
from classificador.data.folders import load_data, load_folder
from classificador.errors import DataError
from conftest import ROOT


def paint(path, colour, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def root(tmp_path):
    """Three classes told apart by their colour, unbalanced, of many sizes."""
    draw, colours = random.Random(0), {"vermelho": (200, 0, 0), "azul": (0, 0, 200), "verde": (0, 200, 0)}
    for count, (name, colour) in zip((20, 8, 4), colours.items(), strict=True):
        for number in range(count):
            paint(tmp_path / name / f"{number}.png", colour, (draw.randint(1, 90), draw.randint(1, 90)))
    return tmp_path


def parts(data):
    return {"train": data.train, "val": data.val, "test": data.test}


def size(data):
    return sum(len(part) for part in parts(data).values())


def test_labels_follow_the_folders_names_and_every_class_is_in_every_part(root):
    data = load_data(root)
    assert data.classes == ("azul", "verde", "vermelho")
    assert size(data) == 32
    for part in parts(data).values():
        assert set(part.labels.tolist()) == {0, 1, 2}
        channel = part.images.float().mean((2, 3)).argmax(1)  # the colour tells the class
        assert torch.equal(channel, torch.tensor([2, 1, 0])[part.labels])


@pytest.mark.parametrize("side", [32, 48, 96])
def test_pictures_have_the_side_asked_for(root, side):
    assert load_data(root, side=side).train.images.shape[1:] == (3, side, side)


@pytest.mark.parametrize("side", [0, -1, 7, 512, "32"])
def test_other_sides_are_refused(root, side):
    with pytest.raises(DataError, match=f"precisa ser 32, 48, 64 ou 96; veio {side}"):
        load_data(root, side=side)


def test_the_split_is_the_same_again_and_mixes_the_classes(tmp_path):
    for number in range(40):
        for name in "ab":
            paint(tmp_path / name / f"{number}.png", (number, 0, 0))
    before, again = load_folder(tmp_path), load_folder(tmp_path)
    assert all(torch.equal(part.images, parts(again)[name].images) for name, part in parts(before).items())
    assert set(before.train.labels[:10].tolist()) == {0, 1}


def test_pictures_added_later_do_not_move_the_others(tmp_path):
    def names(part):
        return {(int(image[0, 0, 0]), int(label)) for image, label in zip(part.images, part.labels, strict=True)}

    for count in (60, 120):
        for number in range(count):
            for label, name in enumerate("ab"):
                paint(tmp_path / name / f"{number}.png", (number, label, 0))
        now = {name: names(part) for name, part in parts(load_folder(tmp_path)).items()}
        if count == 60:
            before = now
    for name, old in before.items():
        assert old == {picture for picture in now[name] if picture[0] < 60}
    assert 0.1 < len(now["test"]) / 240 < 0.2 and 0.1 < len(now["val"]) / 240 < 0.2


@pytest.mark.parametrize("count", [4, 5, 6])
def test_a_class_of_a_few_pictures_is_in_every_part(tmp_path, count):
    for name in "abcdefgh":
        for number in range(count):
            paint(tmp_path / name / f"{name}{number}.png", (number, 0, 0))
    data = load_folder(tmp_path)
    for part, least in ((data.train, 2), (data.val, 1), (data.test, 1)):
        assert part.labels.bincount(minlength=8).min() >= least


def test_a_name_that_could_not_be_saved_is_told_before_the_training(root):
    (root / "azul").rename(root / "azul\u200dclaro")
    with pytest.raises(DataError, match="A pasta azul.claro .* nome que não se pode guardar"):
        load_folder(root)


def test_a_file_name_that_is_no_text_does_not_matter(root):
    os.rename(root / "azul" / "0.png", os.fsencode(root / "azul") + b"/caf\xe9.png")
    assert size(load_folder(root)) == 32


def test_bad_files_are_counted_and_named(root, capsys):
    (root / "azul" / "texto.png").write_text("isto não é uma imagem")
    (root / "azul" / "notas.txt").write_text("nem isto")
    (root / "azul" / ".oculto.png").write_text("nem isto")
    os.mkfifo(root / "verde" / "fila.png")
    (root / "verde" / "pasta.png").mkdir()
    (root / "verde" / "volta").symlink_to(root)
    (root / "volta").symlink_to(root)
    data = load_data(root)
    assert size(data) == 32
    out = capsys.readouterr().out
    assert "ficaram de fora: 1. " in out and "texto.png" in out
    assert "só valem imagens" in out and "pastas (2)" in out and ".txt (1)" in out and ".png (1)" in out


def test_odd_names_are_kept(tmp_path):
    for name in ("céu azul", "日本", "a.b", "x" * 100):
        for number in range(4):
            paint(tmp_path / name / f"ção {number}.JPG", (0, 0, 0))
    assert load_data(tmp_path).classes == ("a.b", "céu azul", "x" * 100, "日本")


def test_an_animation_counts_as_its_first_frame(root):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ((0, 0, 255), (255, 0, 0))]
    frames[0].save(root / "azul" / "animada.gif", save_all=True, append_images=frames[1:])
    data = load_data(root)
    images = torch.cat([part.images[part.labels == 0] for part in parts(data).values()])
    assert len(images) == 9
    assert (images.float().mean((2, 3)).argmax(1) == 2).all()


def test_one_class_or_too_few_pictures_are_told(root, tmp_path):
    for path in (root / "verde").iterdir():
        path.unlink()
        with pytest.raises(DataError, match=r"A classe verde tem 3 imagens legíveis .*ao menos 4"):
            load_data(root)
        break
    lone = tmp_path / "so"
    paint(lone / "gato" / "1.png", (0, 0, 0))
    with pytest.raises(DataError, match="pelo menos duas pastas com imagens, uma por classe; há 1"):
        load_data(lone)


def test_what_is_neither_ones_own_nor_cifar10_is_told_and_not_made_into_it(tmp_path):
    paint(tmp_path / "soltas" / "1.png", (0, 0, 0))
    paint(tmp_path / "fundas" / "treino" / "gato" / "1.png", (0, 0, 0))
    for name in ("soltas", "fundas"):
        with pytest.raises(DataError, match="não tem pastas de imagens, uma por classe, nem o CIFAR-10"):
            load_data(tmp_path / name)
    with pytest.raises(DataError, match="errada não existe"):
        load_data(tmp_path / "errada")
    assert not (tmp_path / "errada").exists()


def test_a_stray_picture_beside_cifar10_does_not_matter(tmp_path, cifar10):
    (tmp_path / "cifar-10.bin").symlink_to(ROOT / "data" / "cifar-10.bin")
    paint(tmp_path / "foto.png", (0, 0, 0))
    assert len(load_data(tmp_path).train) == 45_000


def test_more_pictures_than_memory_are_refused_before_reading(root, monkeypatch):
    small = psutil.virtual_memory()._replace(available=100_000)
    monkeypatch.setattr(folders.psutil, "virtual_memory", lambda: small)
    monkeypatch.setattr(folders, "open_image", lambda path: pytest.fail("read"))
    with pytest.raises(DataError, match="não cabem na memória: pedem 0,0 GB, e há 0,0 GB livres. Use um lado menor"):
        load_data(root)


def test_other_folders_hold_cifar10(cifar10):
    data = load_data(ROOT / "data")
    assert len(data.train) == 45_000
    assert np.array_equal(data.test.labels, cifar10.test.labels)
    with pytest.raises(DataError, match="lado 64 vale só para imagens suas"):
        load_data(ROOT / "data", side=64)
