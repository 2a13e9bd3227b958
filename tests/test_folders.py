"""Folders of one's own pictures: classes, splits, what is left out and said, and what is refused."""

import builtins
import io
import os
import random
import shutil
import tempfile
import time
import unicodedata
import warnings
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from classificador.apps import cli
from classificador.data import folders, pictures, reading, zipped
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
    """How many pictures there are; of few the test is all of them once more."""
    return len({origin.file for split in splits(data).values() for origin in split.origins})


@pytest.fixture
def many(monkeypatch):
    """Let more than ten pictures be enough to hold some out for a test."""
    monkeypatch.setattr(folders, "FEW_PICTURES", 10)


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


def test_the_split_mixes_the_classes_and_pictures_added_later_do_not_move_the_others(tmp_path, many):
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
def test_a_class_of_a_few_pictures_is_in_every_split_with_a_tenth_to_a_fifth(tmp_path, many, count):
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
    data = load_data(root)
    assert size(data) == 33  # that in azul/2024 is one of the class, and a scene of its own
    assert len({origin.group for origin in data.test.origins if "2024" in origin.file}) == 1
    told, _, classes, bad, which, small = capsys.readouterr().out.splitlines()
    again = f"{root / 'verde' / 'volta'}, pasta já lida por outro caminho"
    assert f"imagens soltas (1), pasta notas, sem imagens, {again}, " in told
    assert "pastas (" not in told and ".txt (1)" in told and ".png (1)" in told
    assert classes == "3 classes: azul (9), verde (4), vermelho (20)."
    assert "ficaram de fora (1):" in bad and "texto.png" in which and small.startswith("Imagens de menos de 32 pixels")


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


def test_a_class_that_cannot_be_read_is_never_left_out_silently(tmp_path, many, monkeypatch):
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
def test_copies_of_a_picture_are_counted_and_stay_in_one_split_and_those_in_two_classes_told(
    tmp_path, many, capsys, count
):
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


