"""Every regulariser is at least 0, 0 where nothing is to be mended, and lowers what it says it lowers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.generators import maco
from gen_prior.generators.base import Generator
from gen_prior.optimise.regularisers import REGULARISERS, Regulariser, build_regulariser
from gen_prior.optimise.synthesize import synthesize

CODE = torch.zeros(1, 16)
GREY = torch.full((1, 3, 16, 16), 0.5)
RAMP = torch.linspace(0.2, 0.8, 16).expand(1, 3, 16, 16)
NOISE = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
CODES = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))


def of(regulariser: Regulariser, image: Tensor, code: Tensor = CODE) -> float:
    return regulariser(image, code).item()


@pytest.mark.parametrize("name", REGULARISERS)
def test_never_negative_and_per_item(name: str) -> None:
    regulariser = build_regulariser(name, {"weight": 2.0})
    together = regulariser(NOISE, CODES)
    assert together.shape == (3,)
    assert (together >= 0).all()
    for item in range(3):
        torch.testing.assert_close(
            regulariser(NOISE[item : item + 1], CODES[item : item + 1]), together[item : item + 1]
        )
    torch.testing.assert_close(build_regulariser(name, {"weight": 1.0})(NOISE, CODES) * 2, together)


@pytest.mark.parametrize("name", REGULARISERS)
def test_descent_lowers_it(name: str) -> None:
    regulariser = build_regulariser(name, {})
    image, code = NOISE.clone().requires_grad_(), (3 * CODES).requires_grad_()
    before = regulariser(image, code)
    gradients = torch.autograd.grad(before.sum(), (image, code), allow_unused=True)
    moved = [
        value if gradient is None else value - 0.01 * gradient / gradient.abs().max()
        for value, gradient in zip((image, code), gradients, strict=True)
    ]
    assert (regulariser(*moved) < before).all()


def test_zero_where_nothing_is_to_be_mended() -> None:
    for name in ("total_variation", "alpha_norm", "laplacian", "pixel_l2"):
        assert of(build_regulariser(name, {}), GREY) == 0
    assert of(build_regulariser("code_l2", {}), GREY) == 0
    assert of(build_regulariser("laplacian", {}), RAMP) == pytest.approx(0, abs=1e-10)
    assert of(build_regulariser("total_variation", {}), RAMP) > 1e-4
    likeliest = torch.ones(1, 17) * math.sqrt(16 / 17)
    assert of(build_regulariser("noise_length", {}), GREY, likeliest) == pytest.approx(0, abs=1e-6)


def test_alpha_norm_spares_the_middle() -> None:
    six, two = build_regulariser("alpha_norm", {"alpha": 6.0}), build_regulariser("alpha_norm", {"alpha": 2.0})
    assert of(six, torch.ones_like(GREY)) == 1
    assert of(six, GREY + 0.1) < 0.01 * of(two, GREY + 0.1)


def test_total_variation_of_one_favours_steps_over_nothing_and_two_ramps_over_steps() -> None:
    step = torch.where(torch.arange(16) < 8, 0.2, 0.8).expand(1, 3, 16, 16)
    quadratic, linear = (build_regulariser("total_variation", {"beta": beta}) for beta in (2.0, 1.0))
    assert of(quadratic, step) > 5 * of(quadratic, RAMP)
    assert of(linear, step) == pytest.approx(of(linear, RAMP), rel=0.01)


def test_noise_length_is_finite_at_zero() -> None:
    code = torch.zeros(1, 16, requires_grad=True)
    penalty = build_regulariser("noise_length", {})(GREY, code)
    (gradient,) = torch.autograd.grad(penalty.sum(), code)
    assert torch.isfinite(penalty).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("size", [32, 48])
def test_spectrum_is_zero_for_natural_magnitudes_only(size: int) -> None:
    phases = torch.rand(1, 3, size, size // 2 + 1, generator=torch.Generator().manual_seed(3)) * 2 * math.pi
    natural = maco.PhaseImage(size, size)(phases)
    regulariser = build_regulariser("spectrum", {})
    assert of(regulariser, natural) == pytest.approx(0, abs=1e-3)
    assert of(regulariser, natural + 0.2) == pytest.approx(of(regulariser, natural), abs=1e-3)  # the mean is free
    white = 0.5 + natural.std() * torch.randn(natural.shape, generator=torch.Generator().manual_seed(4))
    assert of(regulariser, white) > 1
    assert of(regulariser, 0.5 + 4 * (natural - 0.5)) > 1
    wide = torch.cat([white, natural, white], -1)
    assert of(regulariser, wide) == pytest.approx(of(regulariser, natural), abs=1e-3)  # the central square
    grey = torch.full((1, 3, size, size), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(regulariser(grey, grey).sum(), grey)
    assert torch.isfinite(gradient).all()


def test_the_loop_pays_for_them(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    def rough(result: Tensor) -> float:
        return of(build_regulariser("total_variation", {}), result.flatten(0, 1)[:1])

    free = synthesize(tiny_classifier, "ant", tiny_generator, steps=20)
    paid = synthesize(
        tiny_classifier,
        "ant",
        tiny_generator,
        steps=20,
        regularisers=[build_regulariser("total_variation", {"weight": 100.0})],
    )
    assert rough(paid.images) < 0.8 * rough(free.images)


def test_what_is_not_a_regulariser(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    with pytest.raises(UnknownNameError, match="total_variation"):
        build_regulariser("total_variatoin", {})
    with pytest.raises(OptionError, match="colour"):
        build_regulariser("pixel_l2", {"colour": 1})
    with pytest.raises(OptionError, match="one penalty per item"):
        synthesize(tiny_classifier, "ant", tiny_generator, steps=1, regularisers=[lambda image, code: image.mean()])
