"""Regularisers: (image, code) -> penalty `[B]`, at least 0. Named ones are built from a recipe's specs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from gen_prior.errors import UnknownNameError

Regulariser = Callable[[Tensor, Tensor], Tensor]


def total_variation(weight: float = 1.0, beta: float = 2.0) -> Regulariser:
    """Mean over pixels of (dx^2 + dy^2)^(beta/2), Mahendran & Vedaldi 2015; beta 1 favours piecewise constant."""

    def penalty(image: Tensor, code: Tensor) -> Tensor:
        dx = image[..., :-1, 1:] - image[..., :-1, :-1]
        dy = image[..., 1:, :-1] - image[..., :-1, :-1]
        energy = dx.square() + dy.square()
        return weight * (energy if beta == 2 else (energy + 1e-8) ** (beta / 2)).flatten(1).mean(1)

    return penalty


def pixel_l2(weight: float = 1.0) -> Regulariser:
    """Mean squared distance of the pixels from mid-grey (Simonyan et al. 2014's L2, for images in [0, 1])."""
    return lambda image, code: weight * (image - 0.5).square().flatten(1).mean(1)


def code_l2(weight: float = 1.0) -> Regulariser:
    """Mean square of the code."""
    return lambda image, code: weight * code.square().flatten(1).mean(1)


REGULARISERS: dict[str, Callable[..., Regulariser]] = {
    "total_variation": total_variation,
    "pixel_l2": pixel_l2,
    "code_l2": code_l2,
}


def build_regulariser(name: str, options: Mapping[str, Any]) -> Regulariser:
    """The named regulariser with its options. Raises `UnknownNameError`."""
    if name not in REGULARISERS:
        raise UnknownNameError("regulariser", name, REGULARISERS)
    return REGULARISERS[name](**options)
