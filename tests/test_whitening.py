from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from classificador.files.model_file import copy_weights
from classificador.network.build import build, whiten
from classificador.show.summary import layer_table
from classificador.training.fit import train


def test_responses_of_the_filters_are_uncorrelated_and_of_like_size(cifar10):
    conv = nn.Conv2d(3, 16, 3, bias=False)
    whiten(conv, cifar10.train.images)
    images = cifar10.train.images[3000:4000].float() / 255 * 2 - 1  # other images than the filters were made from
    responses = F.conv2d(images, conv.weight[:8]).transpose(0, 1).flatten(1)
    deviations = responses.std(1)
    assert deviations.max() / deviations.min() < 1.6  # raw pixels: the first component alone is over ten times larger
    correlations = torch.corrcoef(responses) - torch.eye(8)
    assert correlations.abs().max() < 0.1


def test_second_half_is_the_negative_of_the_first(toy):
    conv = nn.Conv2d(3, 10, 3, bias=False)
    whiten(conv, toy.train.images)
    assert torch.equal(conv.weight[:5], -conv.weight[5:])


def test_filters_beyond_the_patch_dimension_stay_random(toy):
    conv = nn.Conv2d(3, 60, 3, bias=False)
    before = conv.weight.detach().clone()
    whiten(conv, toy.train.images)
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
