import os
import random
import shutil
import unicodedata

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from classificador.data import folders, pictures
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


def test_pictures_are_framed_as_asked_for(root):
    for name in ("centro", "inteira"):
        data = load_data(root, framing=name)
        assert data.framing == name
        white = (data.train.images == 255).all(1).any((1, 2))  # what is left of the square beside the picture
        assert bool(white.any()) == (name == "inteira")
    with pytest.raises(DataError, match="precisa ser centro ou inteira; veio metade"):
        load_data(root, framing="metade")


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
    with pytest.raises(DataError, match=r"A pasta azul\\u200dclaro .* nome que não se pode guardar"):
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


def class_folders(root, names="ab", count=4):
    for label, name in enumerate(names):
        for number in range(count):
            paint(root / name / f"{number}.png", (number, label, 0))


def snapshot(root):
    return sorted((str(path), path.stat().st_size) for path in root.rglob("*"))


@pytest.mark.parametrize(
    ("place", "given", "said"),
    [
        ("fotos/album", "fotos", "fotos precisa de .* As classes parecem estar em .*album: dê esse caminho"),
        ("fotos", "fotos/a", "As 4 imagens são de uma classe só: dê a pasta de cima, .*fotos"),
        ("outra", "errada", "errada não existe"),
        ("outra", "vazia", "vazia precisa de pelo menos duas pastas .* há 0"),
    ],
)
def test_a_folder_at_another_level_is_told_where_the_classes_are_and_nothing_is_written(tmp_path, place, given, said):
    class_folders(tmp_path / place)
    (tmp_path / "vazia").mkdir()
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match=said):
        load_data(tmp_path / given)
    assert snapshot(tmp_path) == before


def test_loose_pictures_alone_are_told_to_be_put_into_folders(tmp_path):
    paint(tmp_path / "fotos" / "1.png", (0, 0, 0))
    with pytest.raises(DataError, match="Imagens soltas, 1: ponha as de cada classe em uma pasta"):
        load_data(tmp_path / "fotos")


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Treino", "validação", "teste"), ("train", "test")])
def test_folders_called_train_and_test_are_the_split(tmp_path, names):
    counts = (8, 3, 2)[: len(names)]
    for place, (name, count) in enumerate(zip(names, counts, strict=True)):
        for label, kind in enumerate("ab"):
            for number in range(count):
                paint(tmp_path / name / kind / f"{number}.png", (number, label, 100 * place))
    data = load_data(tmp_path)
    assert data.classes == ("a", "b")
    places = {name: set(part.images[:, 2, 0, 0].tolist()) for name, part in parts(data).items()}
    own = {"train": {0}, "val": {100}, "test": {200}} if len(names) == 3 else {"train": {0}, "val": {0}, "test": {100}}
    assert places == own
    assert size(data) == 2 * sum(counts)


@pytest.mark.parametrize("count", [20, 30])
def test_of_few_pictures_no_part_is_left_with_one(tmp_path, count):
    random = np.random.default_rng(0)
    for name in "abcdefgh":
        (tmp_path / name).mkdir()
        for number in range(count):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    data = load_data(tmp_path)
    for part in (data.val, data.test):
        counts = part.labels.bincount().tolist()
        assert min(counts) >= count // 10 and max(counts) <= count / 5, counts


def test_copies_in_train_and_test_and_pictures_that_are_cut_or_too_deep_are_told(tmp_path, capsys):
    for part in ("train", "test"):
        for name, colour in (("a", "red"), ("b", "blue")):
            for number in range(6):
                paint(tmp_path / part / name / f"{number}.png", colour, (40 + number, 20))
    paint(tmp_path / "train" / "a" / "2024" / "x.png", "red")
    load_data(tmp_path)
    said = capsys.readouterr().out
    assert "Em mais de uma parte, e por isso fáceis demais: 12, como " in said
    assert f"Imagens em pastas dentro das classes, como {tmp_path / 'train' / 'a' / '2024'}: 1." in said
    assert "que é o dobro do outro, ou mais: 24. Delas só conta o meio" in said
    load_data(tmp_path, framing="inteira")
    assert "o dobro do outro" not in capsys.readouterr().out


def test_folders_without_pictures_beside_the_parts_do_not_matter_and_are_told(tmp_path, capsys):
    for part in ("train", "test"):
        for name, colour in (("a", "red"), ("b", "blue")):
            for number in range(6):
                paint(tmp_path / part / name / f"{number}.png", colour)
    (tmp_path / "runs" / "2026-11-28_10-00-00-rapido").mkdir(parents=True)
    assert len(load_data(tmp_path).test) == 12
    assert "Outras, sem imagens: runs." in capsys.readouterr().out
    paint(tmp_path / "mais" / "0.png", "red")  # which is no part, and may not be left out
    with pytest.raises(DataError, match="As classes parecem estar em"):
        load_data(tmp_path)


