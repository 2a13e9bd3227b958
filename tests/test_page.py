"""The page that classifies in a browser: its script answers as PyTorch and Pillow do, and nothing in it is markup."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from py_mini_racer import MiniRacer

from classificador.apps import commands, page
from classificador.apps.cli import main
from classificador.apps.page import make_page, run_page, write_page
from classificador.constants import CLASSES, FRAMINGS
from classificador.data import pictures
from classificador.data.dataset import ImageData, Split
from classificador.data.pictures import to_tensor
from classificador.errors import ExportError, ImageError
from classificador.files.model_file import load_model, save_checkpoint
from classificador.network.cnn import CNN, OriginalFromPixels, make_network
from classificador.results.explain import occlusion_map
from classificador.results.predict import predict
from conftest import INFO, ROOT

FILES = ("page_network.js", "page_picture.js")
SCRIPT = "".join((ROOT / "classificador" / "apps" / name).read_text("utf-8") for name in FILES)
SMALL = {"channels": (4, 8), "hidden": 16}


def noise(count: int, side: int) -> torch.Tensor:
    return torch.randint(256, (count, 3, side, side), dtype=torch.uint8)


def own_data(count: int = 6, side: int = 32, classes=CLASSES) -> ImageData:
    split = Split(noise(count, side), torch.arange(count) % len(classes))
    return ImageData(split, split, split, tuple(classes))


def trained(tmp_path, network=CNN, temperature=1.5, names=None, **sizes):
    """A model from a file, with normalisations that do something."""
    torch.manual_seed(0)
    model = make_network(network, **sizes)
    for name, value in model.state_dict().items():
        if "norm" in name and value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
    names = names or [f"classe {i}" for i in range(sizes.get("classes", 10))]
    save_checkpoint(tmp_path / "m.pth", model, INFO | {"classes": list(names), "temperature": temperature})
    if network is CNN:
        return load_model(tmp_path / "m.pth")
    loaded = model.eval()
    loaded.info = load_model(tmp_path / "m.pth", network).info
    return loaded


def parts(text: str) -> tuple[dict, dict]:
    return tuple(json.loads(page.part_of(text, name)) for name in ("facts", "model"))


@pytest.mark.parametrize(
    "sizes",
    [
        SMALL,
        SMALL | {"symmetric": True},
        {"channels": (5, 7), "hidden": 9, "classes": 3, "side": 48},
        {"channels": (4, 6), "hidden": 8, "kernels": (4, 2), "pools": (3, 3), "side": 32},
        {"channels": (4, 6), "hidden": 8, "pools": (2, 5), "side": 64, "symmetric": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_the_script_gives_the_probabilities_of_any_network_of_ours(tmp_path, sizes, bits):
    model = trained(tmp_path, **sizes)
    images = noise(5, model.info.side)
    found = run_page(make_page(model, own_data(), bits), images)
    torch.testing.assert_close(found, predict(model, images), rtol=0, atol=1e-5 if bits == 32 else 2e-4)


def test_the_script_gives_the_probabilities_of_the_original_network(tmp_path):
    model = trained(tmp_path, OriginalFromPixels, channels=(3, 6), hidden=10, classes=4)
    images = noise(5, 32)
    found = run_page(make_page(model, own_data(), 32), images)
    torch.testing.assert_close(found, predict(model, images), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "sizes", [SMALL | {"symmetric": True}, SMALL | {"side": 48, "pools": (3, 3), "kernels": (4, 2)}], ids=str
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_the_script_draws_the_same_map(tmp_path, sizes):
    model = trained(tmp_path, **sizes)
    image = noise(1, model.info.side)[0]
    _, network = parts(make_page(model, own_data(), 32))
    context = MiniRacer()
    context.eval(f"{SCRIPT}; const network = makeNetwork({json.dumps(network)}); let maps;")
    context.eval(
        "function map(text, target) { maps = [...network.occlusionMap(decode(text, Uint8Array), target)];"
        " return JSON.stringify([maps.length, Array.from(maps.at(-1))]); }"
    )
    rows, heat = json.loads(context.call("map", base64.b64encode(image.numpy()).decode(), 3))
    assert rows == len(range(0, model.info.side * 3 // 4 + 1, max(1, model.info.side // 16)))  # drawn as it comes
    found = torch.tensor(heat).reshape(model.info.side, -1)
    torch.testing.assert_close(found, occlusion_map(model, image, 3), rtol=0, atol=1e-3)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("side", [32, 48])
def test_the_script_makes_pictures_square_as_pillow_does_to_the_byte(side, framing):
    context = MiniRacer()
    context.eval(SCRIPT)
    context.eval(
        "function square(width, height, side, framing, text) { const bytes = decode(text, Uint8Array);"
        " return JSON.stringify(Array.from(shrink(width, height, side, framing, (left, top, w, h) => {"
        "  const part = new Uint8Array(w * h * 4);"
        "  for (let y = 0; y < h; y++) {"
        "   const from = ((top + y) * width + left) * 4; part.set(bytes.subarray(from, from + 4 * w), 4 * y * w); }"
        "  return part; }))); }"
    )
    rng = np.random.default_rng(0)
    sizes = [
        (32, 32),
        (33, 31),
        (45, 32),
        (20, 7),
        (1, 1),
        (1, 900),
        (900, 1),
        (640, 427),
        *rng.integers(1, 200, (20, 2)),
    ]
    for width, height in sizes:
        pixels = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
        expected = to_tensor(Image.fromarray(np.ascontiguousarray(pixels[..., :3])), side, framing)
        text = base64.b64encode(pixels.tobytes()).decode()
        found = json.loads(context.call("square", int(width), int(height), side, framing, text))
        assert found == expected.flatten().tolist(), (width, height)


@pytest.mark.slow
def test_the_page_of_the_shipped_model_answers_as_it_does(cifar10, tmp_path):
    test = Split(cifar10.test.images[:100], cifar10.test.labels[:100])  # of the 1000 that the command checks
    assert write_page(load_model(ROOT / "best_model.pth"), replace(cifar10, test=test), tmp_path / "m.html") < 1e-3


def files_whole_and_cut() -> dict[str, bytes]:
    photo = Image.fromarray(noise(1, 64)[0].permute(1, 2, 0).numpy())
    small = io.BytesIO()
    photo.resize((16, 16)).save(small, "JPEG")
    exif = Image.Exif()
    exif[0x927C] = small.getvalue()  # the small picture of a camera, which has an end of its own
    forms = [("PNG", {}), ("BMP", {}), ("JPEG", {"exif": exif}), ("JPEG", {"progressive": True})]
    forms += [("GIF", {"save_all": True, "append_images": [photo.rotate(90)]})]
    found = {}
    for form, options in forms:
        file = io.BytesIO()
        photo.save(file, form, **options)
        whole, name = file.getvalue(), f"{form} {list(options)}"
        found |= {f"{name} whole": whole, f"{name} and more": whole + bytes(999) + b"\xff\xd9;"}
        found |= {
            f"{name} {share}": whole[: int(len(whole) * share)] for share in (0.2, 0.4, 0.9 if form != "GIF" else 0.3)
        }
    return found


def test_what_breaks_off_is_known_as_pillow_knows_it():
    context = MiniRacer()
    context.eval(f"{SCRIPT}; const torn = (text) => breaksOff(decode(text, Uint8Array));")
    jpeg = files_whole_and_cut()["JPEG ['progressive'] whole"]
    for length in range(700):  # within each part's name and length, too
        assert context.eval(f"torn('{base64.b64encode(jpeg[: min(length + 2, len(jpeg) - 2)]).decode()}')")
    for name, content in files_whole_and_cut().items():
        try:
            pictures.decode_image(content, name)
            whole = True
        except ImageError:
            whole = False
        assert context.eval(f"torn('{base64.b64encode(content).decode()}')") is not whole, name
        assert whole == (" whole" in name or " and more" in name)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize("turned", [0, 1, 6])
def test_what_not_all_browsers_turn_is_known(form, turned):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = "um texto"
    if turned:
        exif[0x0112] = turned
    Image.new("RGB", (9, 9)).save(file, form, exif=exif)
    context = MiniRacer()
    context.eval(SCRIPT)
    text = base64.b64encode(file.getvalue()).decode()
    assert context.eval(f"isTurned(decode('{text}', Uint8Array))") is (turned > 1)


def test_a_page_that_answers_otherwise_is_refused_and_nothing_written(tmp_path, monkeypatch):
    class Edited(CNN):
        def forward(self, images):
            return super().forward(images).roll(1, 1)

    model, path = trained(tmp_path, **SMALL), tmp_path / "m.html"
    model.__class__ = Edited
    path.write_text("earlier")
    with pytest.raises(ExportError, match="recusada: em 6 imagens"):
        write_page(model, own_data(), path)
    assert path.read_text() == "earlier"

    with pytest.raises(ExportError, match="só sabe calcular"):
        write_page(trained(tmp_path, SmallOther), own_data(), path)


class SmallOther(torch.nn.Module):
    """A network that the page does not know."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3 * 32 * 32, 10)

    def forward(self, images):
        return self.fc(images.float().flatten(1))


