"""Files of weights alone, as torch.save(net.state_dict()) writes them: the original network's, and our own."""

import json

import pytest
import torch
from PIL import Image
from torch import nn

from classificador.apps import cli
from classificador.apps.model_card import write_cards
from classificador.constants import CLASSES
from classificador.data.dataset import Split
from classificador.errors import CheckpointError
from classificador.files.model_file import load_model
from classificador.network.cnn import CNN, OriginalCNN, make_network
from classificador.network.model_info import describe_checkpoint
from classificador.results.metrics import evaluate
from classificador.results.predict import predict
from classificador.training.start import find_start

IMAGES = torch.arange(4 * 3 * 32 * 32).reshape(4, 3, 32, 32).remainder(251).to(torch.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pesos.pth"


def small(**sizes) -> nn.Module:
    return make_network(CNN, **{"channels": (4, 8), "hidden": 16} | sizes).eval()


def test_the_original_networks_weights_open_and_answer_as_it_does(path, capsys):
    network = OriginalCNN().eval()
    torch.save(network.state_dict(), path)
    loaded = load_model(path)
    with torch.no_grad():
        expected = network((IMAGES / 255 - 0.5) / 0.5).softmax(1)
    assert torch.allclose(predict(loaded, IMAGES), expected, atol=1e-6)
    assert loaded.info.classes == CLASSES
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "só pesos, da rede original. Suponho imagens de 32 pixels, normalizadas com média 0,5" in said
    assert "classes as do CIFAR-10, na ordem dele; probabilidades sem calibração" in said


@pytest.mark.parametrize(
    ("symmetric", "sizes"),
    [
        (False, {"classes": 3, "side": 64}),
        (True, {"channels": (6, 10), "hidden": 12, "kernels": (3, 5)}),
        (True, {"side": 96}),
        (False, {"side": 48, "pools": (2, 4)}),
    ],
)
def test_our_own_weights_open_with_sizes_read_off_their_shapes(path, sizes, symmetric, capsys):
    network = small(symmetric=symmetric, **sizes)
    torch.save(network.state_dict(), path)
    loaded = load_model(path)
    side = sizes.get("side", 32)
    images = torch.randint(256, (3, 3, side, side), dtype=torch.uint8)
    assert torch.equal(loaded(images), network(images))
    assert loaded.info.side == side
    assert len(loaded.info.classes) == sizes.get("classes", 10)
    assert ("sem nome" in (said := capsys.readouterr().out)) == ("classes" in sizes)
    poolings = "poolings de {} e {}".format(*sizes.get("pools", (3, 3)))
    assert f"{poolings}, contraste depois do primeiro, {'com' if symmetric else 'sem'} a média do espelho" in said


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"state_dict": weights},
        lambda weights: {"epoch": 3, "optimizer_state_dict": {"state": {}}, "model_state_dict": weights},
        lambda weights: {f"module.{name}": value for name, value in weights.items()},
        lambda weights: {f"model.{name}": value for name, value in weights.items()} | {"n_averaged": torch.tensor(3)},
        lambda weights: {name: nn.Parameter(value, value.is_floating_point()) for name, value in weights.items()},
        lambda weights: {
            name: value.to(memory_format=torch.channels_last) if value.ndim == 4 else value
            for name, value in weights.items()
        },
        lambda weights: {name: value.half() if value.is_floating_point() else value for name, value in weights.items()},
    ],
    ids=["state_dict", "tutorial", "DataParallel", "Lightning", "parameters", "channels last", "half precision"],
)
def test_weights_are_found_however_they_are_packed(path, wrap):
    network = small()
    torch.save(wrap(network.state_dict()), path)
    assert torch.allclose(load_model(path).fc1.weight, network.fc1.weight, atol=1e-3)


def test_what_weights_alone_do_not_say_is_not_made_up(path, toy):
    torch.save(small().state_dict(), path)
    model = load_model(path)
    info = model.info
    assert info.provenance == {}
    text = describe_checkpoint(info)
    assert "não se sabe" in text
    assert "Validação" not in text
    with pytest.raises(CheckpointError, match="não conta como foi treinado"):
        write_cards(model, path, toy, path.parent)


