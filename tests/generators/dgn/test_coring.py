"""Coring takes fine contrast where nothing coarser lies under it, and nothing else."""

from __future__ import annotations

import math

import torch

from gen_prior.generators.dgn.texture import Coring

SIDE = 128
PLACES = torch.arange(SIDE).float()


def waves(period: float, size: float) -> torch.Tensor:
    """A grey image `[1, 3, S, S]` with waves of that period along both sides."""
    wave = torch.sin(2 * math.pi * PLACES / period)
    return (0.5 + size * wave[:, None] * wave[None]).expand(1, 3, -1, -1)


def deviation(images: torch.Tensor) -> float:
    return float(images[..., 32:96, 32:96].std())


def test_texture_on_an_empty_area_goes() -> None:
    weave = waves(4.0, 0.2)
    assert deviation(Coring(0.3)(weave)) < 0.1 * deviation(weave)


def test_a_higher_limit_leaves_more_of_it() -> None:
    weave = waves(4.0, 0.2)
    left = [deviation(Coring(limit)(weave)) for limit in (0.1, 0.3, 1.0, 3.0)]
    assert left == sorted(left)
    assert left[0] < left[-1]


def test_coarse_forms_stay_and_keep_their_texture() -> None:
    form = waves(32.0, 0.3)
    torch.testing.assert_close(Coring(0.3)(form), form, atol=2e-3, rtol=0)
    both = form + waves(4.0, 0.03) - 0.5
    texture = deviation(both - form)
    assert deviation(Coring(0.3)(both) - form) > 0.9 * texture
    assert deviation(Coring(0.3)(waves(4.0, 0.03)) - 0.5) < 0.5 * texture


def test_an_even_image_passes_with_a_gradient_and_in_float32() -> None:
    image = torch.full((2, 3, 64, 64), 0.4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        cored = Coring(0.3)(image)
    assert cored.dtype == torch.float32
    torch.testing.assert_close(cored, image)
    (gradient,) = torch.autograd.grad(cored.sum(), image)
    assert torch.isfinite(gradient).all()


def test_images_stand_alone() -> None:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    together = Coring(0.3)(images)
    assert torch.equal(Coring(0.3)(images[1:2])[0], together[1])
