"""How fast the page that classifies in a browser computes: `python -m benchmarks.page`.

The shipped model's page in the engine of Chromium, one thread: milliseconds of an answer and seconds of a map, medians
of ROUNDS; and the bytes of the file. Where playwright and Chromium are (`make test-browser` brings them), also what a
visitor has of it, with the page's workers: seconds from the answer to the whole map, and answers a second to a camera.
Prints a line and writes benchmarks/page.json.
"""

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from py_mini_racer import MiniRacer

from benchmarks import machine
from classificador import load_data, load_model
from classificador.apps.page import make_page, part_of
from classificador.data.dataset import ImageData
from classificador.results.predict import predict

ROUNDS = {"predict(pixels)": 30, "patches(32).starts.map((top) => network.cover(pixels, 3, top))": 5}
MAPS, FILMED = 5, 5  # pictures whose map is waited for; seconds before the camera
LEVELS = (1, 4, 16)  # of 255, by which a browser that protects from fingerprinting may change what a page reads
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


def main() -> None:
    """Time both and print them."""
    data = load_data(machine.ROOT / "data")
    page = make_page(load_model(machine.ROOT / "best_model.pth"), data)
    engine = MiniRacer()
    engine.eval(f"{part_of(page, 'network')}; {part_of(page, 'map')};")
    engine.eval(f"const network = makeNetwork({part_of(page, 'model')});")
    engine.eval("const { predict } = network, pixels = Uint8Array.from({ length: 3072 }, (_, i) => (i * 37) % 256);")
    medians = []
    for work, rounds in ROUNDS.items():
        engine.eval(f"function once() {{ const start = Date.now(); {work}; return Date.now() - start; }}")
        took = [engine.call("once") for _ in range(rounds + 3)][3:]  # the first are warm-ups
        medians.append(statistics.median(took))
    facts = {"predict_milliseconds": medians[0], "map_seconds": medians[1] / 1000, "bytes": len(page.encode())}
    facts |= {"moved_by_levels": moved(data)} | in_browser(page)
    print(json.dumps(facts))
    machine.save("page", {"model": machine.describe_shipped(), "machine": machine.describe()} | facts)


def moved(data: ImageData) -> dict[str, list[float]]:
    """Return how far answers move where a browser changes the bytes it lets a page read, each by up to some levels.

    By level, of the first 1 000 validation images: points of the best class's probability, the mean and what one of a
    hundred exceeds, and how many images get another class.
    """
    model, images = load_model(machine.ROOT / "best_model.pth"), data.val.images[:1000]
    before, generator, found = predict(model, images), torch.Generator().manual_seed(0), {}
    best = before.argmax(1, keepdim=True)
    for levels in LEVELS:
        noise = ((2 * torch.rand(images.shape, generator=generator) - 1) * levels).round()
        after = predict(model, (images + noise).clamp(0, 255).byte())
        points = 100 * (after - before).gather(1, best).abs()
        changed = (after.argmax(1, keepdim=True) != best).sum()
        found[str(levels)] = [points.mean().item(), points.quantile(0.99).item(), changed.item()]
    return found


def in_browser(text: str) -> dict[str, float]:
    """Return what a visitor's Chromium does with a page's text; nothing where there is none."""
    path = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if not path:
        print("Sem o playwright ou o Chromium, a página não se mede em um navegador.")
        return {}
    sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "page.html"
        file.write_text(text, "utf-8")
        browser = playwright.chromium.launch(executable_path=path, args=[*CAMERA, *sandbox])
        page = browser.new_page()
        page.goto(file.as_uri())
        maps = [_map_seconds(page.evaluate, number) for number in range(MAPS + 1)][1:]
        page.locator("#camera").click()
        count = "Number(document.getElementById('viewfinder').dataset.answers ?? 0)"
        _wait(page.evaluate, f"{count} >= 10")  # the first are warm-ups
        first, start = page.evaluate(count), time.perf_counter()
        time.sleep(FILMED)
        live = (page.evaluate(count) - first) / (time.perf_counter() - start)
        browser.close()
    return {"browser_map_seconds": statistics.median(maps), "browser_live_per_second": live}


def _map_seconds(evaluate: Callable, number: int) -> float:
    """Seconds from the answer to an example to the whole of its map."""
    evaluate(f"document.querySelectorAll('#chips button')[{number}].click()")
    _wait(evaluate, "Boolean(document.querySelector('article h2'))")
    start = time.perf_counter()
    _wait(evaluate, "!document.querySelector('[aria-busy]')")
    evaluate("document.getElementById('clear').click()")
    return time.perf_counter() - start


def _wait(evaluate: Callable, condition: str) -> None:
    """Wait until something is true in the page, a minute at most."""
    end = time.perf_counter() + 60
    while not evaluate(condition):
        assert time.perf_counter() < end, condition
        time.sleep(0.01)


if __name__ == "__main__":
    main()
