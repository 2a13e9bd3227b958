"""The network. The notebook shows the same class, for the reader to see and edit; a test keeps both equal."""

import torch
import torch.nn.functional as F
from torch import nn


class CNN(nn.Module):
    """Two convolutions and two linear layers; `architecture` holds the arguments it was made with.

    contrast: divide the first layer's responses at each point by their root mean square there (divisive
    normalisation). The 0.1, from trials on the validation split, keeps faint noise in flat areas faint.
    means: the second pooling keeps the mean of each region beside its maximum.
    mirror: give an image and its mirror image the same answer: both pass through the layers, and the hidden responses
    are averaged; a symmetry as in group convolutions (Cohen and Welling 2016, arXiv 1602.07576). Doubles the cost.
    """

    def __init__(
        self,
        channels=(64, 128),
        kernels=(5, 3),
        pools=(2, 4),
        hidden=256,
        dropout=0,
        norm=True,
        contrast=False,
        means=False,
        mirror=False,
        classes=10,
        side=32,
    ):
        super().__init__()
        self.architecture = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        norm2d, norm1d = (nn.BatchNorm2d, nn.BatchNorm1d) if norm else (nn.Identity, nn.Identity)
        self.conv1 = nn.Conv2d(3, channels[0], kernels[0], padding="same", bias=not norm)
        self.contrast, self.mirror, self.pool1 = contrast, mirror, nn.MaxPool2d(pools[0])
        self.conv2 = nn.Conv2d(channels[0], channels[1], kernels[1], padding="same", bias=not norm)
        self.pool2, self.means = nn.MaxPool2d(pools[1]), nn.AvgPool2d(pools[1]) if means else None
        features = channels[1] * (2 if means else 1)
        self.norm2 = norm2d(features)
        self.fc1 = nn.Linear(features * (side // pools[0] // pools[1]) ** 2, hidden, bias=not norm)
        self.norm3, self.dropout = norm1d(hidden), nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, images):
        """Return logits, N×classes, for images of N×3×side×side (uint8, or float in [0, 1])."""
        x = images / 255 if images.dtype == torch.uint8 else images
        x = (x - 0.5).div_(0.5)
        if self.mirror:
            x = torch.cat([x, x.flip(3)])
        x = self.conv1(x)
        if self.contrast:
            x = x * (x.square().mean(1, keepdim=True) + 0.1).rsqrt()
        x = F.relu(self.pool1(x))
        x = self.conv2(x)
        x = torch.cat([self.pool2(x), self.means(x)], 1) if self.means else self.pool2(x)
        x = F.relu(self.norm2(x))
        x = F.relu(self.norm3(self.fc1(x.flatten(1))))
        if self.mirror:
            x = x.unflatten(0, (2, -1)).mean(0)
        return self.fc2(self.dropout(x))
