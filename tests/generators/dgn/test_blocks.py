"""The residual block on an enlarged input: the same as enlarging first, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gen_prior.generators.dgn.blocks import ResidualBlock


@pytest.mark.parametrize("outputs", [6, 4])
def test_enlarging_inside_the_block_is_enlarging_before_it(outputs: int) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(6, outputs).requires_grad_(False)
    inside, before = (torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    made = block.enlarge(inside.requires_grad_())
    expected = block(F.interpolate(before.requires_grad_(), scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn(made.shape)
    torch.testing.assert_close(
        torch.autograd.grad((made * weights).sum(), inside),
        torch.autograd.grad((expected * weights).sum(), before),
        atol=1e-5,
        rtol=1e-5,
    )


def test_weights_that_change_are_followed() -> None:
    torch.manual_seed(0)
    block, x = ResidualBlock(3, 3), torch.randn(1, 3, 4, 4)
    training = block.enlarge(x)
    torch.testing.assert_close(block.requires_grad_(False).enlarge(x), training)
    with torch.no_grad():
        block.first.weight *= 2
    torch.testing.assert_close(block.enlarge(x), block.requires_grad_(True).enlarge(x))


def test_mixed_precision_keeps_its_types() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(3, 3).requires_grad_(False)
    x = torch.randn(1, 3, 4, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        made = block.enlarge(x.bfloat16())
    assert made.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(made.float().square().sum(), x)
    (exact,) = torch.autograd.grad(block.enlarge(x).square().sum(), x)
    torch.testing.assert_close(gradient, exact, atol=0.05, rtol=0.05)
