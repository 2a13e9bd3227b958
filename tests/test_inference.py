import pytest
import torch

from classificador.inference import predict, predict_image
from classificador.model import CNN


@pytest.fixture
def model() -> CNN:
    torch.manual_seed(0)
    model = CNN(channels=(4, 8), hidden=16, dropout=0.5)
    model.info = {"classes": [f"classe {i}" for i in range(10)], "architecture": model.architecture}
    return model


def test_rows_are_probabilities_of_the_model_in_eval_mode(model):
    images = torch.randint(256, (520, 3, 32, 32), dtype=torch.uint8)  # more than one batch
    probabilities = predict(model.train(), images)
    assert model.training
    assert torch.allclose(probabilities.sum(1), torch.ones(520))
    with torch.no_grad():
        assert torch.allclose(probabilities, model.eval()(images).softmax(1), atol=1e-6)


def test_with_tta_an_image_and_its_mirror_are_the_same(model):
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    assert torch.allclose(predict(model, images, tta=True), predict(model, images.flip(-1), tta=True), atol=1e-6)
    assert not torch.allclose(predict(model, images), predict(model, images.flip(-1)), atol=1e-6)


def test_tta_is_the_mean_of_the_logits_over_the_image_its_mirror_and_both_moved_down(model):
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    moved = images.clone()
    moved[:, :, 1:] = images[:, :, :31]
    seen = [images, images.flip(3), moved, moved.flip(3)]
    mean = torch.stack([predict(model, view).log() for view in seen]).mean(0).softmax(1)
    assert torch.allclose(predict(model, images, tta=True), mean, atol=1e-6)


def test_the_temperature_changes_the_probabilities_and_no_prediction(model):
    images = torch.randint(256, (300, 3, 32, 32), dtype=torch.uint8)
    plain = predict(model, images)
    model.info["temperature"] = 0.5
    calibrated = predict(model, images)
    assert torch.equal(plain.argmax(1), calibrated.argmax(1))
    assert torch.allclose(calibrated, torch.softmax(plain.log() / 0.5, 1), atol=1e-6)
    assert (calibrated.max(1).values > plain.max(1).values).all()


@pytest.mark.parametrize("mirror", [False, True])
def test_a_network_without_mirroring_or_with_it_built_in_gets_no_mirrored_views(mirror):
    images, seen = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8), []
    moved = torch.cat([images[:, :, :1], images[:, :, :-1]], 2)
    model = CNN(mirror=mirror)
    model.info = {"settings": {"flip": mirror}}
    model.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0]))
    predict(model, images, tta=True)
    assert torch.equal(torch.cat(seen), torch.cat([images, moved]))


def test_no_images_give_no_rows(model):
    assert predict(model, torch.zeros(0, 3, 32, 32, dtype=torch.uint8)).shape == (0, 10)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(4, 32, 32, 3, dtype=torch.uint8),
        torch.zeros(3, 32, 32, dtype=torch.uint8),
        torch.zeros(1, 3, 32, 32, dtype=torch.int64),
        torch.full((1, 3, 32, 32), 255.0),
        torch.full((1, 3, 32, 32), float("nan")),
    ],
)
def test_images_of_another_kind_are_refused(model, images):
    with pytest.raises(ValueError, match="N×3×S×S|0, 1"):
        predict(model, images)


def test_an_array_is_told_how_to_become_a_tensor(model):
    with pytest.raises(ValueError, match="torch.from_numpy"):
        predict(model, torch.zeros(1, 3, 32, 32).numpy())


def test_numpys_own_kind_of_float_will_do(model):
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    assert torch.allclose(predict(model, images), predict(model, images.float()))


def test_images_of_another_side_are_refused(model):
    with pytest.raises(ValueError, match="imagens de 32×32"):
        predict(model, torch.zeros(1, 3, 28, 28, dtype=torch.uint8))


def test_a_picture_gives_its_classes_most_probable_first(model, tmp_path):
    from PIL import Image

    Image.new("RGB", (200, 100), "navy").save(tmp_path / "mar.png")
    result = predict_image(model, tmp_path / "mar.png")
    assert list(result.values()) == sorted(result.values(), reverse=True)
    assert sum(result.values()) == pytest.approx(1, abs=1e-5)
    assert set(result) == set(model.info["classes"])
