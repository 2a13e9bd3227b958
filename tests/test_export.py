"""Exported files answer as the model does, say what they are, and are refused when they do not."""

import json
import re
import subprocess
import sys

import nbformat
import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import torch
from PIL import Image, ImageCms

from classificador.apps import export
from classificador.apps.cli import main
from classificador.apps.export import LARGEST_DIFFERENCE, check, export_model
from classificador.errors import ExportError
from classificador.files.model_file import load_model, save_checkpoint
from classificador.network.cnn import CNN, make_network
from classificador.results.predict import predict, predict_image
from conftest import INFO, ROOT, model_of, noise

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shipped_path(tmp_path_factory):
    return model_of("docs/avancado.md", tmp_path_factory.mktemp("shipped"))


@pytest.fixture(scope="module")
def shipped(shipped_path):
    return load_model(shipped_path)


def save_small(path, info=INFO, **sizes):
    """A small model, in a file, and as it is loaded from there; or all its answers would be nearly alike."""
    network = make_network(CNN, channels=(4, 8), hidden=16, **sizes)
    network.fc2.weight.data *= 8
    save_checkpoint(path, network, info)
    return load_model(path)


@pytest.fixture(scope="module")
def exported(shipped_path, cifar10, tmp_path_factory):
    """The shipped model as ONNX, by the command; checked on fewer images than by default."""
    path = tmp_path_factory.mktemp("onnx") / "best_model.onnx"
    options = ["--modelo", str(shipped_path), "--dados", str(ROOT / "data"), "--saida", str(path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "CHECKED", 100)
        assert main(["exportar", *options]) == 0
    return path


def test_onnx_gives_the_calibrated_probabilities_of_uint8_images_in_batches_of_any_size(shipped, cifar10, exported):
    session, images = onnxruntime.InferenceSession(exported), cifar10.test.images[:50]
    expected = predict(shipped, images)
    for count in (50, 1, 7):
        found = torch.from_numpy(session.run(None, {"images": images[:count].numpy()})[0])
        torch.testing.assert_close(found, expected[:count], rtol=0, atol=LARGEST_DIFFERENCE)
    facts = session.get_modelmeta().custom_metadata_map
    proto = onnx.load(exported)  # what onnxruntime 1.19, of 2024, opens
    assert proto.ir_version <= 10 and all(one.version <= 20 for one in proto.opset_import if one.domain == "")
    assert facts["needs"] == "ONNX IR 10, opset 20: onnxruntime 1.19 or newer"
    assert json.loads(facts["classes"]) == list(shipped.info.classes)
    assert json.loads(facts["provenance"])["created"] == shipped.info.created


def test_a_file_that_answers_otherwise_is_refused_and_nothing_written(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_text("earlier")
    model = save_small(tmp_path / "m.pth")
    monkeypatch.setattr(export.Probabilities, "forward", lambda self, images: self.model(images).softmax(1).roll(1, 1))
    with pytest.raises(ExportError, match="recusada: em 50 imagens"):
        export_model(model, noise(50), path, "onnx")
    assert path.read_text() == "earlier"


def test_answers_differ_by_class_by_probability_or_by_not_being_numbers():
    expected = torch.tensor([[0.7, 0.3], [0.9, 0.1]])
    assert check(expected, expected + 1e-6) < 1e-5
    for found in (expected.flip(1), expected + 1e-3, expected * torch.nan):
        with pytest.raises(ExportError):
            check(expected, found)


def test_missing_packages_are_told_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match="onnxruntime: execute `python -m pip install onnx onnxruntime onnxscript`"):
        export_model(save_small(tmp_path / "m.pth"), noise(2), tmp_path / "m.onnx", "onnx")


def documented_example() -> str:
    text = (ROOT / "docs" / "avancado.md").read_text("utf-8")
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "onnxruntime" in code)
    return example


