import pytest
import torch
from captum.attr import Occlusion

from classificador.network.cnn import CNN, make_network
from classificador.results.explain import occlusion_map


@pytest.fixture
def model() -> CNN:
    torch.manual_seed(0)
    return make_network(CNN, channels=(4, 8), hidden=16).eval()


def test_it_is_captums_occlusion(model):
    image = torch.randint(256, (3, 32, 32), dtype=torch.uint8)
    mean = image.float().mean((1, 2), keepdim=True).to(torch.uint8)

    def score(images):
        with torch.no_grad():
            return model(images.to(torch.uint8)).log_softmax(1)

    theirs = Occlusion(score).attribute(
        image[None].float(), (3, 8, 8), strides=(3, 2, 2), baselines=mean[None].float(), target=4
    )[0, 0]
    theirs = theirs.clamp(min=0) / theirs.max()
    assert torch.allclose(occlusion_map(model, image, 4), theirs.float(), atol=1e-3)


def test_the_place_the_answer_hangs_on_is_the_brightest():
    class Corner(CNN):
        def forward(self, images):
            """Class 1 by the brightness of a corner, whatever the rest."""
            light = images[:, :, 4:8, 20:24].float().mean((1, 2, 3)) / 255
            return torch.stack([torch.zeros_like(light), 5 * light], 1)

    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[:, 4:8, 20:24] = 255
    heat = occlusion_map(Corner(channels=(4, 8), hidden=16), image)
    assert heat.max() == 1
    assert heat[4:8, 20:24].min() > 0.7
    assert heat[16:].max() == 0


@pytest.mark.parametrize("side", [32, 48])
def test_a_plain_image_of_any_side_hangs_on_nothing(side):
    model = make_network(CNN, channels=(4, 8), hidden=16, side=side).eval()
    heat = occlusion_map(model, torch.full((3, side, side), 90, dtype=torch.uint8))
    assert torch.equal(heat, torch.zeros(side, side))
