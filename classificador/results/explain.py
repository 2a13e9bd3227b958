"""Where a network looks: which parts of an image its answer depends on."""

import itertools

import torch
from torch import nn

from classificador.results.predict import predict_logits

STRIDE = 2  # pixels between two positions of the patch, at side 32


def occlusion_map(model: nn.Module, image: torch.Tensor, target: int | None = None) -> torch.Tensor:
    """Return how much each pixel matters for one class, float S×S: the most important 1, those without effect 0.

    A patch of a quarter of the side, in the image's mean colour, covers one place after the other; a pixel's value is
    the mean drop of the class's log probability over the patches that cover it (Zeiler and Fergus 2014). Grad-CAM, the
    usual map, says little here: after two convolutions its maps scatter, or have 4×4 cells.
    image: uint8 3×S×S. target: index of the class, by default the predicted one. Takes 170 predictions.
    """
    side = image.shape[-1]
    patch, stride = max(1, side // 4), max(1, STRIDE * side // 32)
    corners = range(0, side - patch + 1, stride)
    masks = torch.zeros(len(corners) ** 2, side, side, dtype=torch.bool)
    for mask, (top, left) in zip(masks, itertools.product(corners, repeat=2), strict=True):
        mask[top : top + patch, left : left + patch] = True
    mean = image.float().mean((1, 2), keepdim=True).to(image.dtype)
    covered = torch.where(masks[:, None], mean, image)
    scores = predict_logits(model, torch.cat([image[None], covered])).log_softmax(1).cpu()
    target = int(scores[0].argmax()) if target is None else target
    drops = scores[0, target] - scores[1:, target]
    heat = ((drops[:, None, None] * masks).sum(0) / masks.sum(0).clamp(min=1)).clamp(min=0)
    return heat / heat.max().clamp(min=1e-9)
