"""Building blocks of the networks of a prior: constants of the spatial code, and the residual block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CODE_SIDE = 4
"""Side of a coarse spatial code, in positions."""
SLOPE = 0.2
"""Negative slope of the leaky ReLUs."""


class ResidualBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions (He et al. 2016, arXiv 1603.05027), without norms.

    The branch is initialised at 0.3 of the usual scale, so that deep stacks train stably.
    """

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
