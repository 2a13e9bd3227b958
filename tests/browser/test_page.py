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

from classificador import load_model, predict_image
from classificador.apps.page import make_page, title_of
from classificador.data.pictures import open_image, to_tensor
from conftest import NOISE, ROOT
from png16 import png16

PHOTOS = ROOT / "docs" / "fotos"


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


def test_the_same_answers_as_prever(visitor, shipped, odd):
    model = load_model(ROOT / "best_model.pth")
    visitor.open(shipped.as_uri())
    visitor.choose(*odd)
    visitor.wait_for_cards(len(odd))
    found = visitor.answers()
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
    deep = bytearray(png16(np.full((8, 8, 1), 900)))
    deep[28] = 1  # as if in the order of Adam7, which the page does not read
    (tmp_path / "f-funda.png").write_bytes(deep)
    (tmp_path / "f-rasgada.png").write_bytes(png16(np.full((8, 8, 3), 900))[:-20])
    bad = sorted(path for path in tmp_path.iterdir() if path.name[1] == "-")
    visitor.open(shipped.as_uri())
    good = sorted(tmp_path.glob("inteira.*"))
    visitor.choose(*bad, *good)
    visitor.wait_for_cards(len(bad) + len(good))
    lines = visitor.run("return [...document.querySelectorAll('article.short')].map((card) => card.innerText.trim())")
    for path, line in zip(bad, lines, strict=True):
        assert line.startswith(path.name) and "\n" not in line, (path.name, line)
        assert re.search("[Ee]scolha|Converta|Reduza", line), line
    assert "10000×10000" in str(lines) and ["16 bits" in line for line in lines[-2:]] == [True, False]
    assert list(visitor.answers()) == [path.name for path in good]


def test_dropped_and_pasted_pictures_and_what_is_none(visitor, shipped):
    visitor.open(shipped.as_uri())
    photos = [PHOTOS / f"{name}.png" for name in ("gato", "navio", "sapo")]
    visitor.drop(photos[:2])
    visitor.wait_for_cards(2)
    visitor.drop(photos[2:], "paste", "clipboardData")
    visitor.wait_for_cards(3)
    assert [best for best, _ in visitor.answers().values()] == ["Sapo", "Gato", "Navio"]
    visitor.drop([])
    visitor.wait("document.querySelector('[role=status]').textContent.startsWith('Isto não é um arquivo de foto')")
    assert visitor.run("return document.querySelector('[role=status]').checkVisibility()")


def test_what_is_cleared_is_not_waited_for(visitor, shipped):
    visitor.open(shipped.as_uri())
    photos = sorted(PHOTOS.glob("*.png"))
    visitor.drop(photos * 10)
    visitor.wait("document.querySelectorAll('article h2').length > 3")
    visitor.run("document.getElementById('clear').click()")
    visitor.drop(photos[:1])
    visitor.wait_for_cards(1)
    assert list(visitor.answers()) == [photos[0].name]
    assert "mesma foto" not in visitor.run("return document.querySelector('article').innerText")  # nor remembered
    assert visitor.run("return document.getElementById('tally').textContent") == ""


def test_many_photos_are_counted_and_the_same_one_is_told(visitor, shipped, tmp_path):
    visitor.open(shipped.as_uri())
    names = ["gato", "navio", "sapo"]
    photos = [PHOTOS / f"{name}.png" for name in names]
    (tmp_path / "outro nome.png").write_bytes(photos[0].read_bytes())
    (tmp_path / "z.png").write_text("não sou uma imagem")
    visitor.choose(*photos, *sorted(tmp_path.iterdir()))
    visitor.wait_for_cards(5)
    said = (
        visitor.run("return document.getElementById('status').textContent").replace("\u2068", "").replace("\u2069", "")
    )
    assert said == "5 ao todo: Gato (2), Navio (1), Sapo (1), sem resposta (1)"
    visitor.drop(photos[1:2])
    visitor.wait_for_cards(6)
    said = (
        visitor.run("return document.getElementById('tally').textContent").replace("\u2068", "").replace("\u2069", "")
    )
    assert said == "6 ao todo: Gato (2), Navio (2), Sapo (1), sem resposta (1)"
    names = visitor.run("return [...document.querySelectorAll('.name')].map((line) => line.textContent)")
    twins = [line.replace("Para a rede, é a mesma foto que ", "") for line in names if "mesma" in line]
    assert twins == ["Para a rede, é a mesma foto de antes", "gato.png"]


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
    visitor.wait_for_cards(1)
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
    visitor.wait_for_cards(6)
    title, headings = visitor.run("return [document.title, document.querySelectorAll('h1').length]")
    assert (title, headings) == (title_of(names), 1)
    assert {best for best, _ in visitor.answers().values()} == {names[i] for i in (0, 1, 3, 6, 7, 8)}


