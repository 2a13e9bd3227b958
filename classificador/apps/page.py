"""The network in a web page: one file that classifies pictures in any browser, with nothing installed or sent."""

import base64
import io
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from classificador.apps.export import CHECKED, check
from classificador.atomic import write_bytes
from classificador.constants import CLASSES
from classificador.data.dataset import ImageData, Split
from classificador.errors import ExportError
from classificador.network.cnn import CNN, OriginalCNN, unwrap
from classificador.network.model_info import ModelInfo, info_of
from classificador.portuguese import percent
from classificador.results.predict import predict
from classificador.show.own_pictures import DOUBT

try:
    from py_mini_racer import MiniRacer
except ImportError as error:
    text = "Para conferir a página antes de gravá-la: python -m pip install mini-racer"
    raise ExportError(text) from error

LARGEST_DIFFERENCE = 0.01  # of a probability: its weights have 16 bits
FILES = ("page.html", "page_network.js", "page_picture.js")  # beside this one; the page, and the scripts in it
THREADS = 2  # in which the page's network is run for the check


def write_page(model: nn.Module, data: ImageData, path: Path) -> float:
    """Write the page for `model` to `path`, and return the largest difference of a probability.

    data: of the model's classes; its first 1000 test images are classified by the page's own script, in the engine of
    Chromium, and by the model before the file is written. Raises ExportError when the network is not one that the page
    knows, or when the page answers otherwise than the model; CheckpointError for weights without sense, and when the
    file cannot be written.
    """
    images = data.test.images[:CHECKED]
    expected = predict(model, images)
    page = make_page(model, data, bits=16)
    try:
        difference = check(expected, run_page(page, images), LARGEST_DIFFERENCE)
    except ExportError:  # two classes may be as good as equally likely for some image
        page = make_page(model, data, bits=32)
        difference = check(expected, run_page(page, images), LARGEST_DIFFERENCE)
    with suppress(OSError):  # that the file cannot be written either tells
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, page.encode())
    return difference


def make_page(model: nn.Module, data: ImageData, bits: int) -> str:
    """Return the page's text. Of CIFAR-10's classes, it shows a test image each to try; never a user's own pictures.

    bits: of each weight of the linear layers, 16 or 32: as describe_layers() has it.
    """
    info = info_of(model)
    facts = {
        "classes": info.classes,
        "side": info.side,
        "framing": info.framing,
        "doubt_below": info.doubt_below,
        "doubt": DOUBT,
        "origin": _origin(info),
        "examples": _examples(data.test) if info.classes == CLASSES else [],
    }
    network = {
        "side": info.side,
        "temperature": info.temperature,
        "symmetric": unwrap(model) is not model,
        "layers": describe_layers(unwrap(model), bits),
    }
    html, script, picture = (Path(__file__).with_name(name).read_text("utf-8") for name in FILES)
    parts = {"facts": _json(facts), "model": _json(network), "network": script, "picture": picture}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], html)


def _origin(info: ModelInfo) -> str:
    """What the page says of its network, in a sentence."""
    network = "Rede com duas camadas convolucionais e duas totalmente conectadas"
    if not info.preset:
        return f"{network}."
    distilled = ", destilada" if info.distilled else ""
    trained = f"treinada em {datetime.fromisoformat(info.created):%d/%m/%Y}"
    return f"{network}{distilled}, {trained}; acerta {percent(info.val_accuracy)} das imagens de validação."


def _examples(test: Split) -> list[dict[str, str]]:
    """The first picture of each of CIFAR-10's classes."""
    return [
        {"name": name, "picture": _png(image)}
        for label, name in enumerate(CLASSES)
        for image in test.images[test.labels == label][:1]
    ]


