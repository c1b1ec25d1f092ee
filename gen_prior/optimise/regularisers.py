"""Regularisers: (image, code) -> penalty `[B]`, at least 0. Named ones are built from a recipe's specs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gen_prior.errors import OptionError
from gen_prior.generators.shared.image_spectrum import colour_root, magnitude
from gen_prior.util.lookup import build

Regulariser = Callable[[Tensor, Tensor], Tensor]


def total_variation(weight: float = 1.0, beta: float = 2.0) -> Regulariser:
    """Mean over pixels of (dx^2 + dy^2)^(beta/2) (Mahendran & Vedaldi 2015); beta 1 favours flat regions."""

    def penalty(image: Tensor, code: Tensor) -> Tensor:
        dx = image[..., :-1, 1:] - image[..., :-1, :-1]
        dy = image[..., 1:, :-1] - image[..., :-1, :-1]
        energy = dx.square() + dy.square()
        return weight * (energy if beta == 2 else (energy + 1e-8) ** (beta / 2)).flatten(1).mean(1)

    return penalty


def alpha_norm(weight: float = 1.0, alpha: float = 6.0) -> Regulariser:
    """Mean of abs(2x - 1)^alpha: keeps pixels away from black and white (Mahendran & Vedaldi 2015, alpha 6)."""
    return lambda image, code: weight * (2 * image - 1).abs().pow(alpha).flatten(1).mean(1)


def laplacian(weight: float = 1.0) -> Regulariser:
    """Mean square of the discrete Laplacian: zero for linear gradients, high for fine texture."""

    def penalty(image: Tensor, code: Tensor) -> Tensor:
        middle = image[..., 1:-1, 1:-1]
        around = image[..., :-2, 1:-1] + image[..., 2:, 1:-1] + image[..., 1:-1, :-2] + image[..., 1:-1, 2:]
        return weight * (around - 4 * middle).square().flatten(1).mean(1)

    return penalty


def spectrum(weight: float = 1.0) -> Regulariser:
    """Distance of the image's power spectrum from that of natural photographs (after Field 1987; the penalty is ours).

    Power is averaged over rings of equal frequency in three decorrelated colour planes. The penalty is the mean square,
    over rings and planes, of the log ratio to the photographs' power. The mean colour does not count; images that are
    not square are cropped to their central square.
    """
    known: dict[tuple[int, torch.device], tuple[Tensor, Tensor, Tensor]] = {}

    def penalty(image: Tensor, code: Tensor) -> Tensor:
        side = min(image.shape[-2:])
        top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
        square = image[..., top : top + side, left : left + side].float() - 0.5
        key = (side, image.device)
        if key not in known:
            rings = _rings(side)
            natural = magnitude(side).square().flatten(1) @ rings
            known[key] = (rings.to(key[1]), natural.to(key[1]), torch.linalg.inv(colour_root()).to(key[1]))
        rings, natural, decorrelate = known[key]
        planes = torch.einsum("ij,bjhw->bihw", decorrelate, square)
        power = torch.view_as_real(torch.fft.rfft2(planes, norm="ortho")).square().sum(-1).flatten(2) @ rings
        return weight * ((power + _FLOOR).log() - (natural + _FLOOR).log()).square().flatten(1).mean(1)

    return penalty


_FLOOR = 5e-4
"""About the power of 8-bit rounding in the weakest plane; power below it does not count."""


def _rings(side: int) -> Tensor:
    """`[side * (side // 2 + 1), side // 2]`: column r averages the half spectrum at r + 1 cycles per image."""
    rows, columns = torch.fft.fftfreq(side)[:, None] * side, torch.arange(side // 2 + 1)[None]
    radius = torch.sqrt(rows.square() + columns.square()).round()
    twice = torch.full((1, side // 2 + 1), 2.0)  # all but two columns stand for their mirror image as well
    twice[0, 0] = 1.0
    if side % 2 == 0:
        twice[0, -1] = 1.0
    members = (radius[..., None] == torch.arange(1, side // 2 + 1)) * twice[..., None]
    flat = members.flatten(0, 1)
    return flat / flat.sum(0)


def pixel_l2(weight: float = 1.0) -> Regulariser:
    """Mean squared distance of the pixels from mid-grey (Simonyan et al. 2014's L2, for images in [0, 1])."""
    return lambda image, code: weight * (image - 0.5).square().flatten(1).mean(1)


def code_l2(weight: float = 1.0) -> Regulariser:
    """Mean square of the code."""
    return lambda image, code: weight * code.square().flatten(1).mean(1)


def noise_length(weight: float = 0.01, numbers: int | None = None) -> Regulariser:
    """Negative log-likelihood of the code's norm under standard normal noise, minus its minimum.

    r^2 / 2 - (d - 1) log r for norm r in d dimensions (ReNO, Eyring et al. 2024, arXiv 2406.04312). The logarithm is
    continued by its tangent below a thousandth of the likeliest squared norm, so that value and gradient are finite at
    zero. `numbers`: the noise is only the first so many dimensions of the code; all where None.
    """

    def penalty(image: Tensor, code: Tensor) -> Tensor:
        noise = code.flatten(1)[:, :numbers].float()
        likeliest = max(noise.shape[1] - 1, 1)  # squared length
        square = noise.square().sum(1) / likeliest
        floor = 1e-3
        logarithm = square.clamp_min(floor).log() + (square - floor).clamp_max(0) / floor
        return weight * 0.5 * likeliest * (square - logarithm - 1)

    return penalty


REGULARISERS: dict[str, Callable[..., Regulariser]] = {
    "total_variation": total_variation,
    "alpha_norm": alpha_norm,
    "laplacian": laplacian,
    "spectrum": spectrum,
    "pixel_l2": pixel_l2,
    "code_l2": code_l2,
    "noise_length": noise_length,
}


def checked_penalty(regulariser: Regulariser, image: Tensor, code: Tensor) -> Tensor:
    """The penalties `[B]`. Raises `OptionError` if the function returns another shape."""
    penalty = regulariser(image, code)
    if penalty.shape != (len(code),):
        raise OptionError(f"a regulariser must return one penalty per item, got {list(penalty.shape)}")
    return penalty


def build_regulariser(name: str, options: Mapping[str, Any]) -> Regulariser:
    """The named regulariser. Raises `UnknownNameError`; `OptionError` for options that it does not take."""
    return build("regulariser", REGULARISERS, name, options)
