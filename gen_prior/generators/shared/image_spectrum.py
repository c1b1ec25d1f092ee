"""Statistics of natural photographs: magnitude spectrum and colour covariance (made by `weights/make`)."""

from __future__ import annotations

from functools import cache
from importlib import resources

import torch
from safetensors.torch import load
from torch import Tensor
from torch.nn import functional as F


@cache
def _statistics() -> dict[str, Tensor]:
    data = resources.files("gen_prior.weights").joinpath("natural-statistics.safetensors").read_bytes()
    return load(data)


def colour_root() -> Tensor:
    """Square root of the covariance of natural colours, `[3, 3]`; it maps decorrelated planes to RGB."""
    return _statistics()["colour_root"].clone()


def magnitude(height: int, width: int | None = None) -> Tensor:
    """Mean magnitude of the orthonormal spectrum of photographs' decorrelated planes, `[3, height, width // 2 + 1]`.

    The planes are `inverse(colour_root()) @ (RGB - 0.5)`. `width` is `height` where None; an oblong image is as if cut
    out of a square one of its longer side.
    """
    width = height if width is None else width
    spectrum = _statistics()["magnitude"].float()
    full, side = spectrum.shape[-2], max(height, width)
    if height == width == full:
        return spectrum.clone()
    # Orthonormal magnitudes at the same cycles per image grow with the side; beyond the table they fall as 1/f.
    rows = torch.fft.fftfreq(height) * side
    columns = torch.arange(width // 2 + 1, dtype=torch.float32) * (side / width)
    furthest = torch.maximum(rows[:, None].abs(), columns)
    shrink = torch.clamp((full // 2 - 1) / furthest.clamp_min(1e-6), max=1.0)
    shifted = torch.fft.fftshift(spectrum, dim=1)
    y = (rows[:, None] * shrink + full // 2) / (full - 1) * 2 - 1
    x = (columns * shrink) / (full // 2) * 2 - 1
    grid = torch.stack([x.expand_as(y), y], -1)[None]
    sampled = F.grid_sample(shifted[None], grid, align_corners=True, padding_mode="border")[0]
    resized = sampled * shrink * (side / full)
    # In a real image's spectrum, magnitudes of these columns come in equal pairs.
    for column in (0, -1) if width % 2 == 0 else (0,):
        resized[..., column] = (resized[..., column] + resized[..., column].flip(-1).roll(1, -1)) / 2
    return resized