def test_it_is_used_by_keyboard(page, shipped, screens):
    page.goto(shipped.as_uri())
    expect(page.get_by_role("button", name="Limpar")).to_be_hidden()
    focused = []
    for _ in range(8):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.id || document.activeElement.ariaLabel"))
    assert focused[:3] == ["files", "camera", "play"]
    assert focused[6] == "Exemplo: Gato"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("h2", has_text="Gato")).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text("A rede diz \u2068Gato\u2069.")
    expect(page.locator("[aria-busy]")).to_have_count(0, timeout=30_000)
    page.set_viewport_size({"width": 1000, "height": 1150})
    page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    page.wait_for_timeout(200)
    page.screenshot(path=screens / "pagina.png")
    assert page.evaluate("document.activeElement.tagName") == "ARTICLE"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Ver todas"
    page.keyboard.press("Enter")
    expect(page.locator(".bars").first.get_by_role("listitem")).to_have_count(10)
    page.get_by_role("button", name="Limpar").press("Enter")
    expect(page.locator("article")).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "files"


def test_no_answer_is_called_certain_and_each_number_stands_once(page, shipped):
    page.goto(shipped.as_uri())
    page.evaluate("window.said = [1, 0.99951, 0.9994, 0.5, 0.0006, 0.0004, 0].map(shareOf)")
    expected = ["mais de 99,9%", "mais de 99,9%", "99,9%", "50,0%", "0,1%", "menos de 0,1%", "menos de 0,1%"]
    assert page.evaluate("window.said") == expected
    page.get_by_role("button", name="Exemplo: Navio").click()
    card = page.locator("article", has=page.locator("h2"))
    expect(card).to_contain_text("Navio")
    texts = card.evaluate("(card) => card.innerText.split('\\n').filter((line) => line.includes('%'))")
    assert len(texts) == 3 and len(set(texts) - {"menos de 0,1%"}) == len(texts) - texts.count("menos de 0,1%")


def test_what_the_network_does_not_see_of_a_photo_is_darkened(page, shipped, tmp_path):
    Image.new("RGB", (300, 200), "white").save(tmp_path / "larga.png")
    page.goto(shipped.as_uri())
    page.locator("input[type=file]").set_input_files(tmp_path / "larga.png")
    photo = page.locator("article canvas").first
    expect(photo).to_be_visible()
    levels = photo.evaluate(
        """(canvas) => [10, 45, 100, 240, 290].map((x) => canvas.getContext("2d").getImageData(x, 100, 1, 1).data[0])"""
    )
    assert [level < 130 for level in levels] == [True, True, False, False, True]


