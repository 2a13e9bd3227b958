"""The network, and the whitening filters that its first layer begins with."""

import inspect
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from classificador.files.model_file import copy_weights
from classificador.network.build import build, whiten
from classificador.network.cnn import CNN, OriginalCNN, Symmetric, contrast, max_and_mean, unwrap
from classificador.recipes import PRESETS, SIZES, make_settings
from classificador.show.summary import layer_table
from classificador.training.fit import train


@pytest.mark.parametrize("preset", PRESETS)
def test_two_convolutions_and_two_linear_layers_hold_all_mixing_weights(preset, toy):
    model = build(PRESETS[preset], replace(toy, classes=tuple("abcdefg"))).eval()
    assert model(torch.zeros(3, 3, 32, 32)).shape == (3, 7)
    layers = list(model.modules())
    assert sum(isinstance(layer, nn.Conv2d) for layer in layers) == 2
    assert sum(isinstance(layer, nn.Linear) for layer in layers) == 2
    # Whatever else learns weights may only scale and shift single channels: batch normalisation, one-dimensional.
    others = [layer for layer in layers if not isinstance(layer, nn.Conv2d | nn.Linear)]
    assert all(p.ndim == 1 for layer in others for p in layer.parameters(recurse=False))


def test_the_class_has_sizes_for_its_only_arguments_and_those_of_rapido_by_default():
    defaults = {name: p.default for name, p in inspect.signature(CNN).parameters.items()}
    assert defaults == {name: getattr(PRESETS["rapido"], name) for name in SIZES} | {"classes": 10, "side": 32}
    assert len(inspect.getsource(CNN).splitlines()) <= 24


def test_bytes_and_unit_floats_are_normalised_alike_from_minus_one_to_one():
    model, seen = CNN().eval(), []
    model.conv1.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(model(images), model(images.float() / 255))
    assert (seen[0].min(), seen[0].max()) == (-1, 1)


def test_contrast_divides_by_the_root_mean_square_of_the_point_so_that_fainter_is_almost_the_same():
    x = torch.randn(2, 6, 4, 5)
    torch.testing.assert_close(contrast(x), x / (x.square().mean(1, keepdim=True) + 0.1).sqrt())
    strong, faint = contrast(10 * x), contrast(5 * x)
    assert 0.95 < (faint.norm() / strong.norm()).item() < 1


def test_contrast_of_bfloat16_is_rounded_at_most_thrice():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 64, 64).bfloat16()
    exact, rounded = contrast(x.float()), contrast(x)
    assert rounded.dtype == torch.bfloat16
    assert ((rounded.float() - exact) / exact).abs().max() < 2.8 / 256  # a rounding is off by up to 1/256


def test_contrast_of_nothing_is_nothing_and_can_be_learnt_through():
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)
    contrast(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_region_counts_by_its_maximum_and_by_its_mean():
    x = torch.randn(2, 3, 8, 8)
    regions = x.unflatten(3, (2, 4)).unflatten(2, (2, 4))
    torch.testing.assert_close(max_and_mean(x, 4), torch.cat([regions.amax((3, 5)), regions.mean((3, 5))], 1))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_symmetric_answers_an_image_and_its_mirror_image_alike(count):
    torch.manual_seed(0)
    network = CNN(channels=(4, 8), hidden=16).eval()
    model, images = Symmetric(network).eval(), torch.rand(count, 3, 32, 32)
    assert model(images).shape == (count, 10)
    torch.testing.assert_close(model(images), model(images.flip(3)))
    torch.testing.assert_close(model(images), (network(images) + network(images.flip(3))) / 2)
    assert count == 0 or not torch.allclose(network(images), network(images.flip(3)), atol=1e-6)


def test_in_training_symmetric_passes_the_images_on_as_they_are():
    network, images = CNN(channels=(4, 8), hidden=16), torch.rand(4, 3, 32, 32)
    model = Symmetric(network).train()
    seen = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(images)
    assert torch.equal(seen[0], images)


def test_build_makes_it_symmetric_unless_a_mirror_changes_the_meaning(toy):
    assert isinstance(build(make_settings(), toy), Symmetric)
    letters = build(make_settings(symmetric=False), toy)
    assert isinstance(letters, CNN)
    assert unwrap(letters) is letters
    assert letters.info.architecture["symmetric"] is False


def test_the_original_network_is_the_seeds():
    shapes = {name: tuple(p.shape) for name, p in OriginalCNN().named_parameters() if p.ndim > 1}
    assert list(shapes.values()) == [(32, 3, 3, 3), (64, 32, 3, 3), (512, 4096), (10, 512)]
    assert OriginalCNN()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert "2 122 186" in OriginalCNN.__doc__
    assert sum(p.numel() for p in OriginalCNN().parameters()) == 2_122_186


@pytest.mark.parametrize("model", [CNN(), Symmetric(CNN())])
def test_the_layer_table_counts_every_parameter(model):
    table = layer_table(model)
    total = sum(p.numel() for p in model.parameters())
    assert f"{total:,}".replace(",", ".") in table.splitlines()[-1]
    assert "384×3×3" in table
    assert "fixos" not in table
    assert model.training


def test_responses_of_the_filters_are_uncorrelated_and_of_like_size(cifar10):
    conv = nn.Conv2d(3, 16, 3, bias=False)
    whiten(conv, cifar10.train.images)
    images = cifar10.train.images[3000:4000].float() / 255 * 2 - 1  # other images than the filters were made from
    responses = F.conv2d(images, conv.weight[:8]).transpose(0, 1).flatten(1)
    deviations = responses.std(1)
    assert deviations.max() / deviations.min() < 1.6  # raw pixels: the first component alone is over ten times larger
    correlations = torch.corrcoef(responses) - torch.eye(8)
    assert correlations.abs().max() < 0.1


def test_the_filters_come_with_their_negatives_and_those_beyond_the_patch_dimension_stay_random(toy):
    conv = nn.Conv2d(3, 60, 3, bias=False)
    before = conv.weight.detach().clone()
    whiten(conv, toy.train.images)
    assert torch.equal(conv.weight[:27], -conv.weight[27:54])
    assert torch.equal(conv.weight[54:], before[54:])
    assert not torch.equal(conv.weight[:54], before[:54])


@pytest.mark.parametrize("learns", [False, True])
def test_the_whitened_layer_learns_only_when_asked_to_and_the_others_do(toy, small, tmp_path, learns):
    settings = replace(small, epochs=1, train_first=learns)
    model = build(settings, toy)
    before = copy_weights(model.network)
    assert torch.equal(before["conv1.weight"], build(small, toy).network.conv1.weight)
    train(settings, toy, tmp_path / "best.pth", model)
    after = copy_weights(model.network)
    same = {name for name, _ in model.network.named_parameters() if torch.equal(after[name], before[name])}
    assert same == (set() if learns else {"conv1.weight"})
    fixed = [line for line in layer_table(model).splitlines() if "(fixos)" in line]
    assert len(fixed) == len(same) and all(line.startswith("conv1") for line in fixed)
