"""Convolutions with TensorFlow's "SAME" padding, which is asymmetric where the stride is above 1."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding."""

    _kept: tuple[tuple[object, ...], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        # The CPU's gradient of a strided depthwise convolution takes 2 to 10 times as long in bf16 as in float32.
        slow = x.device.type == "cpu" and self.groups > 1 and max(self.stride) > 1
        with torch.autocast("cpu", enabled=False) if slow else nullcontext():
            x = x.to(self.weight.dtype) if slow else x
            if pads[0] != pads[1] and pads[2] != pads[3] and x.device.type == "cpu" and not self.weight.requires_grad:
                return self._with_wide_kernel(x, (pads[3], pads[1]))
            even = pads[0] == pads[1] and pads[2] == pads[3]
            x = x if even else F.pad(x, pads)
            padding = (pads[2], pads[0]) if even else (0, 0)
            return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _with_wide_kernel(self, x: Tensor, padding: tuple[int, int]) -> Tensor:
        """The same by a kernel with a row and a column of zeros before it, and equal padding, without a padded copy."""
        key = (self.weight.data_ptr(), self.weight._version, self.weight.dtype)
        if self._kept is None or self._kept[0] != key:
            wide = F.pad(self.weight.detach(), [1, 0, 1, 0]).contiguous(memory_format=torch.channels_last)
            self._kept = key, wide
        wide = self._kept[1]
        plain = not torch.is_autocast_enabled("cpu") and x.shape[-1] % 2 == x.shape[-2] % 2 == 0
        if plain and self.stride == (2, 2) and self.kernel_size == (3, 3) and self.groups == 1:
            halved: Tensor = _Halving.apply(x, wide, self.bias)
            return halved
        return F.conv2d(x, wide, self.bias, self.stride, padding, self.dilation, self.groups)


class _Halving(torch.autograd.Function):
    """Convolution with frozen 4 x 4 kernels, stride 2 and padding 1, of images of even sides.

    Torch's own gradient takes three times as long where the input has few channels. Here each of the four pixels that
    lie under one position of the output is a channel of a 3 x 3 convolution of the output's gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return F.conv2d(x, weight, bias, 2, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        outputs, inputs = weight.shape[:2]
        taps = weight.new_zeros(2, 3, 4)  # pixel (even, odd), position of the output (before, at, after it) -> tap
        for pixel, position, tap in ((0, 0, 3), (0, 1, 1), (1, 1, 2), (1, 2, 0)):
            taps[pixel, position, tap] = 1
        kernels = torch.einsum("pak,oikl,qbl->ipqoab", taps, weight, taps).reshape(4 * inputs, outputs, 3, 3)
        return F.pixel_shuffle(F.conv2d(gradient, kernels, None, 1, 1), 2), None, None
