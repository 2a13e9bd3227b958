from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from classificador.network.build import build, make_optimizer, whiten
from classificador.network.cnn import CNN
from classificador.show.summary import layer_table
from classificador.training.fit import fit


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


def test_the_whitened_layer_stays_as_it_is_and_the_others_learn(toy, small, tmp_path):
    model = build(small, toy, CNN)
    network = model.network
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, small), small, tmp_path / "best.pth")
    assert torch.equal(network.conv1.weight, before["conv1.weight"])
    assert "(fixos)" in next(line for line in layer_table(model).splitlines() if line.startswith("conv1"))
    for name in ("conv2.weight", "fc1.weight", "fc2.weight"):
        assert not torch.equal(network.state_dict()[name], before[name])


def test_asked_to_the_whitened_layer_learns_from_there_on(toy, small, tmp_path):
    settings = replace(small, train_first=True)
    model = build(settings, toy, CNN)
    start = model.network.conv1.weight.detach().clone()
    assert torch.equal(start, build(small, toy, CNN).network.conv1.weight)
    fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, settings), settings, tmp_path / "best.pth")
    assert not torch.equal(model.network.conv1.weight, start)
    assert "(fixos)" not in layer_table(model)