def test_two_folders_for_one_part_are_an_error_and_loose_pictures_beside_the_parts_are_told(tmp_path, capsys):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "val", count=1)
    paint(tmp_path / "solta.png", (0, 0, 0))
    load_data(tmp_path)
    assert "não são de nenhuma classe e ficaram de fora: 1." in capsys.readouterr().out
    class_folders(tmp_path / "valid", count=1)
    with pytest.raises(DataError, match="duas são a mesma parte da divisão"):
        load_data(tmp_path)


def test_a_browsers_unfinished_download_makes_no_place_for_cifar10(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "foto.jpg.part").write_bytes(b"x")
    assert load_data(tmp_path).classes == ("a", "b")


def test_loose_pictures_in_a_test_folder_are_an_error_that_says_so(tmp_path):
    class_folders(tmp_path / "train")
    paint(tmp_path / "test" / "1.png", (0, 0, 0))
    with pytest.raises(DataError, match="test precisa de pelo menos duas pastas.*Imagens soltas, 1"):
        load_data(tmp_path)


def test_a_class_of_the_test_folder_alone_is_an_error(tmp_path):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "test", "abc")
    with pytest.raises(DataError, match="A classe c não tem imagens em .*train"):
        load_data(tmp_path)


def test_a_class_that_cannot_be_read_is_never_left_out_silently(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "FORMATS", [form for form in pictures.FORMATS if form != "HEIF"])
    class_folders(tmp_path)
    for number in range(20):
        heic = tmp_path / "c" / f"{number}.HEIC"
        heic.parent.mkdir(exist_ok=True)
        heic.write_bytes(b"\0\0\0\x18ftypheic" + bytes([number]))
    with pytest.raises(DataError, match=r"A classe c tem 0 imagens legíveis .* é HEIC\. .*pip install pillow-heif"):
        load_data(tmp_path)


def test_classes_are_named_with_their_counts_and_folders_without_pictures_too(tmp_path, capsys):
    class_folders(tmp_path)
    (tmp_path / "notas").mkdir()
    (tmp_path / "notas" / "x.txt").write_text("x")
    paint(tmp_path / "solta.png", (0, 0, 0))
    load_data(tmp_path)
    out = capsys.readouterr().out
    assert "2 classes: a (4), b (4)." in out
    assert "não são classes: 1. notas (.txt (1))" in out
    assert "não são de nenhuma classe e ficaram de fora: 1" in out


def test_accents_in_either_spelling_are_one_class_and_one_split(tmp_path):
    images = []
    for form in ("NFC", "NFD"):
        root = tmp_path / form
        for label, name in enumerate(("maçã", "pêra")):
            for number in range(10):
                spelt = [unicodedata.normalize(form, text) for text in (name, f"fotografía {number}.png")]
                paint(root.joinpath(*spelt), (number, label, 0))
        data = load_data(root)
        assert data.classes == ("maçã", "pêra")
        images.append([part.images for part in parts(data).values()])
    assert all(torch.equal(*pair) for pair in zip(*images, strict=True))


@pytest.mark.parametrize("count", [8, 60])
def test_copies_of_a_picture_are_counted_and_stay_on_one_side(tmp_path, capsys, count):
    class_folders(tmp_path, count=count)
    for name in "ab":
        for number in range(count):
            shutil.copy(tmp_path / name / f"{number}.png", tmp_path / name / f"{number} (1).png")
    data = load_data(tmp_path)
    sides = [{(int(i[0, 0, 0]), int(i[1, 0, 0])) for i in part.images} for part in parts(data).values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 2 * count
    assert f"Cópias exatas de outras imagens: {2 * count}" in capsys.readouterr().out


def test_a_picture_in_two_classes_is_told(tmp_path, capsys):
    class_folders(tmp_path)
    shutil.copy(tmp_path / "a" / "0.png", tmp_path / "b" / "zero.png")
    load_data(tmp_path)
    assert "Em mais de uma classe: 1, como " in capsys.readouterr().out


def test_pictures_beside_cifar10_are_used_only_where_asked_for(tmp_path, cifar10, capsys):
    (tmp_path / "cifar-10.bin").symlink_to(ROOT / "data" / "cifar-10.bin")
    class_folders(tmp_path)
    assert len(load_data(tmp_path).train) == 45_000
    assert "pastas de imagens que não se usam, por ser ali o lugar do CIFAR-10: 2." in capsys.readouterr().out


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
