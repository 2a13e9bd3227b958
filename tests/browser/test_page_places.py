"""The page where browsers, sites and programs have rules of their own."""

import http.server
import re
import threading
from functools import partial

import pytest
from PIL import Image
from playwright.sync_api import expect
from sklearn.datasets import load_sample_images

from classificador import load_model, predict_image
from conftest import NOISE, ROOT, Visitor

PHOTOS = ROOT / "docs" / "fotos"


class Site(http.server.BaseHTTPRequestHandler):
    """A site with one page, and rules for it; /frame holds it in a frame."""

    def __init__(self, content: bytes, rules: str, frame: str, *given):
        self.content, self.rules, self.frame = content, rules, frame
        super().__init__(*given)

    def do_GET(self):
        is_frame = self.path == "/frame"
        content = f"<iframe {self.frame} width=900 height=700 src='/'></iframe>".encode() if is_frame else self.content
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        if self.rules and not is_frame:
            self.send_header("Content-Security-Policy", self.rules)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def site(shipped):
    """A function that puts the shipped page on a site with these rules, and returns its address."""
    servers = []

    def serve(rules: str = "", frame: str = "") -> str:
        handler = partial(Site, shipped.read_bytes(), rules, frame)
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("rules", ["worker-src 'none'", "img-src 'none'", "script-src 'unsafe-inline'", ""])
def test_a_sites_rules_leave_the_answers_as_they_are(visitor, site, rules):
    visitor.open(site(rules))
    visitor.choose(PHOTOS / "gato.png", PHOTOS / "navio.png")
    visitor.wait_for_cards(2)
    expected = predict_image(load_model(ROOT / "best_model.pth"), PHOTOS / "gato.png")["Gato"]
    best, share = visitor.answers()["gato.png"]
    assert best == "Gato" and abs(share - expected) < 0.01
    visitor.wait("!document.querySelector('article [aria-busy]')")  # the map, too
    assert "não pôde" not in visitor.run("return document.getElementById('results').textContent")


@pytest.mark.parametrize("heard", ["false", "message.model"])
def test_workers_that_a_browser_ends_without_a_word_are_not_waited_for(page, shipped, heard):
    page.add_init_script(
        f"""self.Worker = class extends Worker {{
            postMessage(message) {{ if ({heard}) super.postMessage(message); }}
        }}"""
    )
    page.clock.install()
    page.goto(shipped.as_uri())
    visitor = Visitor(page)
    visitor.choose(PHOTOS / "gato.png")
    page.wait_for_timeout(1500)  # for those that say that they are ready
    assert visitor.answers() == {}
    for _ in range(3):  # the workers, one after the other
        page.clock.fast_forward(31_000)
        page.wait_for_timeout(300)
    visitor.wait_for_cards(1)
    assert visitor.answers()["gato.png"][0] == "Gato"


def expect_asleep(page) -> None:
    """Expect a page that says what to do, and shows nothing that would do nothing."""
    page.wait_for_timeout(1200)
    paragraph = page.locator("#asleep")
    expect(paragraph).to_be_visible()
    for word in ("JavaScript", "iPhone", "Trust HTML", "cópia", "regras"):
        expect(paragraph).to_contain_text(word)
    expect(page.get_by_role("button")).to_have_count(0)
    assert page.locator("#app").is_hidden()


def test_a_page_whose_scripts_do_not_run_says_what_to_do(browser, page, site, shipped):
    page.goto(site("script-src 'none'"))
    expect_asleep(page)
    context = browser.new_context(java_script_enabled=False)
    without = context.new_page()
    without.goto(shipped.as_uri())
    expect_asleep(without)
    context.close()
    page.goto(f"{site('', 'sandbox')}frame")  # as JupyterLab shows it before it is trusted
    expect_asleep(page.frames[1])


def test_a_frame_without_a_camera_has_no_button_for_it(visitor, site):
    visitor.open(f"{site('', 'sandbox=allow-scripts')}frame")
    hidden = visitor.run_in_frame(
        "const of = (id) => document.getElementById(id).hidden; return [of('app'), of('camera')]"
    )
    assert hidden == [False, True]


def test_a_page_saved_in_use_is_as_new_when_it_is_opened_again(page, shipped, tmp_path):
    page.goto(shipped.as_uri())
    page.get_by_role("button", name="Exemplo: Gato").click()
    expect(page.locator("article h2")).to_be_visible()
    (tmp_path / "salva.html").write_text(page.content(), "utf-8")
    page.goto((tmp_path / "salva.html").as_uri())
    expect(page.locator("#chips li")).to_have_count(10)
    expect(page.locator("article")).to_have_count(0)
    expect(page.get_by_role("button", name="Limpar")).to_be_hidden()
    expect(page.locator("#flow figure")).to_have_count(5)
    page.get_by_role("button", name="Exemplo: Navio").click()
    expect(page.locator("article h2")).to_have_text("Navio")


def test_a_copy_without_scripts_says_so(page, shipped, tmp_path):
    page.goto(shipped.as_uri())
    page.get_by_role("button", name="Exemplo: Gato").click()
    expect(page.locator("article h2")).to_be_visible()
    expect(page.locator("#asleep")).to_be_hidden()
    copy = page.context.new_cdp_session(page).send("Page.captureSnapshot")["data"]  # as Android's Chrome saves a page
    (tmp_path / "salva.mhtml").write_text(copy, newline="")
    page.goto((tmp_path / "salva.mhtml").as_uri())
    expect(page.locator("#asleep")).to_be_visible()


def test_a_browser_that_hides_pictures_is_told_and_gets_no_answer(private_firefox, shipped):
    visitor = private_firefox
    visitor.open(shipped.as_uri())
    assert visitor.run("return document.getElementById('blind').checkVisibility()")
    visitor.choose(PHOTOS / "gato.png")
    visitor.run("document.getElementById('camera').click()")
    visitor.run("await new Promise((resolve) => setTimeout(resolve, 1000))")
    assert visitor.run("return document.querySelectorAll('article').length") == 0
    assert not visitor.run("return document.getElementById('viewfinder').open")
    # What needs no reading of canvases works: the examples' pixels are in the page.
    visitor.run("document.querySelectorAll('#chips button')[3].click()")
    visitor.wait_for_cards(1)
    assert next(iter(visitor.answers().values()))[0] == "Gato"


def test_a_browser_that_changes_pictures_a_little_is_told_with_how_far_an_answer_moves(page, shipped, tmp_path):
    page.add_init_script(NOISE)
    Image.fromarray(load_sample_images().images[1]).resize((36, 24)).save(tmp_path / "flor.png")
    page.goto(shipped.as_uri())
    expect(page.locator("#blind")).to_be_hidden()
    page.locator("input[type=file]").set_input_files(tmp_path / "flor.png")
    expect(page.locator("article h2")).to_be_visible()
    warning = page.locator("article .warning", has_text="Este navegador muda um pouco a foto")
    points = re.search(r"variar (\d+,\d) pontos? ou mais", warning.inner_text())
    assert 0 < float(points[1].replace(",", ".")) < 10
