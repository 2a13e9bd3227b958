"""Browsers without a screen. Their screenshots go to docs/ with TELAS=docs, otherwise to a temporary folder."""

import base64
import os
import shutil
import socket
import time
import warnings
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from classificador import load_data, load_model
from classificador.apps.page import make_page

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # of the system; else the one playwright installed
FIREFOX = ("firefox-esr", "firefox")  # Debian has a script of the second name


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Each process gets the tests of JupyterLab, or of the page in one of the browsers, as a whole.

    Marionette, while it waits for Firefox to start, leaves sockets to the garbage collector, which warns of each.
    """
    for item in items:
        firefox = "[firefox" in item.name or "private_firefox" in item.fixturenames
        item.add_marker(pytest.mark.xdist_group("firefox" if firefox else item.module.__name__))
        if firefox:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(scope="session")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    arguments = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a camera
    arguments += ["--no-sandbox"] if os.getuid() == 0 else []  # Chromium's sandbox does not work for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1100, "height": 900}, locale="pt-BR")
    page.set_default_timeout(30_000)
    yield page
    page.close()


# A browser that changes what a page reads of a canvas, slightly, so that its visitor is not recognised by it.
NOISE = """const real = CanvasRenderingContext2D.prototype.getImageData;
CanvasRenderingContext2D.prototype.getImageData = function (...given) {
    const image = real.apply(this, given);
    for (let i = 0; i < image.data.length; i += 7) image.data[i] ^= 1;
    return image;
};"""


@pytest.fixture
def screens(tmp_path) -> Path:
    return Path(os.environ.get("TELAS", tmp_path))


@pytest.fixture(scope="session")
def data():
    return load_data(ROOT / "data")


@pytest.fixture(scope="session")
def shipped(tmp_path_factory, data) -> Path:
    """The page of the shipped model."""
    path = tmp_path_factory.mktemp("página com espaço") / "m.html"
    path.write_text(make_page(load_model(ROOT / "best_model.pth"), data), "utf-8")
    assert path.stat().st_size < 8e6
    return path


class Visitor:
    """What a visitor of a page does and sees, in any browser."""

    def __init__(self, page):
        self.page = page

    def open(self, address: str) -> None:
        self.page.goto(address)

    def run(self, body: str, *arguments):
        """What an asynchronous function in the page returns; its arguments are `given`."""
        return self.page.evaluate(f"async (given) => {{ {body} }}", list(arguments))

    def run_in_frame(self, body: str):
        """What run() returns within the page's only frame."""
        self.page.wait_for_timeout(2000)
        return self.page.frames[1].evaluate(f"async () => {{ {body} }}")

    def choose(self, *paths: Path) -> None:
        """Give files to the page's chooser."""
        self.page.locator("input[type=file]").set_input_files(paths)

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + seconds
        while not self.run(f"return {condition}"):
            assert time.monotonic() < end, f"{condition}: {self.run('return document.body.innerText')}"
            time.sleep(0.05)

    def wait_for_cards(self, count: int) -> None:
        """Wait until there are so many cards, and none of them waits for its answer."""
        cards, open_ones = (f"document.querySelectorAll('article{part}').length" for part in ("", " .soft"))
        self.wait(f"{cards} === {count} && !{open_ones}")

    def answers(self) -> dict[str, tuple[str, float]]:
        """The class and its probability for each picture that has one, by the file's name."""
        cards = self.run(
            """const cards = [...document.querySelectorAll("article")].filter((card) => card.querySelector("h2"));
            return cards.map((card) => [
                card.querySelector(".name").textContent, card.querySelector("h2").textContent,
                parseFloat(card.querySelector(".bars li").style.getPropertyValue("--share")) / 100])"""
        )
        return {name: (best, share) for name, best, share in cards}

    def drop(self, paths: list[Path], event: str = "drop", carrier: str = "dataTransfer") -> None:
        """Drop files on the page, or paste them."""
        self.run(
            """const [files, event, carrier] = given, transfer = new DataTransfer();
            for (const [name, content] of files) {
                const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type: "image/png" }));
            }
            const target = document.querySelector("main");
            const happening = new Event(event, { bubbles: true, cancelable: true });
            Object.defineProperty(happening, carrier, { value: transfer }); // no browser fills a clipboard for a test
            target.dispatchEvent(happening);
            """,
            [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths],
            event,
            carrier,
        )


class FirefoxVisitor(Visitor):
    """The same in Firefox, whose own remote control is Marionette."""

    def open(self, address: str) -> None:
        self.page.navigate(address)

    def run(self, body: str, *arguments):
        script = (
            "const given = arguments[0], done = arguments[1];"
            f"(async () => {{ {body} }})().then((value) => done([value ?? null]), (error) => done(String(error)))"
        )
        answer = self.page.execute_async_script(script, [list(arguments)], sandbox=None)
        assert isinstance(answer, list), answer
        return answer[0]

    def run_in_frame(self, body: str):
        time.sleep(2)
        self.page.switch_to_frame(0)
        try:
            return self.run(body)
        finally:
            self.page.switch_to_default_content()

    def choose(self, *paths: Path) -> None:
        chooser = self.page.find_element("css selector", "input[type=file]")
        chooser.send_keys("\n".join(map(str, paths)))


@pytest.fixture(scope="session")
def free_port():
    """A function that returns the number of a port that nothing listens on."""

    def find() -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return free.getsockname()[1]

    return find


def start_firefox(port: int, **prefs):
    """A Firefox with a camera, by its remote control."""
    path = next(filter(None, map(shutil.which, FIREFOX)), None)
    if path is None:
        pytest.fail("Falta o Firefox: no Debian, apt-get install firefox-esr.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what it imports calls what is out of date
        from marionette_driver.marionette import Marionette
    camera = {"media.navigator.streams.fake": True, "media.navigator.permission.disabled": True}
    prefs = {"intl.accept_languages": "pt-BR", **camera} | prefs
    client = Marionette(bin=os.path.realpath(path), port=port, headless=True, gecko_log="-", prefs=prefs)
    client.start_session()
    client.timeout.script = 60
    return client


@pytest.fixture(scope="session")
def firefox(free_port):
    client = start_firefox(free_port())
    yield client
    client.quit()


@pytest.fixture
def private_firefox(free_port) -> "FirefoxVisitor":
    """A visitor whose Firefox protects from fingerprinting."""
    client = start_firefox(free_port(), **{"privacy.resistFingerprinting": True})
    yield FirefoxVisitor(client)
    client.quit()


@pytest.fixture(params=["chromium", "firefox"])
def visitor(request) -> Visitor:
    if request.param == "firefox":
        return FirefoxVisitor(request.getfixturevalue("firefox"))
    return Visitor(request.getfixturevalue("page"))
