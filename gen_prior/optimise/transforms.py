"""Transforms: (images `[B, 3, H, W]`, uniform draws `[B, count]`) -> transformed images, random per item.

Each transform states how many uniform draws an item needs per step. The loop takes them from the item's own random
stream before the first step, so that a transform is a pure function and needs no host work inside the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.errors import OptionError
from gen_prior.optimise.constraints import check_constraint, with_mean, with_rms_contrast
from gen_prior.util.affine_view import Limits, affine_view
from gen_prior.util.lookup import build
from gen_prior.util.resample import gaussian_blur


@dataclass(frozen=True)
class Transform:
    """`apply(images [B, 3, H, W], draws [B, count] in [0, 1)) -> images [B, 3, H, W]`."""

    apply: Callable[[Tensor, Tensor], Tensor]
    count: int


def jitter(pixels: int = 8, side: int | None = None) -> Transform:
    """Shift by whole pixels, up to `pixels` each way, wrapping around (Mordvintsev et al. 2015).

    Where `side` is given, images whose shorter side is smaller shift less, in proportion, but by up to one pixel.
    """
    if side is not None and side < 1:
        raise OptionError(f"jitter needs a side of at least one pixel, got {side}")

    def apply(images: Tensor, draws: Tensor) -> Tensor:
        share = 1.0 if side is None else min(1.0, min(images.shape[-2:]) / side)
        most = pixels if share == 1 else min(pixels, max(1, round(pixels * share)))
        return _roll(images, ((draws * 2 - 1) * (most + 0.5)).round().clamp(-most, most).long())

    return Transform(apply, 2)


def noise(deviation: float = 0.05) -> Transform:
    """Add Gaussian noise of std `deviation`: one fixed tile, rolled and signed by the item's draws."""
    tiles: dict[tuple[object, ...], Tensor] = {}

    def apply(images: Tensor, draws: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        key = (channels, height, width, images.device, images.dtype)
        if key not in tiles:
            tiles[key] = torch.randn(channels, height, width, generator=torch.Generator().manual_seed(0)).to(images)
        shifts = torch.stack([draws[:, 0] * height, draws[:, 1] * width], 1).long()
        rolled = _roll(tiles[key].expand(batch, -1, -1, -1), shifts)
        return images + deviation * torch.where(draws[:, 2] < 0.5, -1.0, 1.0)[:, None, None, None] * rolled

    return Transform(apply, 3)


def affine(
    degrees: float = 0.0, scale: tuple[float, float] = (1.0, 1.0), shift: float = 0.0, mirror: bool = False
) -> Transform:
    """Rotate up to +-`degrees`, scale within `scale`, shift up to `shift` of the side, perhaps mirror: one resampling.

    A scale above 1 enlarges. The image is reflected at its edges, so that no border shows. Raises `OptionError` unless
    the scales are positive and in order.
    """
    if not 0 < scale[0] <= scale[1]:
        raise OptionError(f"scale must be two positive factors, the smaller first, got {tuple(scale)}")
    limits = Limits(degrees, enlargement=scale[1], reduction=scale[0], shift=shift)

    def apply(images: Tensor, draws: Tensor) -> Tensor:
        angle = (draws[:, 0] * 2 - 1) * math.radians(degrees)
        zoom = torch.exp(math.log(scale[0]) + draws[:, 1] * (math.log(scale[1]) - math.log(scale[0])))
        dx, dy = (draws[:, 2] * 2 - 1) * 2 * shift, (draws[:, 3] * 2 - 1) * 2 * shift
        flip = torch.where(draws[:, 4] < 0.5, -1.0, 1.0) if mirror else torch.ones_like(angle)
        cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        aspect = images.shape[-1] / images.shape[-2]  # grid coordinates run from -1 to 1 along either side
        across, down = torch.stack([cos * flip, -sin / aspect, dx], 1), torch.stack([sin * flip * aspect, cos, dy], 1)
        return affine_view(images, torch.stack([across, down], 1), limits)

    return Transform(apply, 5)


def crop(margin: float = 0.07) -> Transform:
    """Enlarge by `margin` and cut out a random window of the old size."""

    def apply(images: Tensor, draws: Tensor) -> Tensor:
        reach = margin / (1 + margin)
        batch = len(images)
        rows = images.new_zeros(batch, 2, 3)
        rows[:, 0, 0] = rows[:, 1, 1] = 1 - reach
        rows[:, :, 2] = (draws * 2 - 1) * reach
        return affine_view(images, rows, Limits(enlargement=1 + margin))

    return Transform(apply, 2)


def blur(deviation: float = 2.5) -> Transform:
    """Mix in a random share of a Gaussian blur with std `deviation` in pixels, so that fine texture alone scores low.

    Raises `OptionError` unless the std is positive and finite.
    """
    if not 0 < deviation < math.inf:
        raise OptionError(f"blur needs a positive deviation, got {deviation}")

    def apply(images: Tensor, draws: Tensor) -> Tensor:
        return torch.lerp(images, gaussian_blur(images, deviation), draws[:, :, None, None])

    return Transform(apply, 1)


def colour(brightness: float = 0.1, contrast: float = 0.1, saturation: float = 0.2) -> Transform:
    """Random brightness, contrast and saturation."""

    def apply(images: Tensor, draws: Tensor) -> Tensor:
        signed = (draws * 2 - 1)[:, :, None, None, None]
        grey = images.mean(1, keepdim=True)
        images = grey + (images - grey) * (1 + saturation * signed[:, 0])
        middle = images.mean((1, 2, 3), keepdim=True)
        return (middle + (images - middle) * (1 + contrast * signed[:, 1]) + brightness * signed[:, 2]).clamp(0, 1)

    return Transform(apply, 3)


def pad(pixels: int = 12, value: float = 0.5) -> Transform:
    """Add a border of `pixels` of one grey on every side, against structure at the edge (Olah et al. 2017)."""
    if pixels < 0:
        raise OptionError(f"pad needs pixels >= 0, got {pixels}")
    return Transform(lambda images, draws: F.pad(images, [pixels] * 4, value=value), 0)


def mean(value: float = 0.5) -> Transform:
    """Shift every image to the mean `value` of its pixels (fixed luminance, Walker et al. 2019)."""
    check_constraint("mean", value)
    return Transform(lambda images, draws: with_mean(images, value), 0)


def rms_contrast(value: float = 0.15) -> Transform:
    """Scale every image about its mean to the standard deviation `value` of its pixels (Walker et al. 2019)."""
    check_constraint("rms_contrast", value)
    return Transform(lambda images, draws: with_rms_contrast(images, value), 0)


def _roll(images: Tensor, shifts: Tensor) -> Tensor:
    """Shift each image down and right by its own `[B, 2]` pixels, wrapping around."""
    if images.device.type == "cpu":  # elsewhere the host would wait for the shifts
        return torch.stack([image.roll(shift, (1, 2)) for image, shift in zip(images, shifts.tolist(), strict=True)])
    batch, channels, height, width = images.shape
    rows = (torch.arange(height, device=images.device) - shifts[:, :1]) % height
    columns = (torch.arange(width, device=images.device) - shifts[:, 1:]) % width
    images = images.gather(2, rows[:, None, :, None].expand(batch, channels, height, width))
    return images.gather(3, columns[:, None, None, :].expand(batch, channels, height, width))


TRANSFORMS: dict[str, Callable[..., Transform]] = {
    "jitter": jitter,
    "noise": noise,
    "affine": affine,
    "crop": crop,
    "blur": blur,
    "colour": colour,
    "pad": pad,
    "mean": mean,
    "rms_contrast": rms_contrast,
}


def as_transform(transform: Transform | Callable[[Tensor], Tensor]) -> Transform:
    """Return a `Transform` as it is; wrap a plain function images -> images as one without draws."""
    if isinstance(transform, Transform):
        return transform
    return Transform(lambda images, draws: transform(images), 0)


def build_transform(name: str, options: Mapping[str, Any]) -> Transform:
    """The named transform with its options. Raises `UnknownNameError`; `OptionError` for options it does not take."""
    return build("transform", TRANSFORMS, name, options)
