"""How fast the page that classifies in a browser computes: `python -m benchmarks.page`.

The shipped model's page in the engine of Chromium, one thread: milliseconds of an answer and seconds of a map, medians
of ROUNDS; and the bytes of the file. Prints a line and writes benchmarks/page.json.
"""

import json
import statistics

from py_mini_racer import MiniRacer

from benchmarks import machine
from classificador import load_data, load_model
from classificador.apps.page import make_page, part_of

ROUNDS = {"predict(pixels)": 30, "patches(32).starts.map((top) => network.cover(pixels, 3, top))": 5}


def main() -> None:
    """Time both and print them."""
    page = make_page(load_model(machine.ROOT / "best_model.pth"), load_data(machine.ROOT / "data"))
    engine = MiniRacer()
    engine.eval(
        f"{part_of(page, 'network')}; {part_of(page, 'map')}; const network = makeNetwork({part_of(page, 'model')});"
    )
    engine.eval("const { predict } = network, pixels = Uint8Array.from({ length: 3072 }, (_, i) => (i * 37) % 256);")
    medians = []
    for work, rounds in ROUNDS.items():
        engine.eval(f"function once() {{ const start = Date.now(); {work}; return Date.now() - start; }}")
        took = [engine.call("once") for _ in range(rounds + 3)][3:]  # the first are warm-ups
        medians.append(statistics.median(took))
    facts = {"predict_milliseconds": medians[0], "map_seconds": medians[1] / 1000, "bytes": len(page.encode())}
    print(json.dumps(facts))
    machine.save("page", {"model": machine.describe_shipped(), "machine": machine.describe()} | facts)


if __name__ == "__main__":
    main()