def photo(path, seed, size=(64, 64)):
    """A picture of its own: noise in large patches."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(path)


def photos(root, names="ab", count=6):
    """So many pictures of each class, all different."""
    for label, name in enumerate(names):
        for number in range(count):
            photo(root / name / f"{number}.png", 100 * label + number)


def test_of_few_pictures_all_are_the_test_and_keep_their_files_names(tmp_path, capsys):
    photos(tmp_path)
    data = load_data(tmp_path)
    assert data.few and len(data.train) + len(data.val) == len(data.test) == 12
    assert {origin.file for origin in data.test.origins} == {str(path) for path in tmp_path.rglob("*.png")}
    for split in splits(data).values():
        assert [data.classes[label] for label in split.labels] == [Path(one.file).parent.name for one in split.origins]
    assert [one.file for one in data.test[3:5].origins] == [one.file for one in data.test.origins[3:5]]
    for place, beside in (("partes/train", "partes/test"), ("tudo", "tudo/teste")):
        photos(tmp_path / place)
        photos(tmp_path / beside, count=2)
        apart = load_data(tmp_path / place.split("/")[0])
        assert apart.few and len(apart.test) == 4 and apart.classes == ("a", "b")
        assert "Quase iguais em mais de uma parte, o que aumenta a acurácia: 4, como " in capsys.readouterr().out


def test_near_copies_stay_on_one_side_and_so_do_the_pictures_of_a_folder(tmp_path, many, capsys):
    for scene in range(12):
        for number in range(5):
            photo(tmp_path / "ab"[scene % 2] / f"{scene}-{number}.png", scene, (64 + 2 * number, 64))
    for number in range(6):
        photo(tmp_path / "a" / "video1" / f"{number}.png", 100 + number)
    data = load_data(tmp_path)
    homes = [{origin.group for origin in split.origins} for split in splits(data).values()]
    assert sum(map(len, homes)) == len(set.union(*homes)) == 13
    assert len(data.train) > len(data.val) + len(data.test)  # groups are drawn as single pictures are
    assert cli.main(["dados", "--dados", str(tmp_path)]) == 0
    assert "contam como uma: são 13 diferentes." in capsys.readouterr().out


def test_a_class_of_one_scene_is_told_and_small_drawings_are_not_compared(tmp_path, capsys):
    for number in range(6):
        photo(tmp_path / "fotos" / "a" / f"{number}.png", 7, (64 + 2 * number, 64))
        photo(tmp_path / "fotos" / "b" / f"{number}.png", number)
        photo(tmp_path / "desenhos" / "ab"[number % 2] / f"{number}.png", 7, (20 + number, 20))
    load_data(tmp_path / "fotos")
    assert "Quase iguais entre si são todas as imagens de a: a acurácia não diz nada" in capsys.readouterr().out
    drawings = load_data(tmp_path / "desenhos")
    assert len({origin.group for origin in drawings.test.origins}) == 6


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        ("gato/fotos cão/fotos", ("cão", "gato")),
        ("banana/video1 banana/video2 uva/video1", ("banana", "uva")),  # numbers tell that the inner ones are parts
        ("a b c/frente", ("a", "b", "c")),
        ("2023/banana 2023/uva 2024/banana", None),
        ("train2/0 train2/1 eval/0 eval/1", None),
        ("animais/gato animais/sapo plantas/rosa", None),
    ],
)
def test_folders_within_those_of_classes(tmp_path, folders, classes):
    for seed, folder in enumerate(folders.split()):
        photos(tmp_path / folder, [""], 4 + seed)
    if classes:
        assert load_data(tmp_path).classes == classes
    else:
        with pytest.raises(DataError, match="As classes parecem estar em"):
            load_data(tmp_path)


def test_classes_come_in_the_order_of_their_numbers_and_odd_ones_are_told(tmp_path, capsys):
    photos(tmp_path / "dez", [str(number) for number in range(1, 12)], 3)
    assert load_data(tmp_path / "dez").classes == tuple(str(number) for number in range(1, 12))
    photos(tmp_path / "nomes", ["Banana", "banana", "gato", "gato "], 3)
    load_data(tmp_path / "nomes")
    said = capsys.readouterr().out
    assert 'Nomes quase iguais que contam como classes diferentes: "Banana", "banana".' in said
    assert '"gato", "gato ". Se é uma só, junte as pastas.' in said and "desiguais" not in said
    photos(tmp_path / "partes", ["uva"], 3)
    photos(tmp_path / "partes", ["banana"], 30)
    load_data(tmp_path / "partes")
    assert 'Classes muito desiguais: "uva" tem 3 imagens, e "banana", 30.' in capsys.readouterr().out


def zip_of(root, path, prefix="", extra=(), kind=zipfile.ZIP_STORED):
    """A ZIP of a folder, and other members."""
    with zipfile.ZipFile(path, "w", kind) as archive:
        for file in sorted(root.rglob("*.*")):
            archive.write(file, prefix + str(file.relative_to(root)))
        for name in extra:
            archive.writestr(name, (root / "a" / "0.png").read_bytes())
    return path


def test_a_zip_is_read_as_the_folder_in_it(tmp_path):
    photos(tmp_path / "fotos")
    hidden = ["__MACOSX/frutas/a/._0.png", "frutas/a/.0.png", "frutas/leia.txt"]
    packed = load_data(zip_of(tmp_path / "fotos", tmp_path / "frutas.zip", "frutas/", hidden))
    plain = load_data(tmp_path / "fotos")
    assert packed.classes == ("a", "b") and torch.equal(packed.test.images, plain.test.images)
    assert str(tmp_path / "frutas.zip" / "a" / "0.png") in {origin.file for origin in packed.test.origins}
    assert not list(Path(tempfile.gettempdir()).glob("*/frutas.zip"))


def test_a_hostile_or_damaged_zip_writes_nothing_elsewhere(tmp_path, monkeypatch):
    photos(tmp_path / "fotos")
    hostile = ["../../../fora.png", "/raiz.png", "a\\..\\..\\..\\..\\fora2.png", "C:fora3.png"]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "aqui" / "bem" / "fundo"))
    (tmp_path / "aqui" / "bem" / "fundo").mkdir(parents=True)
    everything, outside = load_data(zip_of(tmp_path / "fotos", tmp_path / "x.zip", extra=hostile)), tmp_path / "aqui"
    assert len(everything.test) == 13  # that in a, which was to lie elsewhere, is one of a's
    assert [path.name for path in outside.rglob("*")] == ["bem", "fundo"] and not os.path.exists("/raiz.png")
    assert not list(tmp_path.glob("fora*"))
    monkeypatch.setattr(zipped, "MOST_BYTES", 1000)
    with pytest.raises(DataError, match="x.zip é grande demais .* Descompacte-o, e dê a pasta"):
        load_data(tmp_path / "x.zip")
    monkeypatch.undo()
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        whole = zip_of(tmp_path / "fotos", tmp_path / "y.zip", kind=kind).read_bytes()
        (tmp_path / "meio.zip").write_bytes(whole[:60] + bytes(60) + whole[120:])
        with pytest.raises(DataError, match="meio.zip não pôde ser descompactado"):
            load_data(tmp_path / "meio.zip")


def test_names_in_a_zip_are_read_as_their_archiver_meant_them(tmp_path, monkeypatch):
    photos(tmp_path / "fotos", ["maca"])
    for encoding in ("utf-8", "cp850"):
        names = [
            f"{name}/{number}.png".encode(encoding).decode("cp437") for name in ("maçã", "pêra") for number in "012"
        ]
        monkeypatch.setattr(zipfile.ZipInfo, "_encodeFilenameFlags", lambda self: (self.filename.encode("cp437"), 0))
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for number, name in enumerate(names):
                archive.writestr(name, (tmp_path / "fotos" / "maca" / f"{number}.png").read_bytes())
        assert load_data(tmp_path / "x.zip").classes == ("maçã", "pêra")


def test_two_names_that_are_one_file_are_both_read(tmp_path):
    photos(tmp_path / "fotos")
    packed = load_data(zip_of(tmp_path / "fotos", tmp_path / "x.zip", extra=["a/x:1.png", "a/x_1.png"]))
    assert len(packed.test) == 14


def test_photos_in_the_place_of_cifar10_are_refused_and_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLASSIFICADOR_DADOS", raising=False)
    monkeypatch.setattr("classificador.data.download.fetch", lambda root: pytest.fail("fetched"))
    photos(tmp_path / "data", ["banana", "uva"])
    with pytest.raises(DataError, match=r"há imagens suas \(banana, uva\), e não ele\. Ponha-as em outra pasta"):
        load_data("data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["banana", "uva"]
    shutil.rmtree(tmp_path / "data")
    photos(tmp_path / "data" / "frutas", ["banana", "uva"])
    with pytest.raises(DataError, match=r'Dê o caminho delas: DATA_DIR = "data/frutas"'):
        load_data("data")
    assert load_data("data/frutas").classes == ("banana", "uva")


def test_large_pictures_are_decoded_a_few_at_a_time():
    budget, inside, most, content = reading.Budget(reading.PIXELS_AT_ONCE), [0], [0], io.BytesIO()
    Image.new("RGB", (8000, 4000)).save(content, "PNG")

    def work(_):
        with budget.of(pictures.count_pixels(content.getvalue())):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.05)
            inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(12)))
    assert most[0] == reading.PIXELS_AT_ONCE // 32_000_000 == 3
    assert pictures.count_pixels(b"no picture") == budget.taken == 0
    with budget.of(reading.PIXELS_AT_ONCE + 1):  # alone it may be larger
        assert budget.taken > reading.PIXELS_AT_ONCE


@pytest.mark.parametrize(("name", "said"), [("x.onnx", "aqui vão pesos do PyTorch"), ("falta/x.pth", "não existe")])
def test_a_place_for_the_model_that_cannot_be_is_told_before_the_pictures_are_read(tmp_path, capsys, name, said):
    photos(tmp_path / "fotos")
    assert cli.main(["treinar", "--dados", str(tmp_path / "fotos"), "--modelo", str(tmp_path / name)]) == 1
    output = capsys.readouterr()
    assert said in output.err and "classes" not in output.out
