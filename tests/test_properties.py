"""What holds for every checkpoint and every picture: hypothesis looks for the one that breaks it."""

import io

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from classificador.data.pictures import open_image, to_tensor
from classificador.errors import CheckpointError, ImageError
from classificador.files.model_file import load_model, read_checkpoint, save_checkpoint
from classificador.network.cnn import CNN, make_network
from conftest import INFO

# The same cases every time, so that a failure in CI can be repeated here; no deadline, machines differ.
several = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "best_model.pth"
    torch.manual_seed(0)
    save_checkpoint(path, make_network(CNN, channels=(2, 2), hidden=2), INFO)
    return path


@settings(several, max_examples=25)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    kernels=st.sampled_from([(3, 3), (5, 3), (1, 5)]),
    symmetric=st.booleans(),
)
def test_every_network_comes_back_bit_for_bit(tmp_path, shape, kernels, symmetric):
    model = make_network(CNN, symmetric, channels=shape[:2], hidden=shape[2], kernels=kernels)
    save_checkpoint(tmp_path / "m.pth", model, INFO)
    loaded = load_model(tmp_path / "m.pth").state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


@several
@given(data=st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(saved, tmp_path, data):
    content = bytearray(saved.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "m.pth").write_bytes(content)
    try:
        changed = read_checkpoint(tmp_path / "m.pth")
    except CheckpointError:
        return
    sound = read_checkpoint(saved)  # a date, or padding between the parts: nothing that is read
    assert changed.info == sound.info
    assert all(torch.equal(value, sound.weights[name]) for name, value in changed.weights.items())


@several
@given(data=st.data())
def test_every_shorter_file_is_refused(saved, tmp_path, data):
    content = saved.read_bytes()
    (tmp_path / "m.pth").write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "m.pth")


colours = st.tuples(*[st.integers(0, 255)] * 3)
FORMS = [(form, "RGB") for form in ("PNG", "BMP", "TIFF", "PPM", "WEBP")] + [("PNG", "RGBA"), ("GIF", "P")]


@several
@given(form=st.sampled_from(FORMS), colour=colours, width=st.integers(1, 90), height=st.integers(1, 90))
def test_a_picture_of_one_colour_stays_so_whatever_its_size_and_format(tmp_path, form, colour, width, height):
    name, mode = form
    picture = Image.new("RGB", (width, height), colour)
    picture = picture.quantize(2) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "a", name, **({"lossless": True} if name == "WEBP" else {}))
    tensor = to_tensor(open_image(tmp_path / "a"))
    assert tensor.shape == (3, 32, 32)
    assert tensor.dtype == torch.uint8
    assert (torch.tensor(colour) == tensor.flatten(1).T).all()


@several
@given(form=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]), data=st.data())
def test_a_damaged_picture_is_refused_or_is_a_picture(tmp_path, form, data):
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(buffer, form)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a").write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        assert to_tensor(open_image(tmp_path / "a")).shape == (3, 32, 32)
    except ImageError as error:
        assert "\n" not in str(error)
