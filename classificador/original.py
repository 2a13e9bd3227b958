"""The network with which this project began, to compare with. No recipe trains it."""

import torch
import torch.nn.functional as F
from torch import nn


class OriginalCNN(nn.Module):
    """Two convolutions of 3×3, two linear layers, dropout; no normalisation within. 2 122 186 weights."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 8 * 8, 512)
        self.dropout = nn.Dropout(0.25)
        self.fc2 = nn.Linear(512, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, N×10, for images of N×3×32×32 that are normalised already: pixels from -1 to 1."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(self.dropout(x))
