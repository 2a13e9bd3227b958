"""Exported files answer as the model does, say what they are, and are refused when they do not."""

import io
import json
import re
import subprocess
import sys

import nbformat
import numpy as np
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
from conftest import INFO, ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shipped():
    return load_model(ROOT / "best_model.pth")


def run_onnx(path, images):
    return torch.from_numpy(onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})[0])


def test_onnx_gives_the_calibrated_probabilities_of_uint8_images_in_batches_of_any_size(shipped, cifar10, tmp_path):
    path, images = tmp_path / "m.onnx", cifar10.test.images[:1000]
    assert export_model(shipped, images, path, "onnx") < LARGEST_DIFFERENCE
    for batch in (images, images[:1], images[:7]):
        torch.testing.assert_close(run_onnx(path, batch), predict(shipped, batch), rtol=0, atol=LARGEST_DIFFERENCE)
    facts = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list(shipped.info.classes)
    assert json.loads(facts["provenance"])["created"] == shipped.info.created


def test_pt2_gives_the_same_and_says_the_same(shipped, cifar10, tmp_path):
    path, images = tmp_path / "m.pt2", cifar10.test.images[:300]
    export_model(shipped, images, path, "pt2")
    extra = {"metadata.json": ""}
    program = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=extra).module()
    torch.testing.assert_close(program(images[:3]), predict(shipped, images[:3]), rtol=0, atol=LARGEST_DIFFERENCE)
    facts = extra["metadata.json"]
    facts = json.loads(facts if isinstance(facts, str) else facts.decode())
    assert json.loads(facts["classes"]) == list(shipped.info.classes)


def test_a_model_of_own_classes_and_another_side(tmp_path):
    info = INFO | {"classes": ["céu", "mato"], "temperature": 2.0}
    save_checkpoint(tmp_path / "m.pth", make_network(CNN, channels=(4, 8), hidden=16, classes=2, side=48), info)
    model = load_model(tmp_path / "m.pth")
    images = torch.randint(256, (9, 3, 48, 48), dtype=torch.uint8)
    export_model(model, images, tmp_path / "m.onnx", "onnx")
    torch.testing.assert_close(run_onnx(tmp_path / "m.onnx", images), predict(model, images), rtol=0, atol=1e-5)


def test_a_file_that_answers_otherwise_is_refused_and_nothing_written(shipped, cifar10, tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_text("earlier")
    monkeypatch.setattr(
        export.Probabilities, "forward", lambda self, images: (self.model(images) / 1.01).softmax(1).roll(1, 1)
    )
    with pytest.raises(ExportError, match="recusada: em 50 imagens"):
        export_model(shipped, cifar10.test.images[:50], tmp_path / "m.onnx", "onnx")
    assert (tmp_path / "m.onnx").read_text() == "earlier"


def test_answers_differ_by_class_by_probability_or_by_not_being_numbers():
    expected = torch.tensor([[0.50001, 0.49999], [0.9, 0.1]])
    assert check(expected, expected + 1e-6) < 1e-5
    for found in (expected.flip(1), expected + 1e-3, expected * torch.nan):
        with pytest.raises(ExportError):
            check(expected, found)


def test_missing_packages_are_told_with_the_remedy(shipped, cifar10, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match="onnxruntime: execute `python -m pip install onnx onnxruntime onnxscript`"):
        export_model(shipped, cifar10.test.images[:10], tmp_path / "m.onnx", "onnx")


def documented_example() -> str:
    text = (ROOT / "docs" / "avancado.md").read_text("utf-8")
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "onnxruntime" in code)
    return example


def draw(shade: float, size=(90, 40)) -> np.ndarray:
    """A picture no two parts of which are alike, rows×columns×3."""
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]] / size[1]
    return (255 * np.stack([columns / 2.3, rows, np.full_like(rows, shade)], 2)).clip(0, 255).astype(np.uint8)


