"""The first layer fixed to patch-whitening filters, the trick that saves the most time (Thiry et al. 2021)."""

import torch
import torch.nn.functional as F
from torch import nn

IMAGES = 2000  # training images of 32×32 whose patches are measured; of larger ones fewer, for as many patches
RIDGE = 1e-2  # added to the eigenvalues, so that directions of mere noise are not blown up


@torch.no_grad()
def whiten(conv: nn.Conv2d, images: torch.Tensor) -> None:
    """Fix half of the filters of `conv` to the strongest whitening filters of `images`, the rest to their negatives.

    images: uint8, N×C×S×S. The filters are eigenvectors of the covariance of the k×k patches, divided by the square
    root of their eigenvalues, so that their responses are uncorrelated and of like size. Filters beyond twice the patch
    dimension (C·k²) keep their random start. The layer is frozen: nothing in front of the second convolution then needs
    a backward pass.
    """
    size = conv.kernel_size[0]
    images = images[: IMAGES * 32**2 // images[0, 0].numel()]
    patches = F.unfold((images.cpu().float() / 255 - 0.5) / 0.5, size, stride=2).transpose(1, 2).flatten(0, 1)
    eigenvalues, eigenvectors = torch.linalg.eigh(torch.cov(patches.T))
    filters = (eigenvectors / (eigenvalues + RIDGE).sqrt()).T.flip(0)  # strongest first
    count = min(conv.out_channels // 2, len(filters))
    pairs = torch.cat([filters[:count], -filters[:count]]).reshape(2 * count, *conv.weight.shape[1:])
    conv.weight[: 2 * count] = pairs.to(conv.weight)
    conv.weight.requires_grad_(False)
