"""The notebook's prediction section in JupyterLab, used as a student would."""

import base64
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request

import pytest
from PIL import Image
from playwright.sync_api import expect

from classificador.show.own_pictures import PictureBox
from conftest import ROOT


@pytest.fixture(scope="module")
def lab(tmp_path_factory, free_port):
    """The address of the notebook in a JupyterLab on a copy of the project."""
    folder = tmp_path_factory.mktemp("projeto")
    for name in ("Pytorch.ipynb", "best_model.pth"):
        shutil.copy(ROOT / name, folder)
    (folder / "data").symlink_to(ROOT / "data")
    port = free_port()
    options = [f"--ServerApp.root_dir={folder}", f"--ServerApp.port={port}", "--IdentityProvider.token="]
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *options],
        cwd=folder,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=1).close()
            break
        except OSError:
            time.sleep(0.3)
    yield f"{address}/lab/tree/Pytorch.ipynb"
    process.terminate()
    process.wait(20)


def test_photos_that_wait_for_a_busy_kernel_are_named_and_have_their_turn(page, tmp_path):
    """The box in a page of its own, with a kernel that answers when it is told to."""
    page.clock.install()
    page.goto("about:blank")
    page.evaluate(
        """async (code) => {
            const { default: box } = await import(`data:text/javascript,${encodeURIComponent(code)}`);
            self.sent = [];
            const send = ({ name, start }) => sent.push(`${name} ${start}`);
            const model = { on: (_, act) => { self.answer = act; }, send };
            box.render({ model, el: document.body });
        }""",
        PictureBox._esm,
    )
    for name, size in (("a.png", 1), ("b.png", 300_000), ("c.png", 1)):
        (tmp_path / name).write_bytes(b"x" * size)
    page.locator("input").set_input_files([tmp_path / "a.png", tmp_path / "b.png"])
    status = page.locator("p")
    expect(status).to_have_text("Recebendo a.png…")
    page.clock.fast_forward(10_500)
    expect(status).to_contain_text("A foto a.png ainda não chegou: o kernel está ocupado")
    expect(status).to_contain_text("Esperam por ela: b.png.")
    page.evaluate("answer()")  # the cell is over
    expect(status).to_have_text("Recebendo b.png…")
    page.clock.fast_forward(10_500)  # the connection has lost the first of its two pieces
    page.locator("input").set_input_files(tmp_path / "c.png")
    expect(status).to_have_text("Recebendo c.png…")
    page.evaluate("answer()")
    for count in (4, 5):  # the other begins anew, and has two pieces
        page.wait_for_function(f"sent.length === {count}")
        page.evaluate("answer()")
    expect(status).to_have_text("")
    assert page.evaluate("sent") == ["a.png 0", "b.png 0", "c.png 0", "b.png 0", "b.png 262144"]


def drop(page, path):
    """Drop a file on the notebook's box for pictures, as from a folder's window."""
    content = base64.b64encode(path.read_bytes()).decode()
    files = page.evaluate_handle(
        """([content, name]) => {
            const files = new DataTransfer();
            files.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
            return files;
        }""",
        [content, path.name],
    )
    page.locator(".classificador-fotos").dispatch_event("drop", {"dataTransfer": files})


def test_the_prediction_section_and_own_pictures(page, lab, tmp_path):
    news = page.get_by_text("get notified about official Jupyter news")
    page.add_locator_handler(news, lambda: page.get_by_role("button", name="No", exact=True).click())
    page.goto(lab)
    page.get_by_role("heading", name="Classificador de imagens com PyTorch").wait_for()
    page.keyboard.press("Control+Shift+K")  # the table of contents
    page.locator(".jp-tocItem-content", has_text="2 Predição").click()
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
    page.get_by_text("Run Selected Cell and All Below").click()

    box = page.locator(".classificador-fotos")
    expect(box).to_be_visible(timeout=240_000)  # the last cell but one
    # The notebook is at its end: the cells above show no error.
    assert page.locator(".jp-OutputArea-output", has_text=re.compile("Error: |Traceback")).count() == 0

    results = page.locator(".jp-OutputArea", has=page.locator(".classificador-fotos"))
    box.locator("input").set_input_files(ROOT / "docs" / "fotos" / "navio.png")
    expect(results.get_by_text("navio.png: Navio")).to_be_visible()
    figure = results.locator("img")
    expect(figure).to_have_count(1)
    assert figure.evaluate("image => image.naturalWidth") > 500

    noise = Image.effect_noise((3600, 3600), 80).convert("RGB")  # about as large as photos come
    noise.save(tmp_path / "grande.png", compress_level=1)
    assert (tmp_path / "grande.png").stat().st_size > 11e6
    (tmp_path / "texto.png").write_text("isto não é uma imagem")
    for name, words in (("grande.png", "grande.png: "), ("texto.png", "texto.png não é uma imagem")):
        drop(page, tmp_path / name)
        expect(results.get_by_text(words)).to_be_visible(timeout=30_000)
    expect(figure).to_have_count(2)
    drop(page, ROOT / "docs" / "fotos" / "gato.png")
    drop(page, ROOT / "docs" / "fotos" / "sapo.png")  # while the one before is on its way
    for words in ("gato.png: Gato", "sapo.png: Sapo"):
        expect(results.get_by_text(words)).to_be_visible()
    expect(figure).to_have_count(4)


def test_the_notebook_as_a_page_cuts_no_code_on_paper_and_has_its_texts(page, tmp_path):
    line = next(line for line in (ROOT / "docs" / "avancado.md").read_text("utf-8").splitlines() if "nbconvert" in line)
    command = re.search("python -m (.*) Pytorch.ipynb`", line)[1].split()
    shutil.copy(ROOT / "Pytorch.ipynb", tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    subprocess.run([sys.executable, "-m", *command, "Pytorch.ipynb"], cwd=tmp_path, check=True, capture_output=True)
    page.set_viewport_size({"width": 680, "height": 1000})  # A4 between its margins
    page.emulate_media(media="print")
    page.goto((tmp_path / "Pytorch.html").as_uri())
    wide = page.evaluate("""() => [...document.querySelectorAll("pre, .input_area")].filter(
        (part) => part.scrollWidth > part.clientWidth + 1 || part.getBoundingClientRect().right > innerWidth
    ).map((part) => part.innerText.slice(0, 80))""")
    assert wide == []
    texts = page.evaluate("[...document.images].map((image) => image.alt)")
    assert len(texts) == 18 and all(len(text) > 20 and "No description" not in text for text in texts)
    assert page.evaluate("[...document.images].every((image) => image.src.startsWith('data:'))")
    expect(page.get_by_text("Aqui se arrastam fotos, depois de executar esta célula.")).to_be_visible()
    answer = page.locator("details").first
    assert not answer.locator("p").is_visible()
    answer.locator("summary").click()
    expect(answer.locator("p")).to_be_visible()
