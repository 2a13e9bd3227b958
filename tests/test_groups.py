"""Pictures that show nearly the same are found, and those that do not are not taken for it."""

import io

import pytest
import torch
from PIL import Image

from classificador.data import groups
from classificador.data.groups import near_groups
from classificador.data.pictures import to_tensor
from conftest import noise


def picture(image: torch.Tensor, side: int = 160) -> Image.Image:
    """An image of CIFAR-10 enlarged to what a camera gives."""
    return Image.fromarray(image.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.BICUBIC)


def as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file).convert("RGB")


ALTERED = {
    "smaller": lambda image: image.resize((90, 90)),
    "as JPEG": as_jpeg,
    "cropped": lambda image: image.crop((0, 0, 150, 152)),
    "cropped elsewhere": lambda image: image.crop((8, 3, 160, 155)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "lighter": lambda image: image.point(lambda value: min(255, value + 20)),
}


@pytest.mark.parametrize("name", ALTERED)
def test_a_picture_and_what_was_made_of_it_are_one_group(cifar10, name):
    originals = [picture(image) for image in cifar10.test.images[:40]]
    images = torch.stack([to_tensor(image) for image in (*originals, *map(ALTERED[name], originals))])
    found = near_groups(images)
    assert (found[:40] == found[40:]).float().mean() >= 0.95
    assert len(found[:40].unique()) == 40


def test_other_photos_are_no_near_copies(cifar10):
    assert len(near_groups(cifar10.train.images[:600]).unique()) >= 599


def test_of_one_colour_only_the_same_are_alike():
    colours = torch.tensor([[200, 0, 0], [200, 0, 0], [190, 0, 0], [0, 0, 200]], dtype=torch.uint8)
    found = near_groups(colours[:, :, None, None].expand(-1, -1, 32, 32)).tolist()
    assert found[0] == found[1] and len(set(found)) == 3


def test_of_more_than_can_be_compared_each_is_a_group(monkeypatch):
    monkeypatch.setattr(groups, "MOST", 3)
    assert near_groups(noise(1).repeat(4, 1, 1, 1)).tolist() == [0, 1, 2, 3]
    assert near_groups(noise(1)).tolist() == [0] and len(near_groups(noise(0))) == 0
