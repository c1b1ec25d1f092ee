"""Frozen convolutions with asymmetric padding: the same as padding first, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gen_prior.classifiers.same_padding import SameConv2d


@pytest.mark.parametrize(("inputs", "outputs", "kernel", "groups"), [(3, 8, 3, 1), (6, 6, 3, 6), (6, 6, 5, 6)])
@pytest.mark.parametrize("side", [16, 18])
def test_without_a_padded_copy(inputs: int, outputs: int, kernel: int, groups: int, side: int) -> None:
    torch.manual_seed(0)
    layer = SameConv2d(inputs, outputs, kernel, 2, groups=groups).requires_grad_(False)
    x = torch.randn(2, inputs, side, side, requires_grad=True)
    total = kernel - 2
    pads = [total // 2, total - total // 2] * 2
    for _ in range(2):  # the second time after a change of the weights
        expected = F.conv2d(F.pad(x, pads), layer.weight, layer.bias, 2, groups=groups)
        made = layer(x)
        torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
        weights = torch.randn(made.shape)
        (gradient,) = torch.autograd.grad((made * weights).sum(), x)
        (right,) = torch.autograd.grad((expected * weights).sum(), x)
        torch.testing.assert_close(gradient, right, atol=1e-5, rtol=1e-5)
        layer.weight.mul_(1.5)
    layer.requires_grad_(True)
    torch.testing.assert_close(layer(x), F.conv2d(F.pad(x, pads), layer.weight, layer.bias, 2, groups=groups))