def run_page(page: str, images: torch.Tensor) -> torch.Tensor:
    """Return the probabilities, N×classes, that the script in the text of a page gives for uint8 images, N×3×S×S."""
    model, script = (part_of(page, name) for name in ("model", "network"))

    def run(engine: MiniRacer, batch: torch.Tensor) -> list[list[float]]:
        engine.eval(f"{script}; const network = makeNetwork(JSON.parse({json.dumps(model)}));")
        engine.eval("function answer(text) { return JSON.stringify(network.predict(decode(text, Uint8Array))); }")
        return [json.loads(engine.call("answer", base64.b64encode(image.numpy()).decode())) for image in batch]

    batches = images.split(-(-len(images) // THREADS))
    engines = [MiniRacer() for _ in batches]  # one after the other: made at the same time, one in sixty pairs crashes
    with ThreadPoolExecutor(THREADS) as pool:
        answers = pool.map(run, engines, batches)
        rows = [answer for part in answers for answer in part]
    return torch.tensor([[math.nan if value is None else value for value in row] for row in rows])  # JSON has no NaN


def part_of(page: str, name: str) -> str:
    """Return the text of one script of a page: "facts", "model" or "network"."""
    return page.split(f'id="{name}">')[1].split("</script>")[0]


def describe_layers(network: nn.Module, bits: int) -> list[dict[str, Any]]:
    """Return the layers of a network, in order, as page_network.js takes them. Raises ExportError for other networks.

    bits: 16 for linear layers of whole numbers with one scale for each row, which are nearer to the float32 than halves
    are; 32 for all as it is. The few weights of the convolutions always are: their rounding shows most.
    """
    if isinstance(network, OriginalCNN):
        pooled: list[dict[str, Any]] = [{"kind": "relu"}, {"kind": "maximum", "size": 2}]
        front = [_weighted(network.conv1), *pooled, _weighted(network.conv2), *pooled]
        return [*front, _weighted(network.fc1, bits), {"kind": "relu"}, _weighted(network.fc2, bits)]
    if isinstance(network, CNN):
        factor, shift = _normalisation(network.norm2)
        return [
            _weighted(network.conv1),
            {"kind": "contrast"},
            {"kind": "maximum", "size": network.pools[0]},
            {"kind": "relu"},
            _weighted(network.conv2),
            {"kind": "maximum_and_mean", "size": network.pools[1]},
            {"kind": "scale", "scale": _base64(factor), "shift": _base64(shift)},
            {"kind": "relu"},
            _weighted(network.fc1, bits, network.norm3),
            {"kind": "relu"},
            _weighted(network.fc2, bits),
        ]
    raise ExportError("A página só sabe calcular com a rede deste projeto e com a original. Exporte com `exportar`.")


def _weighted(layer: nn.Conv2d | nn.Linear, bits: int = 32, norm: nn.Module | None = None) -> dict[str, Any]:
    """A convolution or linear layer, and the normalisation that follows it."""
    weight = layer.weight.detach().flatten(1)
    scale = torch.ones(len(weight))
    if bits == 16:
        scale = weight.abs().amax(1).clamp(min=1e-30) / 32767
        weight = (weight / scale[:, None]).round().to(torch.int16)
    shift = torch.zeros_like(scale) if layer.bias is None else layer.bias.detach()
    if norm:
        factor, added = _normalisation(norm)
        scale, shift = scale * factor, shift * factor + added
    kind: dict[str, Any] = {"kind": "linear"}
    if isinstance(layer, nn.Conv2d):
        kind = {"kind": "convolution", "size": layer.kernel_size[0]}
    numbers = {"weights": _base64(weight), "scale": _base64(scale), "shift": _base64(shift)}
    return kind | {"outputs": len(weight), "bits": bits} | numbers


def _normalisation(norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """What a trained batch normalisation multiplies each channel with, and then adds."""
    state = norm.state_dict()
    factor = state["weight"] / (state["running_var"] + norm.eps).sqrt()
    return factor, state["bias"] - state["running_mean"] * factor


def _base64(values: torch.Tensor) -> str:
    """The bytes of the numbers, the least of each number first, as all machines in use have them."""
    return base64.b64encode(values.numpy().tobytes()).decode()


def _json(values: dict) -> str:
    """JSON that can stand within a script: no text in it ends the script."""
    return json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")


def _png(image: torch.Tensor) -> str:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
