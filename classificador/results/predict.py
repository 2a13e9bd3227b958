"""From images to probabilities, calibrated by a temperature, and when to doubt them."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from classificador import processes
from classificador.data.pictures import as_image, to_tensor
from classificador.device import EVAL_BATCH, keep_freed_memory, to_device, use_own_cores
from classificador.errors import CheckpointError
from classificador.gpu import explain_out_of_memory
from classificador.network.model_info import COLDEST, HOTTEST, info_of

FEWEST = 50  # validation images below which a temperature would be chance: of three it came out at its bound
FALSE_WARNINGS = 0.05  # share of pictures of known classes that are doubted


@explain_out_of_memory()
def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return class probabilities, float32 N×classes on the CPU, for uint8 or [0, 1] float images of N×3×S×S.

    Calibrated, where the model has a temperature for its logits, fitted on validation images by fit_temperature().
    The model stays in the mode and on the device it was. Raises ValueError for images of another shape or type,
    CheckpointError for weights so large that the answers are no numbers, and SettingsError where memory is full.
    """
    if not isinstance(images, torch.Tensor):
        raise ValueError(f"Esperava um tensor do torch; veio {type(images).__name__}. Use torch.from_numpy.")
    info = info_of(model)
    side = info.side if info.architecture else images.shape[-1]
    if images.shape[1:] != (3, side, side) or not (images.dtype == torch.uint8 or images.is_floating_point()):
        wanted = f"N×3×{side}×{side}, uint8 ou float em [0, 1]"
        raise ValueError(f"Esperava imagens {wanted}; vieram {tuple(images.shape)}, {images.dtype}.")
    if images.is_floating_point() and len(images) and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError("Imagens float precisam estar em [0, 1]; divida por 255 ou use uint8.")
    probabilities = (predict_logits(model, images) / info.temperature).softmax(1).cpu()
    if not torch.isfinite(probabilities).all():
        raise CheckpointError("Os pesos deste modelo levam a respostas que não são números.", "Treine de novo.")
    return probabilities


@torch.no_grad()
def predict_logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the logits, float32 N×classes on the model's device, in batches.

    Of several processes (processes.py) each computes its part, and all get the whole.
    """
    keep_freed_memory()
    use_own_cores()
    device, training = next(model.parameters()).device, model.training
    to_device(model.eval(), device)
    mine, parts = images[processes.shard(len(images))], []
    try:
        for batch in mine.split(EVAL_BATCH):
            parts.append(model(batch.to(device, torch.float32 if batch.is_floating_point() else torch.uint8)))
    finally:
        model.train(training)
    return processes.all_gather(torch.cat(parts).float(), len(images))


def is_doubtful(model: nn.Module, probabilities: dict[str, float]) -> bool:
    """Whether a picture's best probability is so low that it may well show none of the model's classes."""
    return max(probabilities.values()) < info_of(model).doubt_below


def predict_image(model: nn.Module, picture: Any) -> dict[str, float]:
    """Return {class name: probability} for one picture, most probable first.

    picture: a file, Pillow's image, or pixels, as in as_image(). Raises ImageError for what is none.
    """
    pixels = to_tensor(as_image(picture), info_of(model).side, info_of(model).framing)
    probabilities = predict(model, pixels[None])[0]
    classes = info_of(model).classes
    return {classes[i]: float(probabilities[i]) for i in probabilities.argsort(descending=True).tolist()}


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the number by which to divide the logits (N×C) so that their cross entropy on the labels (N) is least.

    Guo et al. 2017, "On Calibration of Modern Neural Networks". No prediction changes: the order of the classes stays.
    1 where every prediction is right, or where there are fewer than 50 images: too little tells how sure to be.
    """
    from scipy.optimize import minimize_scalar  # here: takes a second to load, which an answer does not need

    logits, labels = logits.cpu().double(), labels.cpu()  # in this order: Apple's GPUs know no float64
    if len(labels) < FEWEST or (logits.argmax(1) == labels).all():
        return 1.0

    def cost(log_temperature: float) -> float:
        return F.cross_entropy(logits / np.exp(log_temperature), labels).item()

    return float(np.exp(minimize_scalar(cost, bounds=np.log([COLDEST, HOTTEST]), method="bounded").x))


def fit_doubt(probabilities: torch.Tensor) -> float:
    """Return the confidence below which a picture may well be of no known class: what 5 % of these images stay under.

    95 % at most: of classes that are easy to tell, all validation images may have 99.99 %, and pictures of another day
    99 %. probabilities: N×C, calibrated, of validation images. How few unknown it finds `benchmarks.unknown` tells.
    """
    return min(float(probabilities.cpu().amax(1).quantile(FALSE_WARNINGS)), 1 - FALSE_WARNINGS)


def uncalibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities (N×C) that the same logits give without their temperature."""
    powers = np.maximum(probabilities, np.finfo(probabilities.dtype).tiny) ** temperature
    return powers / powers.sum(1, keepdims=True)
