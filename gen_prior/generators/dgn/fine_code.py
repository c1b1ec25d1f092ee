"""The fine code: a second level of the code, at twice the resolution of the coarse one.

The decoder is fully convolutional, so a spatial code of 8x8 instead of 4x4 gives an image of twice the side. A small
network predicts the fine spatial code from the coarse one; the residual is parametrised by the details, a standard
normal over photographs along the residual's principal directions. The coarse code so keeps the composition, and the
details add to it, as in a Laplacian pyramid of generators (Denton et al. 2015, arXiv 1506.05751), of codes here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.dgn.blocks import CODE_SIDE, SLOPE, ResidualBlock

FINE_SIDE = 2 * CODE_SIDE
"""Side of a fine spatial code, in positions."""


class FineCode(nn.Module):
    """Coarse spatial codes `[B, C, 4, 4]` and details `[B, D]` -> fine spatial codes `[B, C, 8, 8]`."""

    basis: Tensor

    def __init__(self, channels: int, dims: int, width: int) -> None:
        """`dims`: number of details, D; `width`: channels of the network that predicts the fine code."""
        super().__init__()
        self.entry = nn.Conv2d(channels, width, 3, padding=1)
        self.low = ResidualBlock(width, width)
        self.high = ResidualBlock(width, width)
        self.exit = nn.Conv2d(width, channels, 3, padding=1)
        self.register_buffer("basis", torch.zeros(channels * FINE_SIDE**2, dims))
        with torch.no_grad():
            self.exit.weight *= 0.3

    @property
    def dims(self) -> int:
        """Number of details in a code."""
        return self.basis.shape[1]

    def expected(self, coarse: Tensor) -> Tensor:
        """The predicted fine code `[B, C, 8, 8]`: its mean over photographs with this coarse code."""
        x = self.high.enlarge(self.low(self.entry(coarse)))
        out: Tensor = self.exit(F.leaky_relu(x, SLOPE))
        return out

    def forward(self, coarse: Tensor, details: Tensor) -> Tensor:
        expected = self.expected(coarse)
        return expected + (details @ self.basis.T.to(details)).view_as(expected)
