"""The page of `python -m classificador demo`, used as a visitor would."""

import re
import signal
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from conftest import ROOT


@pytest.fixture(scope="module")
def server():
    command = [sys.executable, "-m", "classificador", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.parametrize("language", ["pt-BR", "en-US"])
def test_the_page_is_in_portuguese_and_asks_nobody_else(browser, server, language):
    page, asked = browser.new_page(locale=language), set()
    page.on("request", lambda request: asked.add(request.url))
    page.goto(server)
    expect(page.get_by_text("Solte")).to_be_visible()
    expect(page.get_by_text(re.compile("Clique para"))).to_be_visible()
    assert not re.search("Drop|Click|Upload|Built with", page.inner_text("body"))
    assert page.evaluate("document.documentElement.lang") == "pt-BR"
    assert all(url.startswith((server, "data:", "blob:")) for url in asked), asked
    page.close()


def test_an_example_is_answered_by_keyboard(page, server, screens):
    page.goto(server)
    expect(page.get_by_text("Solte")).to_be_visible()
    page.keyboard.press("Tab")  # the file
    for _ in range(4):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the fourth example, a cat
    expect(page.get_by_role("heading", name=re.compile(r"Gato, \d"))).to_be_visible()
    picture = page.locator("img[src^='data:image']").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 500
    page.mouse.move(0, 0)
    page.screenshot(path=screens / "demo.png", clip={"x": 0, "y": 0, "width": 1100, "height": 680})


def test_an_uploaded_picture_is_answered_and_a_bad_one_told(page, server):
    page.goto(server)
    page.locator("input[type=file]").set_input_files(ROOT / "docs" / "fotos" / "navio.png")
    expect(page.get_by_role("heading", name=re.compile(r"Navio, \d"))).to_be_visible()
    page.get_by_label("Limpar").click()
    expect(page.get_by_role("heading", name=re.compile("Navio"))).to_have_count(0)
    page.locator("input[type=file]").set_input_files(ROOT / "README.md")
    expect(page.get_by_text("README.md não é uma imagem")).to_be_visible()


def test_it_listens_on_this_machine_alone(server):
    import psutil

    port = int(server.rpartition(":")[2])
    assert {c.laddr.ip for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == "LISTEN"} == {
        "127.0.0.1"
    }
