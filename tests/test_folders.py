"""Folders of one's own pictures: classes, splits, what is left out and said, and what is refused."""

import builtins
import io
import os
import random
import shutil
import unicodedata
import warnings
from collections import Counter

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from classificador.data import pictures
from classificador.data.folders import load_data
from classificador.errors import DataError
from conftest import ROOT


def paint(path, colour, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def class_folders(root, names="ab", count=4, blue=0, size=(40, 30)):
    """A folder for each class, of pictures that tell their number, class and `blue` by their colour."""
    for label, name in enumerate(names):
        for number in range(count):
            paint(root / name / f"{number}.png", (number, label, blue), size)


@pytest.fixture
def root(tmp_path):
    """Three classes told apart by their colour, unbalanced, of many sizes."""
    draw, colours = random.Random(0), {"vermelho": (200, 0, 0), "azul": (0, 0, 200), "verde": (0, 200, 0)}
    for count, (name, colour) in zip((20, 8, 4), colours.items(), strict=True):
        for number in range(count):
            paint(tmp_path / name / f"{number}.png", colour, (draw.randint(1, 90), draw.randint(1, 90)))
    return tmp_path


def splits(data):
    return {"train": data.train, "val": data.val, "test": data.test}


def size(data):
    return sum(map(len, splits(data).values()))


def colours(split):
    """Of pictures of class_folders(): number and class."""
    return {tuple(image[:2, 0, 0].tolist()) for image in split.images}


def test_labels_follow_the_folders_names_and_every_class_is_in_every_split(root):
    data = load_data(root)
    assert data.classes == ("azul", "verde", "vermelho")
    assert size(data) == 32
    for split in splits(data).values():
        assert set(split.labels.tolist()) == {0, 1, 2}
        channel = split.images.float().mean((2, 3)).argmax(1)  # the colour tells the class
        assert torch.equal(channel, torch.tensor([2, 1, 0])[split.labels])


@pytest.mark.parametrize(("side", "framing"), [(48, "centro"), (96, "inteira")])
def test_pictures_have_the_side_and_the_framing_asked_for(root, side, framing):
    data = load_data(root, side=side, framing=framing)
    assert data.framing == framing
    assert data.train.images.shape[1:] == (3, side, side)
    white = (data.train.images == 255).all(1).any((1, 2))  # what is left of the square beside the picture
    assert bool(white.any()) == (framing == "inteira")


def test_other_sides_and_framings_are_refused(tmp_path):
    for wrong in (7, "32"):
        with pytest.raises(DataError, match=f"precisa ser 32, 48, 64 ou 96; veio {wrong}"):
            load_data(tmp_path, side=wrong)
    with pytest.raises(DataError, match="precisa ser centro ou inteira; veio metade"):
        load_data(tmp_path, framing="metade")


def test_each_picture_is_read_once_and_each_folder_listed_once(tmp_path, monkeypatch):
    for split in ("train", "test"):
        class_folders(tmp_path / split)
    touched = Counter()

    def counted(call):
        def counting(path, *rest, **options):
            touched[os.fspath(path) if isinstance(path, os.PathLike) else path] += 1
            return call(path, *rest, **options)

        return counting

    everything = {str(tmp_path), *map(str, tmp_path.rglob("*"))}
    for module, name in ((os, "listdir"), (os, "scandir"), (builtins, "open"), (io, "open")):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    load_data(tmp_path)
    assert {path: touched[path] for path in everything} == dict.fromkeys(everything, 1)


def test_the_split_mixes_the_classes_and_pictures_added_later_do_not_move_the_others(tmp_path):
    class_folders(tmp_path, count=60)
    filters = list(warnings.filters)
    before = load_data(tmp_path)
    assert set(before.train.labels[:10].tolist()) == {0, 1}
    class_folders(tmp_path, count=120)
    after = splits(load_data(tmp_path))
    assert warnings.filters == filters  # though it is read in threads
    for name, split in splits(before).items():
        assert colours(split) == {picture for picture in colours(after[name]) if picture[0] < 60}
    assert 0.1 < len(after["test"]) / 240 < 0.2 and 0.1 < len(after["val"]) / 240 < 0.2


@pytest.mark.parametrize("count", [4, 6, 20, 30])
def test_a_class_of_a_few_pictures_is_in_every_split_with_a_tenth_to_a_fifth(tmp_path, count):
    class_folders(tmp_path, "abcdefgh", count)
    data = load_data(tmp_path)
    assert data.train.labels.bincount(minlength=8).min() >= 2
    for split in (data.val, data.test):
        counts = split.labels.bincount(minlength=8).tolist()
        assert min(counts) >= max(1, count // 10) and max(counts) <= -(-count // 5), counts


def test_a_name_that_could_not_be_saved_is_told_before_the_training(root):
    (root / "azul").rename(root / "azul\u200dclaro")
    with pytest.raises(DataError, match=r"A pasta azul\\u200dclaro .* nome que não se pode guardar"):
        load_data(root)


def test_odd_names_are_kept_and_a_file_name_that_is_no_text_does_not_matter(tmp_path):
    names = ("a.b", "céu azul", "x" * 100, "日本")
    class_folders(tmp_path, names)
    os.rename(tmp_path / "a.b" / "0.png", os.fsencode(tmp_path / "a.b") + b"/caf\xe9.JPG")
    data = load_data(tmp_path)
    assert data.classes == names and size(data) == 16


def test_classes_are_told_with_their_counts_and_so_is_all_that_is_left_out(root, capsys):
    (root / "azul" / "texto.png").write_text("isto não é uma imagem")
    (root / "azul" / "notas.txt").write_text("nem isto")
    (root / "azul" / ".oculto.png").write_text("nem isto")
    os.mkfifo(root / "verde" / "fila.png")
    (root / "verde" / "pasta.png").mkdir()
    (root / "verde" / "volta").symlink_to(root)
    (root / "notas").mkdir()
    paint(root / "solta.png", "red")
    paint(root / "azul" / "2024" / "x.png", "red")
    assert size(load_data(root)) == 32
    told, _, classes, bad = capsys.readouterr().out.splitlines()
    deeper = f"imagens em {root / 'azul' / '2024'} (1), imagens em {root / 'verde' / 'volta'} (1)"
    assert f"imagens soltas (1), {deeper}, pasta notas, sem imagens, " in told
    assert "pastas (3)" in told and ".txt (1)" in told and ".png (1)" in told
    assert classes == "3 classes: azul (8), verde (4), vermelho (20)."
    assert "ficaram de fora: 1. " in bad and "texto.png" in bad


@pytest.mark.parametrize(
    ("place", "given", "said"),
    [
        ("fotos/album", "fotos", "fotos precisa de .* As classes parecem estar em .*album: dê esse caminho"),
        ("fotos", "fotos/a", "há 0. As 4 imagens são de uma classe só: dê a pasta de cima, .*fotos"),
        ("outra", "errada", "errada não pode ser lida: o caminho não existe"),
        ("outra", "vazia", "vazia precisa de pelo menos duas pastas com imagens, uma por classe; há 0"),
        ("outra", "solta", "há 0. Imagens soltas, 1: ponha as de cada classe em uma pasta"),
    ],
)
def test_a_folder_at_another_level_is_told_where_the_classes_are_and_nothing_is_written(tmp_path, place, given, said):
    class_folders(tmp_path / place)
    (tmp_path / "vazia").mkdir()
    paint(tmp_path / "solta" / "1.png", "red")

    def snapshot():
        return sorted((str(path), path.stat().st_size) for path in tmp_path.rglob("*"))

    before = snapshot()
    with pytest.raises(DataError, match=said):
        load_data(tmp_path / given)
    assert snapshot() == before


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Treino", "validação", "teste"), ("train", "test")])
def test_folders_called_train_and_test_are_the_split(tmp_path, names):
    counts = (8, 3, 2)[: len(names)]
    for place, (name, count) in enumerate(zip(names, counts, strict=True)):
        class_folders(tmp_path / name, count=count, blue=100 * place)
    data = load_data(tmp_path)
    assert data.classes == ("a", "b")
    places = {name: set(split.images[:, 2, 0, 0].tolist()) for name, split in splits(data).items()}
    own = {"train": {0}, "val": {100}, "test": {200}} if len(names) == 3 else {"train": {0}, "val": {0}, "test": {100}}
    assert places == own
    assert size(data) == 2 * sum(counts)


def test_copies_in_train_and_test_and_pictures_that_are_cut_are_told(tmp_path, capsys):
    for split in ("train", "test"):
        class_folders(tmp_path / split, count=6, size=(40, 20))
    load_data(tmp_path)
    said = capsys.readouterr().out
    assert "Em mais de uma parte ou classe: 12, como " in said
    assert "que é o dobro do outro, ou mais: 24. Delas só conta o meio" in said
    load_data(tmp_path, framing="inteira")
    assert "o dobro do outro" not in capsys.readouterr().out


def test_what_lies_beside_the_splits_is_told_or_refused(tmp_path, capsys):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "val", count=1)
    (tmp_path / "runs" / "2026-11-28_10-00-00-rapido").mkdir(parents=True)
    paint(tmp_path / "solta.png", "red")
    load_data(tmp_path)
    said = capsys.readouterr().out
    assert f"Ficaram de fora de {tmp_path}: imagens soltas (1), pasta runs, sem imagens. " in said
    class_folders(tmp_path / "valid", count=1)
    with pytest.raises(DataError, match="duas são a mesma parte da divisão"):
        load_data(tmp_path)
    paint(tmp_path / "mais" / "0.png", "red")  # which is no split, and may not be left out
    with pytest.raises(DataError, match="As classes parecem estar em"):
        load_data(tmp_path)


def test_a_test_folder_of_loose_pictures_or_of_another_class_is_an_error(tmp_path):
    class_folders(tmp_path / "train")
    paint(tmp_path / "test" / "1.png", "red")
    with pytest.raises(DataError, match="test precisa de pelo menos duas pastas.*Imagens soltas, 1"):
        load_data(tmp_path)
    class_folders(tmp_path / "test", "abc")
    with pytest.raises(DataError, match="A classe c não tem imagens em .*train"):
        load_data(tmp_path)


def test_a_class_that_cannot_be_read_is_never_left_out_silently(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "FORMATS", [form for form in pictures.FORMATS if form != "HEIF"])
    class_folders(tmp_path)
    class_folders(tmp_path, "c", 3)
    (tmp_path / "c" / "3.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    said = r"A classe c tem 3 imagens legíveis .*ao menos 4\. .* é HEIC\. .*pip install pillow-heif"
    with pytest.raises(DataError, match=said):
        load_data(tmp_path)


def test_accents_in_either_spelling_are_one_class_and_one_split(tmp_path):
    images = []
    for form in ("NFC", "NFD"):
        class_folders(tmp_path / form, [unicodedata.normalize(form, name) for name in ("maçã", "pêra")], count=10)
        data = load_data(tmp_path / form)
        assert data.classes == ("maçã", "pêra")
        images.append([split.images for split in splits(data).values()])
    assert all(torch.equal(*pair) for pair in zip(*images, strict=True))


@pytest.mark.parametrize("count", [8, 60])
def test_copies_of_a_picture_are_counted_and_stay_in_one_split_and_those_in_two_classes_told(tmp_path, capsys, count):
    class_folders(tmp_path, count=count)
    for name in "ab":
        for number in range(count):
            shutil.copy(tmp_path / name / f"{number}.png", tmp_path / name / f"{number} (1).png")
    found = [colours(split) for split in splits(load_data(tmp_path)).values()]
    assert sum(map(len, found)) == len(set.union(*found)) == 2 * count
    said = capsys.readouterr().out
    assert f"Cópias exatas de outras imagens: {2 * count}." in said and "Em mais de uma" not in said
    shutil.copy(tmp_path / "a" / "0.png", tmp_path / "b" / "zero.png")
    load_data(tmp_path)
    assert "Em mais de uma parte ou classe: 1, como " in capsys.readouterr().out


def test_more_pictures_than_memory_are_refused_before_reading(root, monkeypatch):
    small = psutil.virtual_memory()._replace(available=100_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: small)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("read"))
    with pytest.raises(DataError, match="não cabem na memória: pedem 0,0 GB, e há 0,0 GB livres. Use um lado menor"):
        load_data(root)


def test_where_cifar10_lies_it_is_loaded_and_pictures_beside_it_are_mentioned(tmp_path, cifar10, capsys):
    (tmp_path / "cifar-10.bin").symlink_to(ROOT / "data" / "cifar-10.bin")
    paint(tmp_path / "foto.png", "red")
    class_folders(tmp_path)
    assert np.array_equal(load_data(tmp_path).test.labels, cifar10.test.labels)
    assert "pastas de imagens que não se usam, por ser ali o lugar do CIFAR-10: 2." in capsys.readouterr().out
    with pytest.raises(DataError, match="lado 64 vale só para imagens suas"):
        load_data(tmp_path, side=64)