def write_odd_pictures(folder) -> list:
    """What phones, scanners and drawing programs write; no two parts of a picture are alike."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter
    deep = np.linspace(200, 3800, 90 * 40).reshape(40, 90).astype(np.uint16)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    down = Image.linear_gradient("L").resize((90, 40))
    across = Image.linear_gradient("L").rotate(90).resize((90, 40))
    plain, clear = (
        Image.merge(mode, bands)
        for mode, bands in (("RGB", (across, down, down)), ("RGBA", (down, across, down, across)))
    )
    plain.save(folder / "a.jpg", exif=exif)
    plain.convert("P").save(folder / "b.gif", transparency=7)
    plain.convert("CMYK").save(folder / "c.tif")
    plain.save(folder / "d.png", icc_profile=profile)
    clear.save(folder / "e.png")
    clear.convert("LA").save(folder / "f.webp")
    Image.fromarray(deep).save(folder / "g.png")
    plain.resize((7, 20)).save(folder / "h.bmp")
    return sorted(folder.glob("?.*"))


@pytest.mark.parametrize(("side", "framing"), [(32, "centro"), (64, "inteira")])
def test_the_documented_example_answers_as_prever_does(tmp_path, side, framing):
    torch.manual_seed(side)
    info = INFO | {"framing": framing, "classes": ["a", "b", "c"], "temperature": 2.0}
    model, answers = save_small(tmp_path / "modelo.pth", info, classes=3, side=side), set()
    export_model(model, noise(4, side), tmp_path / "best_model.onnx", "onnx")
    example = documented_example().replace("best_model.onnx", str(tmp_path / "best_model.onnx"))
    for path in write_odd_pictures(tmp_path):
        found: dict = {}
        exec(example.replace("foto.jpg", str(path)), found)
        expected = predict_image(model, path)
        found = dict(zip(model.info.classes, found["probabilities"].tolist(), strict=True))
        assert max(found, key=found.get) == next(iter(expected)), path
        assert found == pytest.approx(expected, abs=0.01), path
        answers.add(tuple(round(value, 2) for value in found.values()))
    assert len(answers) > 5  # they are not alike


def test_the_documented_example_works_without_torch(shipped, exported):
    photo = ROOT / "docs" / "fotos" / "gato.png"
    (exported.parent / "foto.jpg").write_bytes(photo.read_bytes())
    example, blocked = documented_example(), "import sys\nsys.modules['torch'] = sys.modules['classificador'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + example], cwd=exported.parent, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    name, probability = next(iter(predict_image(shipped, photo).items()))
    assert done.stdout.split()[0] == name
    assert f"{probability:.1%}" in done.stdout


def test_weights_alone_open_again_here_and_with_the_documented_lines(shipped, cifar10, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, images = tmp_path / "best_model.pesos.pth", cifar10.test.images[:50]
    assert export_model(shipped, images, path, "pesos") < 1e-5
    again, expected = load_model(path), predict(shipped, images)
    assert again.info.architecture | {"pools": [2, 4]} == shipped.info.architecture
    cells = nbformat.read(ROOT / "Pytorch.ipynb", as_version=4).cells
    network = "\n".join(cell.source for cell in cells if re.match("class CNN|def (contrast|max_and_mean)", cell.source))
    (example,) = re.findall(r"```python\n(weights = .*?)```", (ROOT / "docs" / "avancado.md").read_text(), re.DOTALL)
    names = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, "images": images}
    exec(network + "\n" + example, names)
    with torch.no_grad():
        for logits in (again(images), names["logits"]):
            found = (logits / shipped.info.temperature).softmax(1)
            torch.testing.assert_close(found, expected, rtol=0, atol=LARGEST_DIFFERENCE)


def test_safetensors_hold_the_weights_and_say_what_they_are(shipped, cifar10, tmp_path):
    path = tmp_path / "m.safetensors"
    assert export_model(shipped, cifar10.test.images[:50], path, "safetensors") < 1e-5
    with safetensors.safe_open(path, "pt") as file:
        facts, names = file.metadata(), file.keys()
    assert set(names) == set(shipped.state_dict())
    assert json.loads(facts["architecture"]) == shipped.info.architecture
    assert facts["output"].startswith("logits")
    assert float(facts["temperature"]) == shipped.info.temperature
    assert json.loads(facts["provenance"])["created"] == shipped.info.created
