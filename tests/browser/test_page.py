"""The page that classifies in a browser, opened as a file and used as a visitor would."""

import http.server
import re
import threading

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageCms
from playwright.sync_api import expect
from sklearn.datasets import load_sample_images

from classificador import load_data, load_model, predict_image
from classificador.apps.page import make_page
from conftest import ROOT

PHOTOS = ROOT / "docs" / "fotos"
CARDS = "document.querySelectorAll('article').length"
OPEN = "document.querySelectorAll('article .soft').length"  # cards that wait for their answer


@pytest.fixture(scope="module")
def data():
    return load_data(ROOT / "data")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, data):
    """The page of the shipped model."""
    path = tmp_path_factory.mktemp("página com espaço") / "m.html"
    path.write_text(make_page(load_model(ROOT / "best_model.pth"), data), "utf-8")
    assert path.stat().st_size < 8e6
    return path


@pytest.fixture(scope="module")
def odd(tmp_path_factory, data):
    """What phones, scanners and drawing programs write, and some images of the test set."""
    folder = tmp_path_factory.mktemp("fotos")
    photos = dict(zip(("china", "flower"), map(Image.fromarray, load_sample_images().images), strict=True))
    china, flower = photos["china"], photos["flower"]
    exif = Image.Exif()
    for turned in range(2, 9):  # in each of the ways a camera can be held
        exif[0x0112] = turned
        china.resize((480, 320)).save(folder / f"virada{turned}.jpg", exif=exif, quality=90)
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 640).astype(np.uint8), (427, 1)))
    clear = flower.copy()
    clear.putalpha(alpha)
    clear.save(folder / "transparente.png")
    clear.convert("LA").save(folder / "cinza.webp", lossless=True)
    china.convert("P").save(folder / "paleta.gif", transparency=7)
    china.convert("L").save(folder / "cinza.jpg", quality=95)
    china.convert("CMYK").save(folder / "quatro.jpg", quality=95)
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ") + 4, profile.index(b"gXYZ") + 4
    profile[red : red + 8], profile[green : green + 8] = profile[green : green + 8], profile[red : red + 8]
    flower.save(folder / "perfil.png", icc_profile=bytes(profile))  # red as green: shown so, it would be another flower
    china.resize((4200, 2800)).save(folder / "grande.jpg", quality=90)
    flower.resize((9, 20)).save(folder / "miúda.bmp")
    flower.resize((640, 3)).save(folder / "faixa.png")
    for i, image in enumerate(data.test.images[:3]):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"teste{i}.png")
    return sorted(folder.iterdir())


def answers(visitor) -> dict[str, tuple[str, float]]:
    """The class and its probability for each picture that has one, by the file's name."""
    cards = visitor.run(
        """return [...document.querySelectorAll("article")].filter((card) => card.querySelector("h2")).map(
            (card) => [card.querySelector(".name").textContent, card.querySelector("h2").textContent])"""
    )
    found = {}
    for name, heading in cards:
        best, share = re.fullmatch(r"(.*), (\d+,\d)%", heading).groups()
        found[name] = (best, float(share.replace(",", ".")) / 100)
    return found


def test_the_same_answers_as_prever(visitor, shipped, odd):
    model = load_model(ROOT / "best_model.pth")
    visitor.open(shipped.as_uri())
    visitor.choose(*odd)
    visitor.wait(f"{CARDS} === {len(odd)} && !{OPEN}")
    found = answers(visitor)
    for path in odd:
        best, expected = next(iter(predict_image(model, path).items()))
        assert found[path.name][0] == best, path.name
        assert abs(found[path.name][1] - expected) < 0.01, (path.name, found[path.name], expected)
    # The warnings are prever's, where the probability is not at the very limit of it.
    warned = set(
        visitor.run(
            """return [...document.querySelectorAll("article")].filter((card) => card.querySelector(".warning")).map(
                (card) => card.querySelector(".name").textContent)"""
        )
    )
    limit = model.info.doubt_below
    assert {name for name, (_, share) in found.items() if share < limit - 0.01} <= warned
    assert {name for name, (_, share) in found.items() if share > limit + 0.01}.isdisjoint(warned)
    assert warned


