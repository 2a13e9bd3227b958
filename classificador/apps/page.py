"""The network in a web page: one file that classifies pictures in any browser, with nothing installed or sent."""

import html
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from classificador.apps.export import CHECKED, check
from classificador.apps.page_layers import REMEDY, UNKNOWN, base64_of, describe_layers
from classificador.atomic import write_bytes
from classificador.constants import CLASSES
from classificador.data.dataset import ImageData
from classificador.errors import ExportError
from classificador.network.cnn import unwrap
from classificador.network.model_info import ModelInfo, info_of
from classificador.portuguese import number, percent
from classificador.recipes import FEW
from classificador.results.predict import predict
from classificador.show.own_pictures import DOUBT

try:
    from py_mini_racer import MiniRacer
except ImportError as error:
    text = "Para conferir a página antes de gravá-la: python -m pip install mini-racer"
    raise ExportError(text) from error

LARGEST_DIFFERENCE = 0.001  # of a probability: the weights of its linear layers have 16 bits
# The scripts beside this file, in the order in which they are read; network and map, for workers too, come before them.
SCRIPTS = ("picture", "png", "pool", "reading", "cards", "share", "drawing", "camera", "game", "main")
EXAMPLES = 30  # test images that a page shows, or one of each class


@dataclass(frozen=True)
class Wishes:
    """What its maker wants of a page."""

    title: str = ""  # "" for the classes' names
    author: str = ""
    examples: bool = False  # whether it shows pictures of the maker's own; of CIFAR-10's it always does


def write_page(model: nn.Module, data: ImageData, path: Path, wishes: Wishes = Wishes()) -> float:
    """Write the page for `model` to `path`, and return the largest difference of a probability.

    data: of the model's classes; its first 300 test images are classified by the page's own script, in the engine of
    Chromium, and by the model before the file is written. Raises ExportError when the network is not one that the page
    knows, or when its probabilities are not the model's; CheckpointError for weights without sense, and WriteError when
    the file cannot be written.
    """
    page = make_page(model, data, wishes)
    try:
        for images in (data.test.images[:3], data.test.images[:CHECKED]):  # what a few tell need not be waited for
            difference = check(predict(model, images), run_page(page, images), LARGEST_DIFFERENCE)
    except ExportError as error:
        raise ExportError(f"{UNKNOWN} daria outras probabilidades, como quando o forward é outro.", REMEDY) from error
    write_bytes(path, page.encode())
    return difference


def _score(info: ModelInfo) -> str:
    """How good the network is, and how that is known."""
    count = number(info.validated_on, 0)
    if info.preset == FEW:
        return f"em validação cruzada acerta {percent(info.val_accuracy)}, n = {count}"
    images = f"de {count} imagens" if info.validated_on else "das imagens"
    return f"acerta {percent(info.val_accuracy)} {images} de validação"


def make_page(model: nn.Module, data: ImageData, wishes: Wishes = Wishes()) -> str:
    """Return the page's text. Of CIFAR-10's classes, it has test images to try; of others only when that is wished.

    Raises ExportError when the layers of the network are not those that the page knows.
    """
    info = info_of(model)
    facts = _facts(info, data, wishes)
    network = {
        "side": info.side,
        "temperature": info.temperature,
        "symmetric": unwrap(model) is not model,
        "layers": describe_layers(unwrap(model)),
    }
    folder = Path(__file__).parent
    sources = {name: (folder / f"page_{name}.js").read_text("utf-8") for name in ("network", "map", *SCRIPTS)}
    parts = {
        "title": html.escape(facts["title"]),
        "facts": _json(facts),
        "model": _json(network),
        "network": sources["network"],
        "map": sources["map"],
        "scripts": "\n".join(f"<script>\n{sources[name]}</script>" for name in SCRIPTS),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], (folder / "page.html").read_text("utf-8"))


def _facts(info: ModelInfo, data: ImageData, wishes: Wishes) -> dict[str, Any]:
    """What the page's scripts take for granted: of the network, and of what they show."""
    origin = "Rede com duas camadas convolucionais e duas totalmente conectadas"
    if info.preset:
        distilled = ", destilada" if info.distilled else ""
        trained = f"treinada em {datetime.fromisoformat(info.created):%d/%m/%Y}"
        origin += f"{distilled}, {trained}; {_score(info)}"
    maker = f" Feita por {wishes.author}." if wishes.author else ""
    learnt = {picture.file for picture in data.train.origins}
    common = info.classes == CLASSES  # common nouns, which a sentence does not write large
    return {
        "title": wishes.title or title_of([name.lower() for name in CLASSES] if common else info.classes),
        "classes": info.classes,
        "side": info.side,
        "framing": info.framing,
        "doubt_below": info.doubt_below,
        "doubt": DOUBT,
        "origin": f"{origin}.{maker}",
        "signature": f"Uma rede neural pequena, que só conhece {len(info.classes)} coisas.{maker}",
        "home": _home(),
        "examples": _examples(data, info.classes) if wishes.examples or common else [],
        "learnt": not learnt.isdisjoint(picture.file for picture in data.test.origins),
    }


def title_of(classes: Sequence[str]) -> str:
    """Return what a page is called: the question that its network answers, "Banana ou uva?"."""
    *first, last = classes[:4]
    names = f"{', '.join(first)} ou {last}?" if len(classes) < 5 else f"{', '.join(classes[:3])}…?"
    return names[0].upper() + names[1:]


def _home() -> str:
    """The address of the project, where GitHub makes the page; elsewhere it has none."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}" if repository else ""


def _examples(data: ImageData, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Some test images, as many of each class as there is room for: the number of the class, and the bytes."""
    each = max(1, EXAMPLES // len(classes))
    found = []
    for label, name in enumerate(classes):
        images = data.test.images[data.test.labels == data.classes.index(name)][:each]
        found += [{"label": label, "pixels": base64_of(image)} for image in images]
    return found


def run_page(page: str, images: torch.Tensor) -> torch.Tensor:
    """Return the probabilities, N×classes, that the script in the text of a page gives for uint8 images, N×3×S×S."""
    model, script = (part_of(page, name) for name in ("model", "network"))
    engine = MiniRacer()
    engine.eval(f"{script}; const network = makeNetwork(JSON.parse({json.dumps(model)}));")
    engine.eval("function answer(text) { return JSON.stringify(network.predict(decode(text, Uint8Array))); }")
    rows = [json.loads(engine.call("answer", base64_of(image))) for image in images]
    return torch.tensor([[math.nan if value is None else value for value in row] for row in rows])  # JSON has no NaN


def part_of(page: str, name: str) -> str:
    """Return the text of one script of a page: "facts", "model", "network" or "map"."""
    return page.split(f'id="{name}">')[1].split("</script>")[0]


def _json(values: dict) -> str:
    """JSON that can stand within a script: no text in it ends the script."""
    return json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")