def test_the_command_line_takes_them(path, tmp_path, capsys):
    torch.save(small().state_dict(), path)
    Image.effect_noise((40, 40), 90).save(tmp_path / "foto.png")
    assert cli.main(["prever", str(tmp_path / "foto.png"), "--modelo", str(path), "--json"]) == 0
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)[str(tmp_path / "foto.png")]) == set(CLASSES)
    assert "Suponho" in printed.err
    assert cli.main(["diagnostico", "--modelo", str(path), "--json"]) in (0, 1)
    assert "só pesos" in json.loads(capsys.readouterr().out)["modelo"]["value"]


@pytest.mark.parametrize(
    "weights",
    [
        nn.Linear(2, 2).state_dict(),
        nn.ModuleDict({"conv1": nn.Conv2d(3, 4, 3)}).state_dict(),
        small(pools=(4, 4)).state_dict(),
        OriginalCNN().state_dict() | {"bn.weight": torch.ones(3)},
        OriginalCNN().state_dict() | {"fc2.bias": torch.zeros(9)},
        OriginalCNN().state_dict() | {"fc2.bias": 3},
        {name: weight for name, weight in OriginalCNN().state_dict().items() if name != "fc1.weight"},
        {"format": 1, "weights": torch.zeros(3)},
        *[
            small().state_dict() | {"conv1.weight": torch.zeros(shape)}
            for shape in ((20_000, 3, 3, 3), (4, 3), (0, 3, 5, 5))
        ],
    ],
)
def test_weights_of_another_network_are_refused_in_one_line_that_says_so(path, weights):
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match="não foi gravado por este projeto|de outra rede, que não é") as caught:
        load_model(path)
    assert str(caught.value).isprintable()
    assert "caderno" not in str(caught.value)


def test_a_network_attribute_of_this_name_does_not_make_the_original_network_symmetric(path):
    torch.save({f"network.{name}": weight for name, weight in OriginalCNN().state_dict().items()}, path)
    assert not load_model(path).info.architecture.get("symmetric")


def test_in_an_evaluation_the_classes_are_those_of_the_data(path, toy, capsys):
    torch.save(small(classes=3).state_dict(), path)
    model, three = load_model(path), Split(toy.test.images[:9], torch.arange(9) % 3)
    assert evaluate(model, three, ("a", "b", "c")).classes == ("a", "b", "c") == model.info.classes
    assert "As classes são as destes dados" in capsys.readouterr().out
    assert evaluate(model, three, ("c", "a", "b")).classes == ("a", "b", "c")  # known by now: only their order differs
    with pytest.raises(CheckpointError, match="não conhece a classe x"):
        evaluate(model, three, ("x", "y"))


def test_a_whole_pickled_network_is_refused_with_the_line_that_saves_it_right(path):
    network = OriginalCNN()
    torch.save(network, path)
    with pytest.raises(CheckpointError, match="executaria código") as caught:
        load_model(path)
    (line,) = (part for part in str(caught.value).split("`") if part.startswith("torch.save"))
    right = path.with_name("certo.pth")
    exec(line.replace('"pesos.pth"', "right"), {"torch": torch, "rede": network, "right": right})
    assert torch.equal(load_model(right).fc1.weight, network.fc1.weight)


def test_a_training_starts_from_our_weights_and_not_from_the_original_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(small().state_dict(), "best_model.pth")
    for start in ("best_model.pth", "auto"):
        assert find_start(start, ("a", "b")).info.start == "best_model.pth (só pesos)"
    assert "validação" not in capsys.readouterr().out
    torch.save(OriginalCNN().state_dict(), "best_model.pth")
    assert find_start("auto", ("a", "b")) is None
    with pytest.raises(CheckpointError, match="não pode partir"):
        find_start("best_model.pth", ("a", "b"))
