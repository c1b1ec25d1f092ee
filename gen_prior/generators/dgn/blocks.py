"""What the networks of a prior are built of: residual blocks, from a spatial code of 4x4 places."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CODE_SIDE = 4
"""Side of a coarse spatial code."""
SLOPE = 0.2
"""Of the leaky rectifiers."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity; the branch starts small so that depth costs no stability."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        with torch.no_grad():
            self.second.weight *= 0.3

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.leaky_relu(self.first(F.leaky_relu(x, SLOPE)), SLOPE))
        skipped: Tensor = self.skip(x)
        return skipped + y
