"""From images to probabilities."""

from pathlib import Path

import torch
from torch import nn

from classificador.device import EVAL_BATCH, keep_freed_memory, memory_format
from classificador.images import open_image, to_tensor


@torch.no_grad()
def predict(model: nn.Module, images: torch.Tensor, flip: bool = False) -> torch.Tensor:
    """Return class probabilities, float32 N×classes on the CPU, for uint8 or [0, 1] float images of N×3×S×S.

    flip: average with the prediction for the mirrored image (test-time augmentation: about +1 point at twice the time).
    The model stays in the mode and on the device it was. Raises ValueError for images of another shape or type.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ValueError(
            f"Esperava imagens N×3×S×S, uint8 ou float em [0, 1]; vieram {tuple(images.shape)}, {images.dtype}."
        )
    if images.is_floating_point() and len(images) and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError("Imagens float precisam estar em [0, 1]; divida por 255 ou use uint8.")
    side = getattr(model, "architecture", {}).get("side", images.shape[-1])
    if images.shape[2:] != (side, side):
        raise ValueError(f"A rede foi feita para imagens de {side}×{side}; vieram {tuple(images.shape)}.")
    keep_freed_memory()
    device, training = next(model.parameters()).device, model.training
    model.eval().to(memory_format=memory_format(device))
    parts = []
    try:
        for batch in images.split(EVAL_BATCH):
            batch = batch.to(device, torch.float32 if batch.is_floating_point() else torch.uint8)
            probabilities = model(batch).softmax(1)
            if flip:
                probabilities = (probabilities + model(batch.flip(-1)).softmax(1)) / 2
            parts.append(probabilities.cpu())
    finally:
        model.train(training)
    return torch.cat(parts)


def predict_image(model: nn.Module, path: str | Path) -> dict[str, float]:
    """Return {class name: probability} for one picture file, most probable first. Raises ImageError for a bad file."""
    image = to_tensor(open_image(path), model.info["architecture"].get("side", 32))
    probabilities = predict(model, image[None], flip=True)[0]
    classes = model.info["classes"]
    return {classes[i]: float(probabilities[i]) for i in probabilities.argsort(descending=True).tolist()}
