"""What the page is shared for: the live camera, the game, the drawing of the network, a picture of an answer."""

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from classificador import load_model, predict_image
from classificador.apps.page import Wishes, make_page
from conftest import ROOT

PHOTOS = ROOT / "docs" / "fotos"


def test_the_camera_answers_live_and_a_photo_of_it_becomes_a_card(visitor, shipped):
    visitor.open(shipped.as_uri())
    visitor.run("const camera = document.getElementById('camera'); camera.click(); camera.click()")  # impatient
    visitor.wait("!document.getElementById('shoot').disabled")
    visitor.wait("Number(document.getElementById('viewfinder').dataset.answers) > 2")
    assert visitor.run("return document.querySelectorAll('#live li').length") == 3
    visitor.run("document.getElementById('shoot').click()")
    visitor.wait_for_cards(1)
    assert next(iter(visitor.answers())).startswith("Câmera, ")
    assert not visitor.run("return document.getElementById('viewfinder').open")
    assert visitor.run("return document.querySelector('video').srcObject") is None
    answers = visitor.run("return document.getElementById('viewfinder').dataset.answers")
    visitor.run("await new Promise((resolve) => setTimeout(resolve, 500))")
    assert visitor.run("return document.getElementById('viewfinder').dataset.answers") == answers  # it has stopped


def test_a_camera_that_is_refused_is_told_beside_the_buttons(page, shipped):
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); }"
    )
    page.goto(shipped.as_uri())
    page.get_by_role("button", name="Câmera").click()
    expect(page.get_by_role("status").first).to_contain_text("A câmera não foi permitida.")
    expect(page.get_by_role("status").first).to_be_in_viewport()
    expect(page.get_by_role("button", name="Câmera")).to_be_enabled()


def test_the_other_camera_is_asked_for_and_shown_as_a_mirror(page, shipped):
    page.add_init_script(
        """const media = navigator.mediaDevices, real = media.getUserMedia.bind(media);
        window.asked = [];
        media.getUserMedia = (wanted) => { window.asked.push(wanted.video.facingMode); return real({ video: true }); };
        media.enumerateDevices = async () => [{ kind: "videoinput" }, { kind: "videoinput" }];"""
    )
    page.goto(shipped.as_uri())
    page.get_by_role("button", name="Câmera").click()
    page.get_by_role("button", name="Trocar de câmera").click()
    expect(page.locator("#viewfinder")).to_have_class("mirror")
    expect(page.get_by_role("button", name="Fotografar")).to_be_enabled()
    assert page.evaluate("window.asked") == ["environment", "user"]
    assert page.evaluate("document.querySelector('video').srcObject.getTracks().length") == 1


def test_the_game_counts_for_both_and_tells_what_it_was(page, shipped, data):
    page.goto(shipped.as_uri())
    page.get_by_role("button", name="Jogar").press("Enter")
    model, right = load_model(ROOT / "best_model.pth"), 0
    networks = 0
    for turn in range(1, 11):
        expect(page.locator("#round")).to_have_text(f"Foto {turn} de 10: o que é?")
        expect(page.locator("#choices button:enabled")).to_have_count(3)
        page.keyboard.press("Enter")  # the first, whatever it is
        yours = page.locator("#choices button").first
        expect(page.locator("#verdict")).to_contain_text("era")
        truth = page.locator("#choices .right")
        expect(truth).to_have_count(1)
        right += yours.evaluate("(button) => button.className") == "right"
        pixels = page.evaluate("Array.from(deck[turn - 1].pixels)")
        square = np.array(pixels, np.uint8).reshape(3, 32, 32).transpose(1, 2, 0)
        best = next(iter(predict_image(model, square)))
        verdict = page.locator("#verdict").inner_text().replace("\u2068", "").replace("\u2069", "")
        assert f"era {truth.inner_text()}. A rede disse {best}, " in verdict
        networks += best == truth.inner_text()
        expect(page.locator("#score")).to_have_text(f"você {right} × {networks} rede")
        page.keyboard.press("Enter")
    expect(page.locator("#round")).to_have_text("Foto 1 de 10: o que é?")  # another game
    expect(page.locator("#score")).to_have_text("você 0 × 0 rede")
    page.keyboard.press("Escape")
    expect(page.locator("#game")).to_be_hidden()
    assert page.evaluate("document.activeElement.id") == "play"


