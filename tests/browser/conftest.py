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

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # of the system; else the one playwright installed
FIREFOX = ("firefox-esr", "firefox")  # Debian has a script of the second name


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Each process gets the tests of JupyterLab, or of the page in one of the browsers, as a whole.

    Marionette, while it waits for Firefox to start, leaves sockets to the garbage collector, which warns of each.
    """
    for item in items:
        firefox = "[firefox]" in item.name
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


@pytest.fixture
def screens(tmp_path) -> Path:
    return Path(os.environ.get("TELAS", tmp_path))


class Visitor:
    """What a visitor of a page does and sees, in any browser."""

    def __init__(self, page):
        self.page = page

    def open(self, address: str) -> None:
        self.page.goto(address)

    def run(self, body: str, *arguments):
        """What an asynchronous function in the page returns; its arguments are `given`."""
        return self.page.evaluate(f"async (given) => {{ {body} }}", list(arguments))

    def choose(self, *paths: Path) -> None:
        """Give files to the page's chooser."""
        self.page.locator("input[type=file]").set_input_files(paths)

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + seconds
        while not self.run(f"return {condition}"):
            assert time.monotonic() < end, f"{condition}: {self.run('return document.body.innerText')}"
            time.sleep(0.05)

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


@pytest.fixture(scope="session")
def firefox(free_port):
    path = next(filter(None, map(shutil.which, FIREFOX)), None)
    if path is None:
        pytest.fail("Falta o Firefox: no Debian, apt-get install firefox-esr.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what it imports calls what is out of date
        from marionette_driver.marionette import Marionette
    camera = {"media.navigator.streams.fake": True, "media.navigator.permission.disabled": True}
    prefs = {"intl.accept_languages": "pt-BR", **camera}
    client = Marionette(bin=os.path.realpath(path), port=free_port(), headless=True, gecko_log="-", prefs=prefs)
    client.start_session()
    client.timeout.script = 60
    yield client
    client.quit()


@pytest.fixture(params=["chromium", "firefox"])
def visitor(request) -> Visitor:
    if request.param == "firefox":
        return FirefoxVisitor(request.getfixturevalue("firefox"))
    return Visitor(request.getfixturevalue("page"))