def test_where_rounding_changes_an_answer_the_weights_stay_as_they_are(tmp_path, monkeypatch):
    model, data = trained(tmp_path, **SMALL), own_data()
    write_page(model, data, tmp_path / "new" / "m.html")  # of a folder that is made
    _, network = parts((tmp_path / "new" / "m.html").read_text("utf-8"))
    assert {layer["bits"] for layer in network["layers"] if layer["kind"] == "linear"} == {16}

    right = page.run_page
    monkeypatch.setattr(page, "run_page", lambda text, images: right(text, images).roll(int('"bits": 16' in text), 1))
    write_page(model, data, tmp_path / "m.html")
    _, network = parts((tmp_path / "m.html").read_text("utf-8"))
    assert {layer["bits"] for layer in network["layers"] if layer["kind"] == "linear"} == {32}


def test_class_names_are_text_wherever_they_stand(tmp_path):
    names = ["</script><img src=x onerror=alert(1)>", "{{model}}", "<!--<script>", "猫", "a" * 190]
    model = trained(tmp_path, names=names, classes=len(names), **SMALL)
    plain = make_page(trained(tmp_path, classes=len(names), **SMALL), own_data(), 16)
    text = make_page(model, own_data(classes=names), 16)
    facts, _ = parts(text)
    assert facts["classes"] == names
    assert text.count("<") == plain.count("<")


