import pytest
import torch
from torch import nn

from classificador import summary
from classificador.model import CNN
from classificador.settings import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_two_convolutions_and_two_linear_layers_hold_all_mixing_weights(preset):
    model = CNN(**PRESETS[preset].architecture)
    layers = list(model.modules())
    assert sum(isinstance(layer, nn.Conv2d) for layer in layers) == 2
    assert sum(isinstance(layer, nn.Linear) for layer in layers) == 2
    # Whatever else learns weights may only scale and shift single channels: batch normalisation, one-dimensional.
    others = [layer for layer in layers if not isinstance(layer, nn.Conv2d | nn.Linear)]
    assert all(p.ndim == 1 for layer in others for p in layer.parameters(recurse=False))


@pytest.mark.parametrize("preset", PRESETS)
def test_logits_have_one_column_a_class(preset):
    model = CNN(**PRESETS[preset].architecture, classes=7).eval()
    assert model(torch.zeros(3, 3, 32, 32)).shape == (3, 7)


def test_bytes_and_unit_floats_give_the_same_logits():
    model = CNN().eval()
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(model(images), model(images.float() / 255))


def test_normalisation_is_mean_half_standard_deviation_half():
    model, seen = CNN(), []
    model.conv1.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    model.eval()(torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2).expand(1, 3, 32, 2).repeat(1, 1, 1, 16))
    assert seen[0].min() == -1
    assert seen[0].max() == 1


def test_with_contrast_a_fainter_picture_looks_almost_the_same_to_the_second_convolution():
    image, seen = torch.rand(1, 3, 32, 32), {}
    for contrast in (False, True):
        torch.manual_seed(0)
        model, inputs = CNN(contrast=contrast).eval(), []
        nn.init.normal_(model.conv1.weight)
        model.conv2.register_forward_pre_hook(lambda layer, found, inputs=inputs: inputs.append(found[0]))
        model(image)
        model((image - 0.5) * 0.5 + 0.5)
        seen[contrast] = (inputs[1].norm() / inputs[0].norm()).item()
    assert seen[False] == pytest.approx(0.5)
    assert 0.97 < seen[True] < 1


def test_with_means_a_region_counts_by_its_mean_too():
    model, seen = CNN(means=True, channels=(4, 8)).eval(), []
    model.conv2.register_forward_hook(lambda layer, inputs, out: seen.append(out))
    model.norm2.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    model(torch.rand(2, 3, 32, 32))
    regions = seen[0].unflatten(3, (4, 4)).unflatten(2, (4, 4))
    torch.testing.assert_close(seen[1], torch.cat([regions.amax((3, 5)), regions.mean((3, 5))], 1))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_with_mirror_an_image_and_its_mirror_image_get_the_same_answer(count):
    torch.manual_seed(0)
    images, mirrored_alike = torch.rand(count, 3, 32, 32), []
    for mirror in (False, True):
        model = CNN(mirror=mirror).eval()
        assert model(images).shape == (count, 10)
        mirrored_alike.append(torch.allclose(model(images), model(images.flip(3)), atol=1e-6))
    assert mirrored_alike == [count == 0, True]


def test_the_original_network_is_the_seeds():
    model = CNN(**PRESETS["original"].architecture)
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim > 1]
    assert shapes == [(32, 3, 3, 3), (64, 32, 3, 3), (512, 4096), (10, 512)]


def test_the_layer_table_counts_every_parameter():
    model = CNN()
    table = summary.layer_table(model)
    total = sum(p.numel() for p in model.parameters())
    assert f"{total:,}".replace(",", ".") in table.splitlines()[-1]
    assert "128×16×16" in table
    assert "fixos" not in table
    assert model.training
