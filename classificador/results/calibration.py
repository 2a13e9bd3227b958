"""Confidence that means what it says: a temperature for the logits, and how far confidence is from accuracy."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

from classificador.files.model_info import COLDEST, HOTTEST

FEWEST = 50  # validation images below which a temperature would be chance: of three it came out at its bound
FALSE_WARNINGS = 0.05  # share of pictures of known classes that are doubted


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the number by which to divide the logits (N×C) so that their cross entropy on the labels (N) is least.

    Guo et al. 2017, "On Calibration of Modern Neural Networks". No prediction changes: the order of the classes stays.
    1 where every prediction is right, or where there are fewer than 50 images: too little tells how sure to be.
    """
    logits, labels = logits.cpu().double(), labels.cpu()  # in this order: Apple's GPUs know no float64
    if len(labels) < FEWEST or (logits.argmax(1) == labels).all():
        return 1.0

    def cost(log_temperature: float) -> float:
        return F.cross_entropy(logits / np.exp(log_temperature), labels).item()

    return float(np.exp(minimize_scalar(cost, bounds=np.log([COLDEST, HOTTEST]), method="bounded").x))


def fit_doubt(probabilities: torch.Tensor) -> float:
    """Return the confidence below which a picture may well be of no known class: what 5 % of these images stay under.

    probabilities: N×C, calibrated, of validation images. How few unknown it finds is told by `benchmarks.unknown`.
    """
    return float(probabilities.cpu().amax(1).quantile(FALSE_WARNINGS))


def uncalibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities (N×C) that the same logits give without their temperature."""
    powers = np.maximum(probabilities, np.finfo(probabilities.dtype).tiny) ** temperature
    return powers / powers.sum(1, keepdims=True)


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> np.ndarray:
    """Return bins×3: mean confidence, accuracy and number of images whose confidence falls into each equal interval.

    probabilities: N×C. The confidence of an image is its highest probability. Empty intervals hold zeros.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (confidence, right)]
    return np.stack([*(total / np.maximum(counts, 1) for total in sums), counts], 1)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy, as a fraction."""
    confidence, accuracy, counts = reliability(probabilities, labels, bins).T
    return float((np.abs(confidence - accuracy) * counts).sum() / max(1, counts.sum()))