def test_a_page_shows_test_images_of_cifar10_and_never_a_users_own(tmp_path):
    own = trained(tmp_path, names=["meu rosto", "minha casa"], classes=2, **SMALL)
    facts, _ = parts(make_page(own, own_data(classes=own.info.classes), 16))
    assert facts["examples"] == []
    known = trained(tmp_path, names=CLASSES, **SMALL)
    facts, _ = parts(make_page(known, own_data(20), 16))
    assert [example["name"] for example in facts["examples"]] == list(CLASSES)
    assert "acerta" in facts["origin"]


def test_the_page_and_the_package_agree_on_the_largest_picture():
    html = (ROOT / "classificador" / "apps" / "page.html").read_text("utf-8")
    assert f"const MOST_PIXELS = {pictures.MAX_PIXELS / 1e6:g}e6;" in html


def test_the_command_names_the_file_after_the_model_and_opens_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trained(tmp_path, names=["céu", "mato"], classes=2, **SMALL)
    for name in ("céu", "mato"):
        (tmp_path / "fotos" / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(noise(1, 32)[0].permute(1, 2, 0).numpy()).save(tmp_path / "fotos" / name / f"{i}.png")
    opened = []
    monkeypatch.setattr(commands.webbrowser, "open", lambda address: opened.append(address) or False)
    assert main(["pagina", "--modelo", "m.pth", "--dados", "fotos", "--abrir"]) == 0
    assert opened == [(tmp_path / "dist" / "m.html").as_uri()]
    assert "Nenhum navegador respondeu" in capsys.readouterr().out
    assert main(["pagina", "--modelo", "."]) == main(["exportar", "--modelo", "."]) == 1
    assert capsys.readouterr().err.count("erro: . ") == 2
    (tmp_path / "arquivo").touch()
    assert main(["pagina", "--modelo", "m.pth", "--dados", "fotos", "--saida", "arquivo/m.html"]) == 1
    assert "Não foi possível gravar" in capsys.readouterr().err
