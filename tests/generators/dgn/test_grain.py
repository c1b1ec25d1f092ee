"""Grain doubles the side, and lies where there is fine contrast already, the same on every image."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from gen_prior.generators.dgn.texture import Grain, doubled, grain

SIDE = 64


def checks(size: float) -> torch.Tensor:
    """A grey image `[1, 3, S, S]` whose right half is a checkerboard of 2 x 2 pixels."""
    places = torch.arange(SIDE)
    board = ((places[:, None] // 2 + places[None] // 2) % 2).float() * size - size / 2
    board[:, : SIDE // 2] = 0
    return (0.5 + board).expand(1, 3, -1, -1)


def test_the_side_doubles_as_by_bicubic_interpolation() -> None:
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    wanted = F.interpolate(images, scale_factor=2.0, mode="bicubic", align_corners=False)
    torch.testing.assert_close(doubled(images), wanted, atol=1e-5, rtol=0)
    assert grain(0.0)(images) is images


def test_grain_goes_with_the_fine_contrast_of_the_place() -> None:
    image = checks(0.4)
    laid = Grain(0.2)(image) - doubled(image)
    empty, full = laid[..., : SIDE // 2], laid[..., -SIDE // 2 :]
    assert empty.std() < 1e-3
    fine = checks(0.4)[..., -SIDE // 4 :].std()
    assert 0.5 * 0.2 * fine < full.std() < 0.2 * fine
    assert torch.equal(laid[:, 0], laid[:, 1]), "it has no colour"
    twice = (Grain(0.4)(image) - doubled(image)).std()
    torch.testing.assert_close(twice, 2 * laid.std(), rtol=1e-3, atol=0)


def test_it_is_white_and_of_no_direction() -> None:
    image = checks(0.4)
    laid = (Grain(0.2)(image) - doubled(image))[0, 0, :, -SIDE // 2 :]
    for moved in (laid[:, 1:] * laid[:, :-1], laid[1:] * laid[:-1]):
        assert moved.mean().abs() < 0.1 * laid.var()


def test_images_stand_alone_with_a_gradient_and_in_float32() -> None:
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        together = Grain(0.2)(images)
    assert together.dtype == torch.float32
    assert torch.equal(Grain(0.2)(images[1:2])[0], together[1])
    (gradient,) = torch.autograd.grad(together.square().sum(), images)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum((1, 2, 3)).min() > 0
