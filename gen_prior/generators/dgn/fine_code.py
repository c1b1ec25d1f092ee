"""Details: a second level of the code, for what a coarse spatial code cannot say.

A decoder is made of convolutions alone, so a spatial code of 8x8 instead of 4x4 gives an image of twice the side. What
of the finer code follows from the coarse one, a small network says; what does not is left to the details, a standard
normal over photographs along the principal directions of that rest. So the coarse code goes on to lay the picture out,
and the details fill it in (a pyramid as that of Denton et al. 2015, arXiv 1506.05751, of codes instead of images).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.dgn.blocks import CODE_SIDE, SLOPE, ResidualBlock

FINE_SIDE = 2 * CODE_SIDE


class FineCode(nn.Module):
    """Coarse spatial codes `[B, C, 4, 4]` and details `[B, D]` -> spatial codes `[B, C, 8, 8]`."""

    basis: Tensor

    def __init__(self, channels: int, count: int, width: int) -> None:
        """`count`: how many details, D; `width`: channels of the network that says what follows."""
        super().__init__()
        self.entry = nn.Conv2d(channels, width, 3, padding=1)
        self.low = ResidualBlock(width, width)
        self.high = ResidualBlock(width, width)
        self.exit = nn.Conv2d(width, channels, 3, padding=1)
        self.register_buffer("basis", torch.zeros(channels * FINE_SIDE**2, count))
        with torch.no_grad():
            self.exit.weight *= 0.3

    @property
    def dims(self) -> int:
        """How many details a code has."""
        return self.basis.shape[1]

    def expected(self, coarse: Tensor) -> Tensor:
        """The finer code that follows from the coarse one: the mean over photographs with it, `[B, C, 8, 8]`."""
        x = self.high(F.interpolate(self.low(self.entry(coarse)), scale_factor=2.0, mode="nearest"))
        out: Tensor = self.exit(F.leaky_relu(x, SLOPE))
        return out

    def forward(self, coarse: Tensor, details: Tensor) -> Tensor:
        expected = self.expected(coarse)
        return expected + (details @ self.basis.T.to(details)).view_as(expected)
