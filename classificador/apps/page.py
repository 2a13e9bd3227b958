"""The network in a web page: one file that classifies pictures in any browser, with nothing installed or sent."""

import base64
import html
import json
import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from classificador.apps.export import CHECKED, check
from classificador.atomic import write_bytes
from classificador.constants import CLASSES
from classificador.data.dataset import ImageData
from classificador.errors import ExportError
from classificador.network.cnn import OriginalCNN, unwrap
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
UNKNOWN = "A página não sabe calcular com esta rede:"
REMEDY = "Use `python -m classificador exportar`, que grava qualquer uma."


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
        found += [{"label": label, "pixels": _base64(image)} for image in images]
    return found


def run_page(page: str, images: torch.Tensor) -> torch.Tensor:
    """Return the probabilities, N×classes, that the script in the text of a page gives for uint8 images, N×3×S×S."""
    model, script = (part_of(page, name) for name in ("model", "network"))
    engine = MiniRacer()
    engine.eval(f"{script}; const network = makeNetwork(JSON.parse({json.dumps(model)}));")
    engine.eval("function answer(text) { return JSON.stringify(network.predict(decode(text, Uint8Array))); }")
    rows = [json.loads(engine.call("answer", _base64(image))) for image in images]
    return torch.tensor([[math.nan if value is None else value for value in row] for row in rows])  # JSON has no NaN


def part_of(page: str, name: str) -> str:
    """Return the text of one script of a page: "facts", "model", "network" or "map"."""
    return page.split(f'id="{name}">')[1].split("</script>")[0]


def describe_layers(network: nn.Module) -> list[dict[str, Any]]:
    """Return the layers of a network, in order, as page_network.js takes them.

    Raises ExportError for a network with other layers.
    """
    weights = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    relu: dict[str, Any] = {"kind": "relu"}
    layers: list[dict[str, Any]] = []
    with suppress(KeyError, AttributeError):
        if isinstance(network, OriginalCNN):
            pooled = [relu, {"kind": "maximum", "size": 2}]
            front = [_weighted(weights, "conv1"), *pooled, _weighted(weights, "conv2"), *pooled]
            layers = [*front, _weighted(weights, "fc1"), relu, _weighted(weights, "fc2")]
        else:
            pools: Any = network.pools
            layers = [
                _weighted(weights, "conv1"),
                {"kind": "maximum", "size": pools[0]},
                {"kind": "contrast"},
                relu,
                _weighted(weights, "conv2"),
                {"kind": "maximum_and_mean", "size": pools[1]},
                {"kind": "scale"} | _encoded(*_normalisation(weights, "norm2")),
                relu,
                _weighted(weights, "fc1", "norm3"),
                relu,
                _weighted(weights, "fc2"),
            ]
    if weights or not layers:
        raise ExportError(f"{UNKNOWN} só com as camadas da deste projeto ou da original.", REMEDY)
    return layers


def _weighted(weights: dict[str, torch.Tensor], name: str, norm: str = "") -> dict[str, Any]:
    """A convolution or linear layer, and the normalisation that follows it; takes their weights out of the dict.

    The weights of a linear layer become whole numbers of 16 bits with one scale for each row, which are nearer to the
    float32 than halves are. The few of a convolution stay as they are: their rounding would show most.
    """
    weight = weights.pop(f"{name}.weight")
    layer, scale = {"kind": "convolution", "size": weight.shape[-1], "bits": 32}, torch.ones(len(weight))
    if weight.ndim == 2:
        layer, scale = {"kind": "linear", "bits": 16}, weight.abs().amax(1).clamp(min=1e-30) / 32767
        weight = (weight / scale[:, None]).round().to(torch.int16)
    shift = weights.pop(f"{name}.bias", torch.zeros_like(scale))
    if norm:
        factor, added = _normalisation(weights, norm)
        scale, shift = scale * factor, shift * factor + added
    return layer | {"outputs": len(weight), "weights": _base64(weight)} | _encoded(scale, shift)


def _normalisation(weights: dict[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What a trained batch normalisation multiplies each channel with, and then adds."""
    weight, bias, mean, variance = (
        weights.pop(f"{name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = weight / (variance + 1e-5).sqrt()  # as torch has it
    return factor, bias - mean * factor


def _encoded(scale: torch.Tensor, shift: torch.Tensor) -> dict[str, str]:
    return {"scale": _base64(scale), "shift": _base64(shift)}


def _base64(values: torch.Tensor) -> str:
    """The bytes of the numbers, the least of each number first, as all machines in use have them."""
    return base64.b64encode(values.numpy().tobytes()).decode()


def _json(values: dict) -> str:
    """JSON that can stand within a script: no text in it ends the script."""
    return json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")
