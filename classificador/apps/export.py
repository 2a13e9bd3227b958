"""The model as a file for other programs.

ONNX: pixels in, calibrated probabilities out. Weights alone, for a network of the same class: as torch.save writes a
state_dict, or as safetensors.
"""

import copy
import importlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from classificador.atomic import write_bytes
from classificador.errors import ExportError
from classificador.network.model_info import info_of
from classificador.portuguese import number
from classificador.results.predict import predict

LARGEST_DIFFERENCE = 1e-4  # of a probability, between the file and the model
NEEDS = "ONNX IR 10, opset 20: onnxruntime 1.19 or newer"  # tried with 1.19.2; a test keeps both numbers
CHECKED = 300  # images
Runner = Callable[[torch.Tensor], torch.Tensor]


class Probabilities(nn.Module):
    """What the file computes: uint8 images, N×3×S×S, to calibrated probabilities, N×classes."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.info = model, info_of(model)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the probabilities."""
        return (self.model(images) / self.info.temperature).softmax(1)


def export_model(model: nn.Module, images: torch.Tensor, path: Path, form: str) -> float:
    """Write `model` to `path` in the format `form`, and return the largest difference of a probability.

    images: uint8, N×3×S×S: the first 300 are classified by the file and by the model before the file is written.
    form: of FORMATS. Raises ExportError when a package that it needs is missing, or when the file's probabilities
    are not the model's.
    """
    data, run = FORMATS[form](Probabilities(model).eval(), describe(model))
    images = images[:CHECKED]
    expected = predict(model, images)
    difference = check(expected, torch.cat([run(batch) for batch in images.split(len(images) // 2 + 1)]))
    check(expected[:1], run(images[:1]))  # a single one, too
    write_bytes(path, data)
    return difference


def check(expected: torch.Tensor, found: torch.Tensor, allowed: float = LARGEST_DIFFERENCE) -> float:
    """Return the largest difference of a probability. Raises ExportError when it is `allowed` or more."""
    difference = (expected - found).abs().max().item()
    if not difference < allowed:
        images = f"em {len(expected)} imagens o arquivo daria probabilidades que diferem em até {number(difference, 6)}"
        raise ExportError(f"A exportação foi recusada: {images}. Nada foi gravado.")
    return difference


def describe(model: nn.Module) -> dict[str, str]:
    """Return what the file says of itself: its input and output, class names, and where the weights come from."""
    info = info_of(model)
    return {
        "classes": json.dumps(info.classes, ensure_ascii=False),
        "input": f"images: uint8, N×3×{info.side}×{info.side}, RGB, 0-255",
        "side": str(info.side),
        "framing": info.framing,
        "background": "white",  # under transparency, and around a picture that is framed whole
        "output": f"probabilities: float32, N×{len(info.classes)}{', calibrated' if info.temperature != 1 else ''}",
        "doubt_below": str(info.doubt_below),
        "provenance": json.dumps(info.provenance, ensure_ascii=False),
    }


def as_onnx(network: Probabilities, metadata: dict[str, str]) -> tuple[bytes, Runner]:
    """Return the bytes of an ONNX file that holds `metadata`, and a function that runs them. Raises ExportError."""
    onnx, runtime, _ = _packages("onnx", "onnxruntime", "onnxscript")
    side = network.info.side
    example = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    program = torch.onnx.export(
        torch.export.export(network, (example,), dynamic_shapes={"images": {0: torch.export.Dim("n", min=1)}}),
        input_names=["images"],
        output_names=["probabilities"],
        external_data=False,
        verbose=False,
    )
    proto = cast(torch.onnx.ONNXProgram, program).model_proto
    onnx.helper.set_model_props(proto, metadata | {"needs": NEEDS})
    data = proto.SerializeToString()
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return data, lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def as_weights(network: Probabilities, metadata: dict[str, str]) -> tuple[bytes, Runner]:
    """Return the bytes of a plain state_dict, which holds no metadata, and a function that runs a network with them."""
    file = io.BytesIO()
    torch.save(network.model.state_dict(), file)
    weights = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    return file.getvalue(), _with_weights(network, weights)


def as_safetensors(network: Probabilities, metadata: dict[str, str]) -> tuple[bytes, Runner]:
    """Return the bytes of a safetensors file with `metadata`, and a function that runs a network with its weights.

    Raises ExportError.
    """
    (safetensors,) = _packages("safetensors.torch")
    weights = {name: weight.contiguous() for name, weight in network.model.state_dict().items()}
    own = {"architecture": json.dumps(network.info.architecture), "temperature": str(network.info.temperature)}
    own["output"] = "logits; divided by the temperature, of probabilities"
    data = safetensors.save(weights, metadata | own)
    return data, _with_weights(network, safetensors.load(data))


def _with_weights(network: Probabilities, weights: dict[str, torch.Tensor]) -> Runner:
    other = copy.deepcopy(network)
    other.model.load_state_dict(weights)
    return torch.no_grad()(other)


def _packages(*names: str) -> list[Any]:
    """The packages of these names. Raises ExportError with the line that brings them."""
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        line = " ".join(["python -m pip install", *(name.partition(".")[0] for name in names)])
        text = f"Falta o pacote {error.name}: execute `{line}`, ou exporte com --formato pesos."
        raise ExportError(text) from error


FORMATS = {"onnx": as_onnx, "pesos": as_weights, "safetensors": as_safetensors}