def test_bad_files_are_told_in_one_line_and_the_next_picture_works(visitor, shipped, tmp_path):
    photo = Image.fromarray(load_sample_images().images[0])
    photo.save(tmp_path / "inteira.png")
    whole = (tmp_path / "inteira.png").read_bytes()
    (tmp_path / "a-texto.jpg").write_text("não sou uma imagem")
    (tmp_path / "b-vazia.png").write_bytes(b"")
    (tmp_path / "c-rasgada.png").write_bytes(whole[: len(whole) // 2])
    photo.save(tmp_path / "inteira.jpg")
    (tmp_path / "c-rasgada2.jpg").write_bytes((tmp_path / "inteira.jpg").read_bytes()[:-2000])
    photo.convert("P").save(tmp_path / "inteira.gif")
    photo.save(tmp_path / "inteira.webp", exif=b"II*\0\xff\xff\xff\x7f")  # which points nowhere
    (tmp_path / "c-rasgada3.gif").write_bytes((tmp_path / "inteira.gif").read_bytes()[:-3000])
    photo.save(tmp_path / "inteira.bmp")
    (tmp_path / "c-rasgada4.bmp").write_bytes((tmp_path / "inteira.bmp").read_bytes()[:-3000])
    (tmp_path / "d-desenho.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    Image.new("1", (10_000, 10_000)).save(tmp_path / "e-enorme.png")  # a hundred megapixels in 12 kB
    Image.fromarray(np.full((8, 8), 900, np.uint16)).save(tmp_path / "f-funda.png")
    bad = sorted(path for path in tmp_path.iterdir() if path.name[1] == "-")
    visitor.open(shipped.as_uri())
    good = sorted(tmp_path.glob("inteira.*"))
    visitor.choose(*bad, *good)
    visitor.wait(f"{CARDS} === {len(bad) + len(good)} && !{OPEN}")
    lines = visitor.run("return [...document.querySelectorAll('article.short')].map((card) => card.innerText.trim())")
    for path, line in zip(bad, lines, strict=True):
        assert line.startswith(path.name) and "\n" not in line, (path.name, line)
        assert re.search("[Ee]scolha|Converta|Reduza", line), line
    assert "10000×10000" in str(lines)
    assert list(answers(visitor)) == [path.name for path in good]


def test_dropped_and_pasted_pictures_and_what_is_none(visitor, shipped):
    visitor.open(shipped.as_uri())
    photos = [PHOTOS / f"{name}.png" for name in ("gato", "navio", "sapo")]
    visitor.drop(photos[:2])
    visitor.wait(f"{CARDS} === 2 && !{OPEN}")
    visitor.drop(photos[2:], "paste", "clipboardData")
    visitor.wait(f"{CARDS} === 3 && !{OPEN}")
    assert [best for best, _ in answers(visitor).values()] == ["Sapo", "Gato", "Navio"]
    visitor.drop([])
    visitor.wait("document.querySelector('[role=status]').textContent.startsWith('Isto não é um arquivo de foto')")
    assert visitor.run("return document.querySelector('[role=status]').checkVisibility()")


def test_what_is_cleared_is_not_waited_for(visitor, shipped):
    visitor.open(shipped.as_uri())
    photos = sorted(PHOTOS.glob("*.png"))
    visitor.drop(photos * 10)  # whose maps take minutes
    visitor.wait(f"{CARDS} - {OPEN} > 3")
    visitor.run("document.getElementById('clear').click()")
    visitor.drop(photos[:1])
    visitor.wait(f"{CARDS} === 1 && !{OPEN}", 5)
    assert list(answers(visitor)) == [photos[0].name]


def test_a_photo_from_the_camera(visitor, shipped):
    visitor.open(shipped.as_uri())
    visitor.run("const camera = document.getElementById('camera'); camera.click(); camera.click()")  # impatient
    visitor.wait("!document.getElementById('shoot').disabled")
    visitor.run("document.getElementById('shoot').click()")
    visitor.wait(f"{CARDS} === 1 && !{OPEN}")
    assert "Câmera, " in next(iter(answers(visitor)))
    assert not visitor.run("return document.getElementById('viewfinder').open")
    assert visitor.run(
        "return document.querySelector('video').srcObject.getTracks().every((t) => t.readyState === 'ended')"
    )


def test_nothing_is_fetched_or_sent(visitor, shipped):
    asked = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

    server = http.server.HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    visitor.open(shipped.as_uri())
    visitor.choose(PHOTOS / "gato.png")
    visitor.wait(f"{CARDS} === 1 && !{OPEN}")
    entries = visitor.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith(("data:", "blob:")) for name in entries), entries
    # Nor could it be: the page's own rule stands in the way.
    address = f"http://127.0.0.1:{server.server_port}/"
    refused = visitor.run(
        """const image = new Image();
        image.src = given[0] + "image.png";
        const fails = (promise) => promise.then(() => false, () => true);
        return [await fails(fetch(given[0])), await fails(image.decode())]""",
        address,
    )
    server.shutdown()
    server.server_close()
    assert refused == [True, True] and asked == []


def test_a_form_cannot_send_either(page, shipped):
    asked = []
    page.context.on("request", lambda request: asked.append(request.url))
    page.goto(shipped.as_uri())
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<form action=http://127.0.0.1:9/ method=get></form>')"
    )
    page.evaluate("document.forms[0].submit()")
    page.wait_for_timeout(500)
    assert page.url == shipped.as_uri()
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked


def test_class_names_are_shown_as_text(visitor, data, tmp_path):
    names = ["<img src=x onerror=document.title='tomada'>", "</script><h1>olá</h1>", "猫", "قط", "n" * 150]
    names += [f"classe {i}" for i in range(5, 10)]
    model = load_model(ROOT / "best_model.pth")
    vars(model)["info"] = type(model.info).from_dict(model.info.to_dict() | {"classes": names})
    path = tmp_path / "m.html"
    path.write_text(make_page(model, data), "utf-8")
    visitor.open(path.as_uri())
    visitor.choose(*PHOTOS.glob("*.png"))
    visitor.wait(f"{CARDS} === 6 && !{OPEN}")
    assert visitor.run("return [document.title, document.querySelectorAll('h1').length]") == [
        "Classificador de imagens",
        1,
    ]
    assert {best for best, _ in answers(visitor).values()} == {names[i] for i in (0, 1, 3, 6, 7, 8)}


def test_it_is_used_by_keyboard(page, shipped, screens):
    page.goto(shipped.as_uri())
    expect(page.get_by_role("button", name="Limpar")).to_be_hidden()
    focused = []
    for _ in range(7):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.id || document.activeElement.firstChild.alt"))
    assert focused[:2] == ["files", "camera"]
    assert focused[5] == "Exemplo: Gato"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=re.compile(r"Gato, \d"))).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text(re.compile("Exemplo: Gato\u2069 é \u2068Gato, 9"))
    expect(page.locator("[aria-busy]")).to_have_count(0, timeout=30_000)
    page.screenshot(path=screens / "pagina.png", full_page=True)
    page.get_by_role("button", name="Limpar").press("Enter")
    expect(page.locator("article")).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "files"


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1400, "light")])
def test_axe_finds_nothing_and_it_fits(browser, shipped, tmp_path, width, scheme):
    (tmp_path / "texto-com-um-nome-bastante-comprido-para-uma-tela-estreita.png").write_text("não sou uma imagem")
    flower = tmp_path / "flor.jpg"
    Image.fromarray(load_sample_images().images[1]).save(flower)
    Image.effect_noise((300, 200), 40).save(tmp_path / "ruído.png")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, locale="pt-BR")
    page.goto(shipped.as_uri())
    found = [Axe().run(page)]
    files = [*tmp_path.glob("*.png"), flower, PHOTOS / "navio.png", PHOTOS / "gato.png"]
    page.locator("input[type=file]").set_input_files(files)
    page.locator("summary").click()
    expect(page.locator("article h2")).to_have_count(4, timeout=30_000)
    found.append(Axe().run(page))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.wait_for_timeout(100)
    page.get_by_role("button", name="Usar a câmera").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    found.append(Axe().run(page))
    page.get_by_role("button", name="Fechar").click()
    page.close()
    assert [result.generate_report() for result in found if result.violations_count] == []
