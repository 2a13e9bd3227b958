"""Training batches: images moved, mirrored, covered and mixed, and what a teacher says of them."""

import pytest
import torch
import torch.nn.functional as F

from classificador import processes
from classificador.recipes import make_settings
from classificador.training.batches import Batches, augment, cut_out, draw_moves

ROWS = torch.arange(0, 60, 2)
CPU = torch.device("cpu")
SIDE = 8


@pytest.fixture
def images():
    return torch.randint(256, (200, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_every_result_is_a_shift_of_the_mirrored_or_plain_image(images):
    turned = torch.arange(len(images)) % 3 == 0
    shift, out = 2, augment(images, draw_moves(len(images), 2, torch.Generator().manual_seed(0)), turned)
    assert (out.shape, out.dtype) == (images.shape, torch.uint8)
    padded = F.pad(images.float(), (shift,) * 4, mode="reflect").to(torch.uint8)
    found = set()
    for index, mirrored in ((index, mirrored) for index in range(len(images)) for mirrored in (False, True)):
        source = padded[index].flip(-1) if mirrored else padded[index]
        for y, x in torch.cartesian_prod(*[torch.arange(2 * shift + 1)] * 2).tolist():
            if torch.equal(out[index], source[:, y : y + SIDE, x : x + SIDE]):
                found.add((index, mirrored, y, x))
    assert {index for index, *_ in found} == set(range(len(images)))
    assert {index for index, mirrored, _, _ in found if mirrored} == set(turned.nonzero().flatten().tolist())
    assert len({(y, x) for *_, y, x in found}) == 25  # every shift occurs


def test_images_that_are_only_mirrored_are_as_if_they_were_moved_by_nothing(images):
    turned = torch.arange(len(images)) % 3 == 0
    nowhere = torch.zeros(2, len(images), 1, dtype=torch.int64)
    assert draw_moves(len(images), 0, torch.Generator()) is None
    assert torch.equal(augment(images, None, turned), augment(images, nowhere, turned))
    assert torch.equal(augment(images, None, None), images)


def test_cutout_hides_a_square_of_each_image_and_nothing_else(images):
    centres = torch.randint(SIDE, (2, len(images), 1), generator=torch.Generator().manual_seed(0))
    assert (centres.min(), centres.max()) == (0, SIDE - 1)
    white = torch.full_like(images, 255)
    hidden = cut_out(white, centres, 4) == 128
    assert white.min() == 255
    assert torch.equal(cut_out(images, centres, 4)[~hidden], images[~hidden])
    for (row, column), hole in zip(centres[..., 0].T.tolist(), hidden, strict=True):
        expected = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        expected[max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = True
        assert torch.equal(hole, expected.expand(3, -1, -1))


def batch(toy, teacher=None, **changes):
    return Batches(toy, make_settings(shift=0, symmetric=False, **changes), CPU, teacher).make(ROWS)


def test_unmixed_it_is_the_images_and_their_labels(toy):
    images, targets = batch(toy)
    assert torch.equal(images, toy.train.images[ROWS])
    assert torch.equal(targets, toy.train.labels[ROWS])


def test_with_cutout_each_image_has_a_hole_of_its_own(toy):
    hidden = batch(toy, cutout=12)[0] != toy.train.images[ROWS]
    assert hidden.flatten(1).any(1).all()
    assert hidden.flatten(1).float().mean(1).max() <= 12 * 12 / 32**2
    assert len(hidden.any(1).flatten(1).unique(dim=0)) > 1


def test_mixed_images_and_their_targets_have_the_same_shares(toy):
    images, targets = batch(toy, mixup=1.0)
    first, last = (toy.train.images[rows].float() / 255 for rows in (ROWS, ROWS.flip(0)))
    share = targets[0, toy.train.labels[ROWS[0]]]
    assert 0 < share < 1
    torch.testing.assert_close(images, share * first + (1 - share) * last)
    torch.testing.assert_close(targets.sum(1), torch.ones(len(ROWS)))


def test_the_asked_fraction_of_the_batches_is_mixed(toy):
    batches = Batches(toy, make_settings(mixup=0.25), CPU)
    mixed = [(batches.make(ROWS[:4])[1].max(1).values < 1).any().item() for _ in range(400)]
    assert 0.17 < sum(mixed) / 400 < 0.33


def test_a_teacher_answers_to_what_the_network_sees(toy):
    seen = []

    def teacher(images):
        seen.append(images)
        return images.mean((2, 3))

    images, targets = batch(toy, teacher, mixup=1.0)
    assert torch.equal(seen[0], images)
    torch.testing.assert_close(targets, (images.mean((2, 3)) / 3).softmax(1))


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_the_parts_of_several_processes_make_up_the_whole(toy, monkeypatch, mixup):
    def make():
        return Batches(toy, make_settings(mixup=mixup), CPU).make(ROWS)

    whole, parts = make(), []
    for part in (slice(0, 13), slice(13, len(ROWS))):
        monkeypatch.setattr(processes, "shard", lambda count, part=part: part)
        parts.append(make())
    for together, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(together, torch.cat(pieces))
