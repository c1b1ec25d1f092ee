"""Edits of the code after each update: (code, context) -> code.

Published methods change the image itself between steps (blur, clipping), or sample instead of maximising (noise, and a
pull towards natural codes). Every edit treats each item by itself; noise comes from the item's own random stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gen_prior.errors import OptionError
from gen_prior.optimise.constraints import check_constraint, with_mean, with_rms_contrast
from gen_prior.optimise.edits.context import Context, Edit, blurred, denoiser_of, need_image, prior_mean
from gen_prior.recipe import RENAMED
from gen_prior.util.devices import as_like
from gen_prior.util.lookup import build


def blur(every: int = 4, deviation: float = 1.0) -> Edit:
    """Gaussian blur of the image with std `deviation` in pixels, after every `every`-th step (Yosinski et al. 2015)."""
    if every < 1 or not deviation > 0:
        raise OptionError(f"blur needs every >= 1 and deviation > 0, got {every} and {deviation}")

    def edit(code: Tensor, context: Context) -> Tensor:
        need_image("blur", context)
        return blurred(code, deviation) if (context.step + 1) % every == 0 else code

    return edit


def clip_small_norm(percent: float = 50.0) -> Edit:
    """Set the `percent` of pixels that are nearest to the mean colour to it (Yosinski et al. 2015)."""
    _check_percent("clip_small_norm", percent)

    def edit(code: Tensor, context: Context) -> Tensor:
        need_image("clip_small_norm", context)
        mean = prior_mean(context, code)
        return torch.where(_is_small((code - mean).norm(dim=1), percent), mean, code)

    return edit


def clip_small_contribution(percent: float = 90.0) -> Edit:
    """Set the `percent` of pixels with the smallest contribution to the mean colour (Yosinski et al. 2015).

    The contribution, the absolute sum over colours of (x - mean) * gradient, estimates what blanking the pixel costs.
    """
    _check_percent("clip_small_contribution", percent)

    def edit(code: Tensor, context: Context) -> Tensor:
        need_image("clip_small_contribution", context)
        mean = prior_mean(context, code)
        contribution = ((code - mean) * context.gradient).sum(1).abs()
        return torch.where(_is_small(contribution, percent), mean, code)

    return edit


def l2_decay(decay: float = 1e-4) -> Edit:
    """Move the code by the fraction `decay` towards its prior's mean: mid-grey for pixels (Yosinski et al. 2015)."""
    if not 0 <= decay <= 1:
        raise OptionError(f"decay must lie in 0 to 1, got {decay}")
    return lambda code, context: torch.lerp(code, prior_mean(context, code).expand_as(code), decay)


def natural_range(low: float = 0.0, high: float = 1.0) -> Edit:
    """Clip every pixel to the range of images, as a hard constraint (Mahendran & Vedaldi 2016)."""
    if not low < high:
        raise OptionError(f"natural_range needs low < high, got {low} and {high}")

    def edit(code: Tensor, context: Context) -> Tensor:
        need_image("natural_range", context)
        return code.clamp(low, high)

    return edit


def mean(value: float = 0.5) -> Edit:
    """Shift every image to the mean `value` of its pixels (fixed luminance, Walker et al. 2019). Needs `pixel`."""
    check_constraint("mean", value)

    def edit(code: Tensor, context: Context) -> Tensor:
        need_image("mean", context)
        return with_mean(code, value)

    return edit


def rms_contrast(value: float = 0.15) -> Edit:
    """Scale every image about its mean to the standard deviation `value` of its pixels (Walker et al. 2019).

    Where pixels reach black or white they are clipped, and the contrast comes out a little lower. Needs `pixel`.
    """
    check_constraint("rms_contrast", value)

    def edit(code: Tensor, context: Context) -> Tensor:
        need_image("rms_contrast", context)
        return with_rms_contrast(code, value)

    return edit


def langevin(pull: float = 0.01, noise: float | None = None, denoiser: str = "auto") -> Edit:
    """Langevin steps: noise, and a pull towards natural codes (PPGN, Nguyen et al. 2017, arXiv 1612.00005).

    Args:
        pull: fraction of the way to the denoised code, per step.
        noise: std of the noise, relative to the prior's; where None, sqrt(2 pull - pull^2), for which pull and noise
            alone leave the distribution of codes of a Gaussian prior unchanged.
        denoiser: "gaussian" (the denoised code is the prior's mean), "encoder" (the generator's encoding of the
            image), or "auto": the encoder where there is one.
    """
    if not 0 <= pull <= 1:
        raise OptionError(f"pull must lie in 0 to 1, got {pull}")
    size = math.sqrt(2 * pull - pull * pull) if noise is None else noise
    denoised = denoiser_of(denoiser)

    def edit(code: Tensor, context: Context) -> Tensor:
        code = torch.lerp(code, denoised(context, code), pull)
        if size:
            std = as_like(context.prior.std, code)
            code = code + size * std * context.streams.normal(code.shape[1:])
        return code

    return edit


