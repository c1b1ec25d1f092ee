"""Edits of the gradient before each update: (gradient, context) -> gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from gen_prior.errors import OptionError
from gen_prior.optimise.edits.context import Context, Edit, blurred, denoiser_of, need_image
from gen_prior.util.lookup import build


def smooth(deviation: float = 1.0) -> Edit:
    """Gaussian blur of the image's gradient with std `deviation` in pixels (Oygard 2015, deepdraw)."""
    if not deviation > 0:
        raise OptionError(f"deviation must be positive, got {deviation}")

    def edit(gradient: Tensor, context: Context) -> Tensor:
        need_image("smooth", context)
        return blurred(gradient, deviation)

    return edit


def laplacian(levels: int = 4) -> Edit:
    """Split the gradient into octaves and scale each to the same root mean square (Mordvintsev et al. 2015)."""
    if levels < 1:
        raise OptionError(f"levels must be at least 1, got {levels}")

    def edit(gradient: Tensor, context: Context) -> Tensor:
        need_image("laplacian", context)
        bands, rest = [], gradient
        for _ in range(levels):
            if min(rest.shape[-2:]) < 4:
                break
            half = F.interpolate(rest, scale_factor=0.5, mode="bilinear", antialias=True)
            bands.append(rest - F.interpolate(half, rest.shape[-2:], mode="bilinear"))
            rest = half
        whole = _to_unit_strength(rest)
        for band in reversed(bands):
            whole = F.interpolate(whole, band.shape[-2:], mode="bilinear") + _to_unit_strength(band)
        return whole

    return edit


def ppgn(prior_step: float = 1e-5, gradient_step: float = 1.0, noise: float = 1e-17, denoiser: str = "auto") -> Edit:
    """The direction e2 * gradient + e1 * (denoised code - code) + N(0, e3) of PPGN (Nguyen et al. 2017).

    With the "normalised" optimiser this is the published update, divided by its mean absolute value.
    `denoiser` as in `langevin`.
    """
    denoised = denoiser_of(denoiser)

    def edit(gradient: Tensor, context: Context) -> Tensor:
        pull = denoised(context, context.code) - context.code
        drawn = context.streams.normal(gradient.shape[1:])
        return gradient_step * gradient - prior_step * pull - noise * drawn  # the update goes against it

    return edit


GRADIENT_EDITS: dict[str, Callable[..., Edit]] = {"smooth": smooth, "laplacian": laplacian, "ppgn": ppgn}
"""Name in recipes -> function of the options."""


def build_gradient_edit(name: str, options: Mapping[str, Any]) -> Edit:
    """The named edit of the gradient. Raises as `build_edit`."""
    return build("gradient edit", GRADIENT_EDITS, name, options)


def _to_unit_strength(band: Tensor) -> Tensor:
    size = band.square().flatten(1).mean(1).sqrt().clamp_min(1e-12)
    return band / size[:, None, None, None]
