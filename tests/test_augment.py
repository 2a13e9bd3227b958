import pytest
import torch

from classificador.training.batches import augment, cut_out, draw_moves

SIDE = 8


def draw(images, shift, mirrored, seed=0):
    moves = draw_moves(len(images), shift, torch.Generator().manual_seed(seed))
    return augment(images, moves, torch.full((len(images),), mirrored))


@pytest.fixture
def images():
    return torch.randint(256, (200, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_every_result_is_a_shift_of_the_mirrored_or_plain_image(images):
    turned = torch.arange(len(images)) % 3 == 0
    shift, out = 2, augment(images, draw_moves(len(images), 2, torch.Generator().manual_seed(0)), turned)
    assert out.shape == images.shape
    assert out.dtype == torch.uint8
    padded = torch.nn.functional.pad(images.float(), (shift,) * 4, mode="reflect").to(torch.uint8)
    found = set()
    for index in range(len(images)):
        for mirrored in (False, True):
            source = padded[index].flip(-1) if mirrored else padded[index]
            for y in range(2 * shift + 1):
                for x in range(2 * shift + 1):
                    if torch.equal(out[index], source[:, y : y + SIDE, x : x + SIDE]):
                        found.add((index, mirrored, y, x))
    assert {index for index, *_ in found} == set(range(len(images)))
    assert {index for index, mirrored, _, _ in found if mirrored} == set(turned.nonzero().flatten().tolist())
    assert len({(y, x) for *_, y, x in found}) == 25  # every shift occurs


def test_without_shift_and_flip_nothing_changes(images):
    assert torch.equal(draw(images, 0, False), images)


def test_the_generator_decides(images):
    assert torch.equal(draw(images, 2, True, seed=3), draw(images, 2, True, seed=3))
    assert not torch.equal(draw(images, 2, True, seed=3), draw(images, 2, True, seed=4))


def test_cutout_hides_a_square_of_each_image_and_nothing_else(images):
    centres = torch.randint(SIDE, (2, len(images), 1), generator=torch.Generator().manual_seed(0))
    assert centres.min() == 0
    assert centres.max() == SIDE - 1
    white = torch.full_like(images, 255)
    hidden = cut_out(white, centres, 4) == 128
    assert white.min() == 255
    assert torch.equal(cut_out(images, centres, 4)[~hidden], images[~hidden])
    for (row, column), hole in zip(centres[..., 0].T.tolist(), hidden, strict=True):
        expected = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        expected[max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = True
        assert torch.equal(hole, expected.expand(3, -1, -1))