def norm_sphere(radius: float = 1.0, units: Sequence[int] | None = None, inside: bool = False) -> Edit:
    """Rescale every code to the norm sphere: root mean square distance `radius` from the prior's mean.

    In many dimensions nearly all of a Gaussian's mass lies near one norm, so a generator never saw codes inside it.

    Args:
        radius: in the prior's std; 1 is where samples of the prior lie.
        units: dimensions of the code as (first, end), end excluded; all where None.
        inside: leave codes inside the sphere as they are, and pull back only those outside.

    Raises:
        OptionError: a radius that is not positive, or dimensions that the code does not have.
    """
    if not radius > 0:
        raise OptionError(f"radius must be positive, got {radius}")
    if units is not None and not (len(units) == 2 and 0 <= units[0] < units[1]):
        raise OptionError(f"norm_sphere: units must be (first, end) with first < end, got {units}")

    def edit(code: Tensor, context: Context) -> Tensor:
        mean, std = (as_like(v, code).expand_as(code).flatten(1) for v in (context.prior.mean, context.prior.std))
        first, end = units if units is not None else (0, mean.shape[1])
        if end > mean.shape[1]:
            raise OptionError(f"norm_sphere: units end at {end}, but a code has {mean.shape[1]} dimensions")
        z = (code.flatten(1) - mean) / std
        size = z[:, first:end].square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
        factor = radius / size
        moved = z[:, first:end] * (factor.clamp(max=1) if inside else factor)
        return (mean + std * torch.cat([z[:, :first], moved, z[:, end:]], 1)).view_as(code)

    return edit


def fresh_noise(every: int = 20, share: float = 0.5) -> Edit:
    """Treat the first `share` of the code's dimensions as noise: not optimised, and redrawn every `every` steps.

    The rest of the code is then optimised for any noise (BigGAN-AM, Li et al. 2020, arXiv 1910.04760). Drawn from the
    prior's mean and std, truncated at two std.
    """
    if every < 1 or not 0 < share < 1:
        raise OptionError(f"fresh_noise needs every >= 1 and share between 0 and 1, got {every} and {share}")
    edge = math.erf(math.sqrt(2))

    def edit(code: Tensor, context: Context) -> Tensor:
        if context.generator.options.get("optimise", "both") != "both":
            raise OptionError(
                f"fresh_noise: {context.generator.name} holds its noise", fix="load it with optimise=both"
            )
        count = round(share * code[0].numel())
        held = context.code.flatten(1)[:, :count]
        if (context.step + 1) % every == 0 and context.step + 1 < context.steps:  # never after the last step
            normal = torch.erfinv(edge * torch.erf(context.streams.normal((count,)) / math.sqrt(2))) * math.sqrt(2)
            mean, std = (
                as_like(value, code).expand(code.shape[1:]).flatten()[:count]
                for value in (context.prior.mean, context.prior.std)
            )
            held = mean + std * normal.to(code)
        return torch.cat([held, code.flatten(1)[:, count:]], 1).view_as(code)

    return edit


EDITS: dict[str, Callable[..., Edit]] = {
    "blur": blur,
    "clip_small_norm": clip_small_norm,
    "clip_small_contribution": clip_small_contribution,
    "l2_decay": l2_decay,
    "natural_range": natural_range,
    "mean": mean,
    "rms_contrast": rms_contrast,
    "langevin": langevin,
    "norm_sphere": norm_sphere,
    "fresh_noise": fresh_noise,
}
"""Name in recipes -> function of the options."""


def build_edit(name: str, options: Mapping[str, Any]) -> Edit:
    """The named edit of the code. Raises `UnknownNameError`; `OptionError` for options that it does not take."""
    return build("edit", EDITS, RENAMED.get(name, name), options)


def _check_percent(name: str, percent: float) -> None:
    if not 0 <= percent < 100:
        raise OptionError(f"{name}: percent must be at least 0 and below 100, got {percent}")


def _is_small(values: Tensor, percent: float) -> Tensor:
    """`[B, H, W]` -> `[B, 1, H, W]`: True for the smallest `percent` of each item's values."""
    flat = values.flatten(1)
    threshold = flat.kthvalue(int(percent / 100 * flat.shape[1]) + 1, dim=1).values
    return (values < threshold[:, None, None])[:, None]
