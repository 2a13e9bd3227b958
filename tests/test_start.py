"""A training that begins with the weights of a network that has learnt other classes."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from classificador.apps import cli
from classificador.constants import CLASSES
from classificador.data import folders
from classificador.data.dataset import ImageData, Split
from classificador.errors import CheckpointError
from classificador.files.model_file import copy_weights, load_model, read_checkpoint, save_checkpoint
from classificador.network.build import build, make_network
from classificador.network.cnn import CNN, unwrap
from classificador.network.model_info import describe_checkpoint
from classificador.recipes import make_settings
from classificador.results.metrics import evaluate
from classificador.training.fit import train
from classificador.training.start import find_start
from conftest import INFO, ROOT, stopped_when_written

OWN = tuple("abcdefghij")  # as many classes as CIFAR-10 has, so that the last layer would fit
SIZES = {"channels": (6, 10), "hidden": 12}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a best_model.pth of CIFAR-10's classes, and one with pictures of two colours."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)  # other weights than build() begins with, whichever test came before
    save_checkpoint("best_model.pth", make_network(CNN, **SIZES), INFO | {"epoch": 3})
    for name, colour in (("azul", (0, 0, 200)), ("verde", (0, 200, 0))):
        (tmp_path / "cores" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (40, 60), colour).save(tmp_path / "cores" / name / f"{number}.png")
    return tmp_path


def test_all_but_the_last_layer_comes_from_it_and_the_convolutions_stay(workplace, toy, small, capsys):
    start, data = find_start("auto", OWN), replace(toy, classes=OWN)
    model = build(small, data, pretrained=start)
    old, new = copy_weights(unwrap(start)), copy_weights(unwrap(model))
    assert {name for name in new if not torch.equal(old[name], new[name])} == {"fc2.weight", "fc2.bias"}
    for already in ("", "Esta rede já treinou 5,0 épocas"):  # of weights that are copied it is no surprise
        train(small, data, workplace / "own.pth", model)
        said = capsys.readouterr().out
        assert already in said and ("Esta rede já" in said) == bool(already)
        trained = unwrap(model).state_dict()
        same = {name for name, _ in unwrap(model).named_parameters() if torch.equal(new[name], trained[name])}
        assert same == {"conv1.weight", "conv2.weight", "norm2.weight", "norm2.bias"}
    info = read_checkpoint(workplace / "own.pth").info
    assert info.settings["start_from"] == info.start == "best_model.pth (rapido, 2026-01-01)"


def test_where_the_side_differs_only_the_convolutions_come_from_it(workplace, toy, small):
    larger = replace(toy.train, images=toy.train.images.repeat_interleave(2, 2).repeat_interleave(2, 3))
    start = find_start("best_model.pth", CLASSES)
    model = unwrap(build(small, replace(toy, train=larger), pretrained=start))
    assert model.conv2.weight.shape[:2] == (10, 6) and torch.equal(model.conv2.weight, unwrap(start).conv2.weight)
    assert model.fc1.weight.shape == (12, 2 * 10 * 7 * 7)
    assert model(larger.images[:2]).shape == (2, 10)


def test_weights_of_the_second_convolution_alone_do_not_freeze_it(workplace, toy, small):
    """conv2 would have to take the answers of a conv1 that it does not know."""

    class Edited(CNN):
        def __init__(self, **sizes):
            super().__init__(**sizes | {"kernels": (7, 3)})

    model = build(small, replace(toy, classes=OWN), Edited, find_start("auto", OWN))
    assert unwrap(model).conv2.weight.requires_grad and unwrap(model).norm2.weight.requires_grad


def test_new_weights_unless_classes_are_ones_own_or_a_file_is_named(workplace, capsys):
    assert find_start("auto", CLASSES) is None
    assert find_start("zero", OWN) is None
    assert capsys.readouterr().out == ""
    for given, classes in (("auto", OWN), ("best_model.pth", CLASSES)):
        assert find_start(given, classes).info.epoch == 3
        assert "Os pesos partem de best_model.pth: rapido, 10 classes, 50,0% na validação" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match=r"outro\.pth"):
        find_start("outro.pth", OWN)
    assert find_start("Zero", OWN) is None and find_start("AUTO", OWN).info.epoch == 3
    assert find_start(workplace / "best_model.pth", OWN).info.epoch == 3


def test_the_model_of_ones_own_classes_that_took_its_place_is_not_taken_for_it(workplace, capsys):
    (workplace / "runs" / "x-anterior").mkdir(parents=True)
    (workplace / "best_model.pth").rename(workplace / "runs" / "x-anterior" / "best_model.pth")
    save_checkpoint("best_model.pth", make_network(CNN, **SIZES), INFO | {"classes": list(OWN)})
    assert find_start("auto", OWN).info.classes == CLASSES
    assert "runs/x-anterior/best_model.pth" in capsys.readouterr().out.replace("\\", "/")
    edited = make_network(CNN, **SIZES)
    unwrap(edited).third = torch.nn.Linear(3, 3)  # as of a class that was edited, which this one cannot be built from
    save_checkpoint("best_model.pth", edited, INFO)
    assert find_start("auto", OWN).info.epoch == 3
    (workplace / "runs" / "x-anterior" / "best_model.pth").write_bytes(b"damaged")
    assert find_start("auto", OWN) is None
    assert "os pesos começam ao acaso" in capsys.readouterr().out


@pytest.mark.slow
def test_the_file_and_the_card_say_where_the_weights_come_from(workplace):
    own = ["--dados", "cores", "--modelo", "cores.pth"]
    assert cli.main(["treinar", *own, "--epocas", "1", "--partir-de", "best_model.pth"]) == 0
    info = read_checkpoint("cores.pth").info
    assert (info.start, info.earlier_epochs) == ("best_model.pth (rapido, 2026-01-01)", 3)
    assert (info.architecture["channels"], info.settings["hidden"]) == ([6, 10], 12 + 2 * 2)
    assert "Partiu de:   best_model.pth (rapido, 2026-01-01), 3,0 épocas" in describe_checkpoint(info)
    assert cli.main(["ficha", *own]) == 0
    assert "Partiu dos pesos de best_model.pth (rapido, 2026-01-01)." in (workplace / "ficha.md").read_text("utf-8")
    card = (ROOT / "docs" / "ficha.md").read_text("utf-8")
    assert "Partiu dos pesos de best_model.pth (destilado, 2026-11-27; benchmarks.refit: 117 × 128)." in card
    assert cli.main(["treinar", *own, "--epocas", "1", "--partir-de", "zero"]) == 0
    info = read_checkpoint("cores.pth").info
    assert (info.start, info.settings["start_from"]) == ("", "zero")


@pytest.mark.slow
def test_from_the_shipped_model_twenty_pictures_of_a_class_are_enough(cifar10, tmp_path):
    def few(split, start, stop):
        """Some of the pictures, upside down, of each of three classes."""
        rows = torch.cat([(split.labels == label).nonzero()[start:stop, 0] for label in (1, 4, 8)])
        return Split(split.images[rows].flip(2), split.labels[rows].div(4, rounding_mode="floor"))

    test = cifar10.test  # which the shipped model has not learnt
    data = ImageData(few(test, 0, 20), few(test, 20, 40), few(test, 40, 100), ("carro", "cervo", "navio"))
    accuracies = []
    for start in ("zero", str(ROOT / "best_model.pth")):
        train(make_settings(epochs=2, start_from=start, device="cpu"), data, tmp_path / "best.pth")
        accuracies.append(evaluate(load_model(tmp_path / "best.pth"), data.test, data.classes).accuracy)
    assert accuracies[1] > max(0.7, accuracies[0] + 0.15)


def test_interrupted_it_goes_on_also_where_it_has_taken_the_place_of_its_start(workplace, monkeypatch):
    monkeypatch.setattr(folders, "FEW_PICTURES", 10)
    command = ["treinar", "--dados", "cores", "--epocas", "2", "--lote", "64"]
    assert cli.main([*command, "--modelo", "uninterrupted.pth"]) == 0
    whole = load_model("uninterrupted.pth").state_dict()
    with stopped_when_written("best_model.retomar.pth"):
        assert cli.main(command) == 130
    assert read_checkpoint("best_model.pth").info.classes == ("azul", "verde")
    assert cli.main([*command, "--retomar"]) == 0
    again = load_model("best_model.pth").state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())