@pytest.mark.parametrize(("width", "height", "scheme"), [(360, 640, "dark"), (740, 360, "light"), (1400, 800, "light")])
def test_axe_finds_nothing_and_it_fits(browser, shipped, tmp_path, width, height, scheme):
    (tmp_path / "texto-com-um-nome-bastante-comprido-para-uma-tela-estreita.png").write_text("não sou uma imagem")
    flower = tmp_path / "flor.jpg"
    Image.fromarray(load_sample_images().images[1]).save(flower)
    Image.effect_noise((300, 200), 40).save(tmp_path / "ruído.png")
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, locale="pt-BR")
    page.goto(shipped.as_uri())
    expect(page.locator("#flow figure")).to_have_count(5)
    found = [Axe().run(page)]
    files = [*tmp_path.glob("*.png"), flower, PHOTOS / "navio.png", PHOTOS / "gato.png"]
    page.locator("input[type=file]").set_input_files(files)
    expect(page.locator("article h2")).to_have_count(4, timeout=30_000)
    page.get_by_role("button", name="Ver todas").first.click()
    found.append(Axe().run(page))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Câmera").click()
    expect(page.locator("#live li")).to_have_count(3)
    found.append(Axe().run(page))
    page.get_by_role("button", name="Fechar").click()
    page.get_by_role("button", name="Jogar").click()
    page.locator("#choices button").first.click()
    found.append(Axe().run(page))
    page.close()
    assert [result.generate_report() for result in found if result.violations_count] == []


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize(("width", "height"), [(360, 640), (390, 844), (740, 360)])
def test_on_a_phone_the_answer_comes_into_sight(browser, shipped, tmp_path, screens, width, height, noisy):
    size = {"width": width, "height": height}
    context = browser.new_context(viewport=size, has_touch=True, is_mobile=True, locale="pt-BR")
    page = context.new_page()
    if noisy:
        page.add_init_script(NOISE)
    page.goto(shipped.as_uri())
    expect(page.get_by_role("button", name="Câmera")).to_be_in_viewport(ratio=1)
    expect(page.get_by_text("Ctrl+V")).to_be_hidden()
    Image.new("RGB", (300, 200), "green").save(tmp_path / "de que a rede duvida.png")
    for photo in (PHOTOS / "gato.png", tmp_path / "de que a rede duvida.png"):
        page.locator("input[type=file]").set_input_files(photo)
        card = page.locator("article").first
        expect(card.locator(".name").first).to_have_text(photo.name)
        expect(card.locator(".warning")).to_have_count(noisy + photo.name.startswith("de que"))
        page.wait_for_timeout(800)  # it scrolls
        expect(card.locator("h2")).to_be_in_viewport(ratio=1)
        expect(card.locator(".bars")).to_be_in_viewport(ratio=1)
        if width < height:
            expect(card.locator(".pictures")).to_be_in_viewport(ratio=1)
    page.screenshot(path=screens / f"celular-{width}-{noisy}.png")
    if noisy:
        context.close()
        return
    page.get_by_role("button", name="Câmera").tap()
    for name in ("Fotografar", "Fechar"):
        expect(page.get_by_role("button", name=name)).to_be_in_viewport(ratio=1)
    expect(page.locator("#live")).to_be_in_viewport(ratio=1)
    page.get_by_role("button", name="Fechar").tap()
    page.get_by_role("button", name="Jogar").tap()
    page.locator("#choices button").first.tap()
    expect(page.get_by_role("button", name="Próxima")).to_be_in_viewport(ratio=1)
    small = page.evaluate(
        """[...document.querySelectorAll("button, .button")].filter(
            (one) => one.checkVisibility() && one.getBoundingClientRect().height < 36).map((one) => one.textContent)"""
    )
    assert small == []
    context.close()


def test_the_network_sees_what_pillow_makes_of_transparency_and_of_16_bits_to_the_byte(visitor, shipped, tmp_path):
    rng = np.random.default_rng(0)
    for mode, channels in (("RGBA", 4), ("LA", 2)):
        noise = rng.integers(0, 256, (50, 90, channels), dtype=np.uint8)
        Image.fromarray(noise, mode).save(tmp_path / f"{mode}-ruído.png")
        smooth = np.linspace(0, 255, 50 * 90 * channels).astype(np.uint8).reshape(50, 90, channels)  # other filters
        Image.fromarray(smooth, mode).save(tmp_path / f"{mode}-liso.png", optimize=True)
    for channels in (1, 2, 3, 4):
        noise = rng.integers(0, 65536, (50, 90, channels))
        for bits in (16, 12, 9):
            (tmp_path / f"{channels}-{bits}.png").write_bytes(png16(noise >> (16 - bits)))
    paths = sorted(tmp_path.iterdir())
    visitor.open(shipped.as_uri())
    visitor.choose(*paths)
    visitor.wait_for_cards(len(paths))
    seen = visitor.run(
        """return [...document.querySelectorAll("article canvas")].filter(
            (canvas) => canvas.getAttribute("aria-label") === "O que a rede vê").map(
            (canvas) => [...canvas.getContext("2d").getImageData(0, 0, 32, 32).data])"""
    )
    for path, found in zip(paths, seen, strict=True):
        square = np.array(found).reshape(32, 32, 4)[..., :3].transpose(2, 0, 1)
        assert (square == to_tensor(open_image(path)).numpy()).all(), path.name