def write_pictures(folder) -> list:
    """What phones, scanners and drawing programs write."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter
    alpha = np.tile(np.linspace(0, 255, 90).astype(np.uint8), (40, 1))[:, :, None]
    deep = np.linspace(200, 3800, 90 * 40).reshape(40, 90).astype(np.uint16)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain, clear = Image.fromarray(draw(0.5)), Image.fromarray(np.concatenate([draw(0.1), alpha], 2))
    plain.save(folder / "a.jpg", exif=exif)
    plain.convert("P").save(folder / "b.gif", transparency=7)
    plain.convert("CMYK").save(folder / "c.tif")
    plain.save(folder / "d.png", icc_profile=profile)
    clear.save(folder / "e.png")
    clear.convert("LA").save(folder / "f.webp")
    Image.fromarray(deep).save(folder / "g.png")
    Image.fromarray(draw(0.9, (7, 20))).save(folder / "h.bmp")
    return sorted(folder.glob("?.*"))


@pytest.mark.parametrize(("side", "framing"), [(32, "centro"), (64, "centro"), (64, "inteira")])
def test_the_documented_example_answers_as_prever_does(tmp_path, capsys, side, framing):
    torch.manual_seed(side)
    network, info = make_network(CNN, channels=(4, 8), hidden=16, classes=3, side=side), INFO | {"framing": framing}
    network.fc2.weight.data *= 8  # or all its answers would be nearly alike
    save_checkpoint(tmp_path / "modelo.pth", network, info | {"classes": ["a", "b", "c"]})
    model, answers = load_model(tmp_path / "modelo.pth"), set()
    images = torch.randint(256, (4, 3, side, side), dtype=torch.uint8)
    export_model(model, images, tmp_path / "best_model.onnx", "onnx")
    example = documented_example().replace("best_model.onnx", str(tmp_path / "best_model.onnx"))
    for path in write_pictures(tmp_path):
        found: dict = {}
        exec(example.replace("foto.jpg", str(path)), found)
        expected = predict_image(model, path)
        found = dict(zip(model.info.classes, found["probabilities"].tolist(), strict=True))
        assert max(found, key=found.get) == next(iter(expected)), path
        assert found == pytest.approx(expected, abs=0.01), path
        answers.add(tuple(round(value, 2) for value in found.values()))
    assert len(answers) > 5  # they are not alike


def test_the_documented_example_works_without_torch(shipped, cifar10, tmp_path):
    assert (
        main(
            ["exportar", "--modelo", str(ROOT / "best_model.pth"), "--dados", str(ROOT / "data")]
            + ["--saida", str(tmp_path / "best_model.onnx")]
        )
        == 0
    )
    photo = ROOT / "docs" / "fotos" / "gato.png"
    (tmp_path / "foto.jpg").write_bytes(photo.read_bytes())
    example, blocked = documented_example(), "import sys\nsys.modules['torch'] = sys.modules['classificador'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + example], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    pixels = torch.from_numpy(np.array(Image.open(photo).convert("RGB"))).permute(2, 0, 1)
    probabilities = predict(shipped, pixels[None])[0]
    assert done.stdout.split()[0] == shipped.info.classes[probabilities.argmax()]
    assert f"{probabilities.max():.1%}" in done.stdout


def test_the_model_itself_and_other_classes_are_refused(cifar10, tmp_path, capsys):
    path = tmp_path / "m.pt2"
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO)
    before, data = path.read_bytes(), str(ROOT / "data")
    assert main(["exportar", "--formato", "pt2", "--modelo", str(path), "--dados", data]) == 1
    assert "é o próprio modelo" in capsys.readouterr().err
    assert path.read_bytes() == before
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16, classes=2), INFO | {"classes": ["céu", "mato"]})
    assert main(["exportar", "--modelo", str(path), "--dados", data]) == 1
    assert "não são das classes" in capsys.readouterr().err


def test_weights_alone_open_again_and_answer_the_same(shipped, cifar10, tmp_path, capsys):
    path, images = tmp_path / "m.pesos.pth", cifar10.test.images[:300]
    assert export_model(shipped, images, path, "pesos") < 1e-5
    again = load_model(path)
    assert again.info.architecture | {"pools": [2, 4]} == shipped.info.architecture
    with torch.no_grad():
        torch.testing.assert_close(again(images), shipped(images))


def test_the_documented_lines_open_the_weights_with_torch_alone(shipped, cifar10, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export_model(shipped, cifar10.test.images[:10], tmp_path / "best_model.pesos.pth", "pesos")
    cells = nbformat.read(ROOT / "Pytorch.ipynb", as_version=4).cells
    network = "\n".join(cell.source for cell in cells if re.match("class CNN|def contrast", cell.source))
    (example,) = re.findall(r"```python\n(weights = .*?)```", (ROOT / "docs" / "avancado.md").read_text(), re.DOTALL)
    names = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, "images": cifar10.test.images[:300]}
    exec(network + "\n" + example, names)
    expected = predict(shipped, names["images"])
    found = (names["logits"] / shipped.info.temperature).softmax(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=LARGEST_DIFFERENCE)


def test_safetensors_hold_the_weights_and_say_what_they_are(shipped, cifar10, tmp_path):
    path = tmp_path / "m.safetensors"
    assert export_model(shipped, cifar10.test.images[:300], path, "safetensors") < 1e-5
    with safetensors.safe_open(path, "pt") as file:
        facts, names = file.metadata(), file.keys()
    assert set(names) == set(shipped.state_dict())
    assert json.loads(facts["architecture"]) == shipped.info.architecture
    assert facts["output"].startswith("logits")
    assert float(facts["temperature"]) == shipped.info.temperature
    assert json.loads(facts["provenance"])["created"] == shipped.info.created
