import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image

from classificador.data.pictures import to_tensor
from classificador.network.cnn import CNN, make_network
from classificador.results.predict import predict, predict_image
from conftest import ROOT, info_for


@pytest.fixture
def model() -> CNN:
    torch.manual_seed(0)
    model = make_network(CNN, channels=(4, 8), hidden=16)
    model.info = info_for(model, classes=[f"classe {i}" for i in range(10)])
    return model


def test_rows_are_probabilities_of_the_model_in_eval_mode(model):
    images = torch.randint(256, (520, 3, 32, 32), dtype=torch.uint8)  # more than one batch
    probabilities = predict(model.train(), images)
    assert model.training
    assert torch.allclose(probabilities.sum(1), torch.ones(520))
    with torch.no_grad():
        assert torch.allclose(probabilities, model.eval()(images).softmax(1), atol=1e-6)


def test_the_temperature_changes_the_probabilities_and_no_prediction(model):
    images = torch.randint(256, (300, 3, 32, 32), dtype=torch.uint8)
    plain = predict(model, images)
    model.info = replace(model.info, temperature=0.5)
    calibrated = predict(model, images)
    assert torch.equal(plain.argmax(1), calibrated.argmax(1))
    assert torch.allclose(calibrated, torch.softmax(plain.log() / 0.5, 1), atol=1e-6)
    assert (calibrated.max(1).values > plain.max(1).values).all()


def test_no_images_give_no_rows(model):
    assert predict(model, torch.zeros(0, 3, 32, 32, dtype=torch.uint8)).shape == (0, 10)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(4, 32, 32, 3, dtype=torch.uint8), "N×3×32×32, uint8 ou float"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), "N×3×32×32, uint8 ou float"),
        (torch.zeros(1, 3, 28, 28, dtype=torch.uint8), r"N×3×32×32, .*; vieram \(1, 3, 28, 28\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.int64), "uint8 ou float.*int64"),
        (torch.full((1, 3, 32, 32), 255.0), "divida por 255"),
        (torch.full((1, 3, 32, 32), float("nan")), "divida por 255"),
        (torch.zeros(1, 3, 32, 32).numpy(), "torch.from_numpy"),
    ],
)
def test_images_of_another_kind_are_refused(model, images, said):
    with pytest.raises(ValueError, match=said):
        predict(model, images)


def test_numpys_own_kind_of_float_will_do(model):
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    assert torch.allclose(predict(model, images), predict(model, images.float()))


def test_a_picture_is_framed_as_those_that_were_learnt(model):
    picture = Image.linear_gradient("L").resize((200, 60)).convert("RGB")
    for framing in ("centro", "inteira"):
        model.info = replace(model.info, framing=framing)
        expected = predict(model, to_tensor(picture, 32, framing)[None])[0]
        found = predict_image(model, picture)
        assert [found[name] for name in model.info.classes] == expected.tolist()


def test_a_picture_gives_its_classes_most_probable_first(model, tmp_path):
    Image.new("RGB", (200, 100), "navy").save(tmp_path / "mar.png")
    result = predict_image(model, tmp_path / "mar.png")
    assert list(result.values()) == sorted(result.values(), reverse=True)
    assert sum(result.values()) == pytest.approx(1, abs=1e-5)
    assert set(result) == set(model.info.classes)


ANSWER = """
import sys
import torch, PIL.Image
before = set(sys.modules)
import classificador.data.dataset
from classificador import load_model, predict_image
predict_image(load_model(sys.argv[1]), PIL.Image.new("RGB", (50, 40)))
print(*(set(sys.modules) - before) & {"sklearn", "scipy", "matplotlib", "torchvision", "psutil", "ssl"})
"""


@pytest.mark.slow
def test_an_answer_loads_nothing_that_only_training_or_evaluating_needs():
    command = [sys.executable, "-c", ANSWER, ROOT / "best_model.pth"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []
