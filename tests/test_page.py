"""The page that classifies in a browser: its script answers as PyTorch and Pillow do, and nothing in it is markup."""

import base64
import io
import json
import webbrowser
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from py_mini_racer import MiniRacer
from torch import nn

from classificador.apps import page
from classificador.apps.cli import main
from classificador.apps.page import make_page, run_page, write_page
from classificador.constants import CLASSES, FRAMINGS
from classificador.data import pictures
from classificador.data.dataset import ImageData, Origin, Split
from classificador.data.pictures import to_tensor
from classificador.errors import ExportError, ImageError
from classificador.files.model_file import load_model, save_checkpoint
from classificador.network import cnn
from classificador.network.cnn import CNN, OriginalFromPixels, make_network
from classificador.results.explain import occlusion_map
from classificador.results.predict import predict
from conftest import INFO, ROOT, noise, write_pictures

SMALL = {"channels": (4, 8), "hidden": 16}


def engine(code: str = "") -> MiniRacer:
    """A browser's engine with the page's scripts that compute, and more code; in base64, bytes come in."""
    context = MiniRacer()
    for name in ("page_network.js", "page_map.js", "page_picture.js"):
        context.eval((ROOT / "classificador" / "apps" / name).read_text("utf-8"))
    context.eval(code)
    return context


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def own_data(count: int = 6, side: int = 32, classes=CLASSES) -> ImageData:
    split = Split(noise(count, side), torch.arange(count) % len(classes))
    return ImageData(split, split, split, tuple(classes))


def trained(tmp_path, network=CNN, names=None, **sizes):
    """A model from a file, with normalisations that do something."""
    torch.manual_seed(0)
    model = make_network(network, **sizes)
    for name, value in model.state_dict().items():
        if "norm" in name and value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
    names = names or [f"classe {i}" for i in range(sizes.get("classes", 10))]
    save_checkpoint(tmp_path / "m.pth", model, INFO | {"classes": list(names), "temperature": 1.5})
    return load_model(tmp_path / "m.pth", network)


def parts(text: str) -> tuple[dict, dict]:
    return tuple(json.loads(page.part_of(text, name)) for name in ("facts", "model"))


