import pytest
import torch

from classificador.data.dataset import Split
from classificador.network.cnn import CNN, make_network
from classificador.results.robustness import DAMAGES, accuracy_when_damaged, near_duplicates, robustness_table


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_grows_with_its_strength(cifar10, name):
    damage, strengths = DAMAGES[name]
    images = cifar10.test.images[:20]
    changes = []
    for strength in strengths:
        damaged = damage(images, strength)
        assert damaged.shape == images.shape and damaged.dtype == torch.uint8
        changes.append((damaged.float() - images.float()).abs().mean().item())
    assert 0.5 < changes[0] < 25  # in 255ths: visible, and not yet the end of the image
    assert changes == sorted(changes)


def test_a_score_for_every_damage_and_strength(cifar10):
    split = Split(cifar10.test.images[:20], cifar10.test.labels[:20])
    scores = accuracy_when_damaged(make_network(CNN, channels=(4, 8), hidden=16), split)
    assert set(scores) == set(DAMAGES)
    assert all(len(row) == 5 and all(0 <= score <= 1 for score in row) for row in scores.values())


def test_copies_are_found_mirrored_brighter_or_blurred_and_others_not(cifar10):
    known = cifar10.train.images[:2000]
    original = known[100:110]
    brighter = (original.float() * 0.7 + 60).to(torch.uint8)
    moved = torch.cat([original[:, :, 1:], original[:, :, -1:]], 2)
    others = cifar10.val.images[:10]
    found = near_duplicates(torch.cat([original, original.flip(-1), brighter, others]), known)
    assert found[:30].all()
    assert not found[30:].any()
    assert near_duplicates(moved, known).float().mean() > 0.5


def test_the_table_has_each_accuracy_under_its_strength():
    scores = {name: [0.8, 0.7, 0.6, 0.5, 0.123] for name in DAMAGES}
    lines = robustness_table(scores).splitlines()
    assert lines[0].split()[-5:] == ["0,02", "0,04", "0,06", "0,08", "0,1"]
    assert lines[1].split() == ["80,0%", "70,0%", "60,0%", "50,0%", "12,3%"]
    assert len({len(line) for line in lines}) == 1
