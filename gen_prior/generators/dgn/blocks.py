"""Building blocks of the networks of a prior: constants of the spatial code, and the residual block."""

from __future__ import annotations

from typing import Any

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
        self._enlarging: tuple[tuple[object, ...], Tensor] | None = None
        with torch.no_grad():
            self.second.weight *= 0.3

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.leaky_relu(self.first(F.leaky_relu(x, SLOPE)), SLOPE, inplace=True))
        skipped: Tensor = self.skip(x)
        return skipped + y

    def enlarge(self, x: Tensor) -> Tensor:
        """The block on `x` `[B, C, H, W]` enlarged twice by nearest-neighbour interpolation."""
        if self.first.weight.requires_grad:
            return self(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        # Every 2 x 2 pixels are the same: a transposed convolution adds up the weights that meet the same pixel.
        first: Tensor = _Enlarge.apply(F.leaky_relu(x, SLOPE), self._enlarging_weight(), self.first.bias)
        y = self.second(F.leaky_relu(first, SLOPE))
        return F.interpolate(self.skip(x), scale_factor=2.0, mode="nearest") + y

    def _enlarging_weight(self) -> Tensor:
        """`[inputs, outputs, 4, 4]`: the first convolution and the enlargement before it; kept while weights last."""
        weight = self.first.weight
        version = (weight.data_ptr(), weight._version, weight.dtype, weight.device)
        if self._enlarging is None or self._enlarging[0] != version:
            sums = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
            wide = torch.einsum("ak,oikl,bl->ioab", sums, weight.detach(), sums)
            self._enlarging = version, wide.contiguous(memory_format=torch.channels_last)
        return self._enlarging[1]


class _Enlarge(torch.autograd.Function):
    """Transposed convolution with frozen weights `[inputs, outputs, 4, 4]` and stride 2, in the type of its input.

    Its gradient is a convolution, for which torch's own rearranges the weights at every call.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            weight = weight.to(x.dtype)
            ctx.save_for_backward(weight)
            return F.conv_transpose2d(x, weight, bias.to(x.dtype), 2, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return F.conv2d(gradient, weight, None, 2, 1), None, None