def test_own_pictures_are_in_the_page_only_when_asked_for(page, data, tmp_path):
    model = load_model(ROOT / "best_model.pth")
    names = [f"coisa {i}" for i in range(10)]
    vars(model)["info"] = type(model.info).from_dict(model.info.to_dict() | {"classes": names})
    own = type(data)(data.train, data.val, data.test, tuple(names))
    for examples in (False, True):
        path = tmp_path / f"{examples}.html"
        path.write_text(make_page(model, own, Wishes("Minhas coisas", "Ana", examples)), "utf-8")
        page.goto(path.as_uri())
        expect(page.get_by_role("heading", level=1)).to_have_text("Minhas coisas")
        expect(page.get_by_role("button", name="Jogar")).to_be_visible(visible=examples)
        expect(page.locator("#chips canvas")).to_have_count(10 if examples else 0)
        expect(page.get_by_text("Feita por Ana.")).to_be_visible()


def test_the_drawing_follows_the_last_picture(visitor, shipped):
    visitor.open(shipped.as_uri())
    visitor.wait("document.querySelectorAll('#flow figure').length === 5")  # of an example, at first
    best = "return document.querySelector('.thin .best').textContent"
    drawn = "return [...document.querySelectorAll('#flow canvas')].map((canvas) => canvas.toDataURL())"
    before = visitor.run(drawn)
    visitor.choose(PHOTOS / "navio.png")
    visitor.wait_for_cards(1)
    assert visitor.run(best) == "Navio"
    after = visitor.run(drawn)
    assert len(after) == 4 and all(one != other for one, other in zip(before, after, strict=True))
    captions = visitor.run("return [...document.querySelectorAll('#flow figcaption')].map((one) => one.textContent)")
    assert captions[2:4] == ["1ª convolução: 8 de 128 filtros", "2ª convolução: 8 de 160 filtros"]


def test_an_answer_is_saved_as_a_picture(page, shipped, screens):
    page.goto(shipped.as_uri())
    page.locator("input[type=file]").set_input_files(PHOTOS / "navio.png")
    with page.expect_download() as download:
        page.get_by_role("button", name="Salvar como imagem").click()
    assert download.value.suggested_filename == "Navio.png"
    download.value.save_as(screens / "cartao.png")
    with Image.open(screens / "cartao.png") as card:
        assert card.size == (1080, 1350)
        small = card.convert("RGB").crop((740, 160, 1020, 440)).resize((32, 32), Image.Resampling.BOX)
    with Image.open(PHOTOS / "navio.png") as photo:
        assert np.abs(np.asarray(small, int) - np.asarray(photo.convert("RGB"), int)).mean() < 12  # what it sees


def test_where_there_is_sharing_the_picture_is_shared(page, shipped):
    page.add_init_script(
        """navigator.canShare = () => true;
        navigator.share = async ({ files: [file] }) => { window.shared = [file.name, file.type, file.size]; };"""
    )
    page.goto(shipped.as_uri())
    page.get_by_role("button", name="Exemplo: Sapo").click()
    page.get_by_role("button", name="Compartilhar").click()
    page.wait_for_timeout(500)
    name, kind, size = page.evaluate("window.shared")
    assert (name, kind) == ("Sapo.png", "image/png") and size > 10_000


@pytest.mark.parametrize("used", [False, True])
def test_leaving_a_page_with_answers_asks(page, shipped, used):
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.goto(shipped.as_uri())
    page.get_by_role("button", name="Exemplo: Sapo").click()
    expect(page.locator("article h2")).to_be_visible()
    if not used:
        page.get_by_role("button", name="Limpar").click()
    page.goto("about:blank")
    assert asked == (["beforeunload"] if used else [])
