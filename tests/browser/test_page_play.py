"""What the page is shared for: the live camera, the game, the drawing of the network, a picture of an answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect

from classificador import load_model, predict_image
from classificador.apps.page import Wishes, make_page
from classificador.data.dataset import ImageData, Split
from classificador.network.cnn import CNN, make_network
from classificador.network.model_info import info_of, set_info
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
    expect(page.get_by_role("status").first).to_contain_text("A câmera não foi permitida, pelo navegador ou pelo site.")
    expect(page.get_by_role("status").first).to_be_in_viewport()
    expect(page.get_by_role("button", name="Câmera")).to_be_enabled()


def test_the_other_camera_is_asked_for_and_shown_as_a_mirror(page, shipped):
    page.add_init_script(
        """const media = navigator.mediaDevices, real = media.getUserMedia.bind(media);
        window.asked = [];
        media.getUserMedia = async (wanted) => {
            window.asked.push(wanted.video);
            const stream = await real({ video: true });
            stream.getVideoTracks()[0].getSettings = () => wanted.video;
            return stream;
        };
        media.enumerateDevices = async () => ["a", "b"].map((deviceId) => ({ kind: "videoinput", deviceId }));"""
    )
    page.goto(shipped.as_uri())
    page.get_by_role("button", name="Câmera").click()
    page.get_by_role("button", name="Trocar", exact=True).click()
    expect(page.locator("#viewfinder")).to_have_class("mirror")
    expect(page.get_by_role("button", name="Fotografar")).to_be_enabled()
    assert page.evaluate("window.asked") == [{"facingMode": "environment"}, {"facingMode": "user"}]
    # A computer's cameras do not say where they look: the next one is asked for by its name.
    page.evaluate("video.srcObject.getVideoTracks()[0].getSettings = () => ({ deviceId: 'b' })")
    page.get_by_role("button", name="Trocar", exact=True).click()
    expect(page.get_by_role("button", name="Fotografar")).to_be_enabled()
    assert page.evaluate("window.asked.at(-1)") == {"deviceId": {"exact": "a"}}
    page.evaluate("video.srcObject.getVideoTracks()[0].onended()")  # unplugged, or another program's
    expect(page.locator("#viewfinder")).to_be_hidden()
    expect(page.get_by_role("status").first).to_contain_text("A câmera não pôde ser usada (ela parou).")


def test_a_camera_that_comes_too_late_is_let_go(page, shipped):
    page.add_init_script(
        """const media = navigator.mediaDevices, real = media.getUserMedia.bind(media);
        window.streams = [];
        media.getUserMedia = async () => {
            const stream = await real({ video: true });
            window.streams.push(stream);
            if (window.streams.length > 1) await new Promise((resolve) => setTimeout(resolve, 300));
            return stream;
        };
        media.enumerateDevices = async () => ["a", "b"].map((deviceId) => ({ kind: "videoinput", deviceId }));"""
    )
    page.goto(shipped.as_uri())
    live = "window.streams.filter((stream) => stream.getTracks()[0].readyState === 'live').length"
    page.get_by_role("button", name="Câmera").click()
    other = page.get_by_role("button", name="Trocar", exact=True)
    other.click()
    other.click()  # impatient
    expect(page.get_by_role("button", name="Fotografar")).to_be_enabled()
    assert page.evaluate(live) == 1
    other.click()
    page.get_by_role("button", name="Fechar").click()
    page.wait_for_timeout(600)
    expect(page.locator("#viewfinder")).to_be_hidden()
    assert page.evaluate(live) == 0
    assert "pôde" not in page.get_by_role("status").first.inner_text()


def test_the_game_is_left_and_begun_again(page, shipped):
    page.goto(shipped.as_uri())
    for _ in range(2):
        page.get_by_role("button", name="Jogar").click()
        page.keyboard.press("Escape")
    page.get_by_role("button", name="Jogar").click()
    expect(page.locator("#round")).to_have_text("Foto 1 de 10: o que é?")
    expect(page.locator("#choices button")).to_have_count(3)
    assert page.evaluate(
        "[...byId('choices').children].map((one) => Number(one.dataset.label)).includes(deck[0].label)"
    )


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
        assert ("Fim: " in verdict) == (turn == 10)
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


def test_of_many_classes_all_can_be_reached(page, screens, tmp_path):
    names = [f"Classe de nome comprido número {i}" for i in range(40)]
    model = make_network(CNN, classes=40, channels=(4, 8), hidden=16).eval()
    set_info(model, replace(info_of(model), classes=tuple(names)))
    split = Split(torch.zeros(40, 3, 32, 32, dtype=torch.uint8), torch.arange(40))
    path = tmp_path / "m.html"
    path.write_text(make_page(model, ImageData(split, split, split, tuple(names)), Wishes(examples=True)), "utf-8")
    page.set_viewport_size({"width": 360, "height": 640})
    page.goto(path.as_uri())
    expect(page.locator("#chips button.chip:visible")).to_have_count(12)
    page.get_by_role("button", name="Ver as outras 28").press("Enter")
    expect(page.locator("#chips button.chip:visible")).to_have_count(40)
    page.keyboard.press("Enter")  # on the first of those that came
    expect(page.locator("article")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(page.locator(".thin li")).to_have_count(11)
    page.evaluate("scrollTo(0, 0)")
    page.get_by_role("button", name="Jogar").click()
    for _ in range(2):
        page.locator("#choices button").first.click()
        page.screenshot(path=screens / "jogo-nomes.png")
        for part in ("#riddle", "#verdict", "#next"):
            expect(page.locator(part)).to_be_in_viewport(ratio=1)
        page.locator("#next").click()


def test_the_drawing_follows_the_last_picture(visitor, shipped):
    visitor.open(shipped.as_uri())
    visitor.wait("document.querySelectorAll('#flow figure').length === 5")  # of an example, at first
    best = "return document.querySelector('.thin .best bdi').textContent"
    drawn = "return [...document.querySelectorAll('#flow canvas')].map((canvas) => canvas.toDataURL())"
    before = visitor.run(drawn)
    visitor.choose(PHOTOS / "navio.png")
    visitor.wait_for_cards(1)
    assert visitor.run(best) == "Navio"
    after = visitor.run(drawn)
    assert len(after) == 4 and all(one != other for one, other in zip(before, after, strict=True))
    captions = visitor.run("return [...document.querySelectorAll('#flow figcaption')].map((one) => one.textContent)")
    first, second = load_model(ROOT / "best_model.pth").info.architecture["channels"]
    assert captions[2:4] == [f"1ª convolução8 de {first} filtros", f"2ª convolução8 de {second} filtros"]


def test_an_answer_is_saved_as_a_picture(page, shipped, tmp_path):
    page.goto(shipped.as_uri())
    page.locator("input[type=file]").set_input_files(PHOTOS / "navio.png")
    with page.expect_download() as download:
        page.get_by_role("button", name="Salvar como imagem").click()
    assert download.value.suggested_filename == "Navio.png"
    download.value.save_as(tmp_path / "cartao.png")
    with Image.open(tmp_path / "cartao.png") as card:
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
    while not (shared := page.evaluate("window.shared")):
        page.wait_for_timeout(50)
    name, kind, size = shared
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