@pytest.mark.parametrize(
    ("network", "sizes"),
    [
        (CNN, SMALL | {"symmetric": True}),
        (CNN, {"channels": (5, 7), "hidden": 9, "classes": 3, "side": 48}),
        (CNN, {"channels": (4, 6), "hidden": 8, "kernels": (4, 2), "pools": (3, 3), "side": 32}),
        (CNN, {"channels": (4, 6), "hidden": 8, "pools": (2, 5), "side": 64, "symmetric": True}),
        (OriginalFromPixels, {"channels": (3, 6), "hidden": 10, "classes": 4}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_the_script_gives_the_probabilities_and_the_map_of_any_network_of_ours(tmp_path, network, sizes):
    model = trained(tmp_path, network, **sizes)
    images, side = noise(5, sizes.get("side", 32)), sizes.get("side", 32)
    text = make_page(model, own_data())
    torch.testing.assert_close(run_page(text, images), predict(model, images), rtol=0, atol=2e-4)
    context = engine(
        f"const side = {side}, network = makeNetwork({page.part_of(text, 'model')}), rows = [];"
        "function map(text, target) { const pixels = decode(text, Uint8Array);"
        " for (const top of patches(side).starts) {"
        "  rows.push(network.cover(pixels, target, top)); network.predict(pixels.map((value) => 255 - value)); }"
        " return JSON.stringify([rows.length, Array.from(heatMap(side, rows))]); }"
        "function answer(text) { const { probabilities, strongest } = network.answer(decode(text, Uint8Array));"
        " return JSON.stringify([probabilities, strongest.map(({ side, channels, maps }) =>"
        " [side, channels, maps.map((map) => Array.from(map))])]); }"
    )
    rows, heat = json.loads(context.call("map", base64_of(images[0].numpy().tobytes()), 1))
    assert rows == len(range(0, side * 3 // 4 + 1, max(1, side // 16)))  # drawn as it comes
    found = torch.tensor(heat).reshape(side, side)
    torch.testing.assert_close(found, occlusion_map(model, images[0], 1), rtol=0, atol=1e-3)
    probabilities, layers = json.loads(context.call("answer", base64_of(images[1].numpy().tobytes())))
    torch.testing.assert_close(torch.tensor(probabilities), predict(model, images[1:2])[0], rtol=0, atol=2e-4)
    inner = model.network if hasattr(model, "network") else model
    first = inner.conv1((images[1:2] / 255 - 0.5) / 0.5).detach()[0].clamp(min=0)  # its channels that vary most
    spread = first.flatten(1).var(1, correction=0).sort(descending=True).indices[:8]
    assert layers[0][:2] == [side, len(first)]
    expected = first[spread].flatten(1)
    torch.testing.assert_close(torch.tensor(layers[0][2]), expected, rtol=1e-3, atol=1e-4)
    assert [layer[1] for layer in layers] == list(sizes["channels"])


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("side", [32, 48])
def test_the_script_makes_pictures_square_as_pillow_does_to_the_byte(side, framing):
    context = engine(
        "function square(width, height, side, framing, text) { const bytes = decode(text, Uint8Array);"
        " return JSON.stringify(Array.from(shrink(width, height, side, framing, (left, top, w, h) => {"
        "  const part = new Uint8Array(w * h * 4);"
        "  for (let y = 0; y < h; y++) {"
        "   const from = ((top + y) * width + left) * 4; part.set(bytes.subarray(from, from + 4 * w), 4 * y * w); }"
        "  return part; }))); }"
    )
    rng = np.random.default_rng(0)
    fixed = [(32, 32), (33, 31), (45, 32), (20, 7), (1, 1), (1, 900), (900, 1), (640, 427)]
    for width, height in [*fixed, *rng.integers(1, 200, (20, 2))]:
        pixels = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
        expected = to_tensor(Image.fromarray(np.ascontiguousarray(pixels[..., :3])), side, framing)
        text = base64_of(pixels.tobytes())
        found = json.loads(context.call("square", int(width), int(height), side, framing, text))
        assert found == expected.flatten().tolist(), (width, height)


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
    context, files = engine("const torn = (text) => breaksOff(decode(text, Uint8Array));"), files_whole_and_cut()
    jpeg = files["JPEG ['progressive'] whole"]
    for length in range(700):  # within each part's name and length, too
        assert context.eval(f"torn('{base64_of(jpeg[: min(length + 2, len(jpeg) - 2)])}')")
    for name, content in files.items():
        try:
            pictures.decode_image(content, name)
            whole = True
        except ImageError:
            whole = False
        assert context.eval(f"torn('{base64_of(content)}')") is not whole, name
        assert whole == (" whole" in name or " and more" in name)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize("turned", [0, 1, 6])
def test_what_not_all_browsers_turn_is_known(form, turned):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = "um texto"
    if turned:
        exif[0x0112] = turned
    Image.new("RGB", (9, 9)).save(file, form, exif=exif)
    assert engine().eval(f"isTurned(decode('{base64_of(file.getvalue())}', Uint8Array))") is (turned > 1)


class ThirdConvolution(CNN):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.conv3 = nn.Conv2d(3, 3, 3)


class OtherActivation(CNN):
    def forward(self, images):
        x = self.conv1((images / 255 - 0.5) / 0.5)
        x = F.silu(cnn.contrast(F.max_pool2d(x, self.pools[0])))
        x = F.silu(self.norm2(cnn.max_and_mean(self.conv2(x), self.pools[1])))
        return self.fc2(F.silu(self.norm3(self.fc1(x.flatten(1)))))


class OtherPoolings(CNN):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        del self.pools

    def forward(self, images):
        return self.fc2(images.new_zeros(len(images), self.fc2.in_features, dtype=torch.float32))


@pytest.mark.parametrize("network", [ThirdConvolution, OtherActivation, OtherPoolings])
def test_an_edited_network_is_refused_for_what_it_is_before_hundreds_of_images(tmp_path, network, monkeypatch):
    seen, right = [], page.run_page
    monkeypatch.setattr(page, "run_page", lambda text, images: seen.append(len(images)) or right(text, images))
    (tmp_path / "m.html").write_text("earlier")
    reason = "daria outras probabilidades" if network is OtherActivation else "só com as camadas da deste projeto"
    with pytest.raises(ExportError, match=f"esta rede: {reason}.*Use .*exportar"):
        write_page(trained(tmp_path, network, **SMALL), own_data(), tmp_path / "m.html")
    assert sum(seen) <= 3
    assert (tmp_path / "m.html").read_text() == "earlier"


def test_class_names_are_text_wherever_they_stand(tmp_path):
    names = ["</script><img src=x onerror=alert(1)>", "{{model}}", "<!--<script>", "猫", "a" * 190]
    model = trained(tmp_path, names=names, classes=len(names), **SMALL)
    plain = make_page(trained(tmp_path, classes=len(names), **SMALL), own_data())
    text = make_page(model, own_data(classes=names))
    facts, _ = parts(text)
    assert facts["classes"] == names
    assert text.count("<") == plain.count("<")


def test_a_page_shows_test_images_of_cifar10_and_never_a_users_own(tmp_path):
    own = trained(tmp_path, names=["meu rosto", "minha casa"], classes=2, **SMALL)
    facts, _ = parts(make_page(own, own_data(classes=own.info.classes)))
    assert facts["examples"] == []
    known = trained(tmp_path, names=CLASSES, **SMALL)
    data = own_data(20)
    facts, _ = parts(make_page(known, data))
    assert {example["label"] for example in facts["examples"]} == set(range(10))
    for example, image in zip(facts["examples"][::2], data.test.images[:10], strict=True):  # two of each class
        assert example["pixels"] == base64_of(image.numpy().tobytes())
    assert "acerta" in facts["origin"] and not facts["learnt"]


def test_a_page_says_what_its_maker_wishes(tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    own = trained(tmp_path, names=["banana", "uva"], classes=2, **SMALL)
    data = own_data(8, classes=own.info.classes)
    plain = parts(make_page(own, data))[0]
    assert (plain["title"], plain["home"], plain["examples"]) == ("Banana ou uva?", "", [])
    text = make_page(own, data, page.Wishes("<Minhas> frutas", "Ana", examples=True))
    facts = parts(text)[0]
    assert facts["title"] == "<Minhas> frutas" and "<title>&lt;Minhas&gt; frutas</title>" in text
    assert facts["origin"].endswith("Feita por Ana.") and "Ana" in facts["signature"]
    assert [example["label"] for example in facts["examples"]] == [0] * 4 + [1] * 4
    known = replace(data.train, origins=tuple(Origin(f"{i}.png", str(i), i) for i in range(8)))
    shared = make_page(own, replace(data, train=known, test=known), page.Wishes(examples=True))
    assert parts(shared)[0]["learnt"]
    monkeypatch.setenv("GITHUB_REPOSITORY", "ana/frutas")
    assert parts(make_page(own, data))[0]["home"] == "https://github.com/ana/frutas"


@pytest.mark.parametrize(
    ("classes", "title"),
    [("ab", "A ou b?"), ("abcd", "A, b, c ou d?"), ("abcde", "A, b, c…?"), (["10 reais", "é"], "10 reais ou é?")],
)
def test_a_page_is_called_what_its_network_knows(classes, title):
    assert page.title_of(tuple(classes)) == title


def test_the_page_and_the_package_agree_on_the_largest_picture():
    script = (ROOT / "classificador" / "apps" / "page_reading.js").read_text("utf-8")
    assert f"const MOST_PIXELS = {pictures.MAX_PIXELS / 1e6:g}e6;" in script


def test_the_command_names_the_file_after_the_model_and_opens_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trained(tmp_path, names=["céu", "mato"], classes=2, **SMALL)
    write_pictures(tmp_path / "fotos", 10, céu="blue", mato="green")
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or False)
    assert main(["pagina", "--modelo", "m.pth", "--dados", "fotos", "--abrir"]) == 0
    assert opened == [(tmp_path / "dist" / "m.html").as_uri()]
    assert "Nenhum navegador respondeu" in capsys.readouterr().out
    assert main(["pagina", "--modelo", "."]) == main(["exportar", "--modelo", "."]) == 1
    assert capsys.readouterr().err.count("erro: . ") == 2
    (tmp_path / "arquivo").touch()
    assert main(["pagina", "--modelo", "m.pth", "--dados", "fotos", "--saida", "arquivo/m.html"]) == 1
    assert "Não foi possível gravar" in capsys.readouterr().err
