"""Coring: texture is left only where something coarser lies under it.

In photographs fine contrast comes with contrast at the next coarser scales. A decoder trained by critics draws weave or
grain also where there is none, and optimisation seeks it out, since it excites classifiers. As the last step of a
generator this takes it both from the image that the classifier sees and from the one that is shown, so that nothing is
gained by it. (Coring is the name of such a gain in video engineering: Rossi 1978, "Digital techniques for reducing
television noise", SMPTE Journal 87.)
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from gen_prior.util.resample import gaussian_blur, resized

FINE, COARSE, WINDOW = 1.5 / 128, 5.0 / 128, 6.0 / 128
"""Deviations, in parts of the image's side: what the first blur takes is fine, what is left by the second coarse, and
contrast is measured in windows of the third."""
FLOOR = 0.01
"""Contrast of what lies between that counts as being there everywhere."""


class Coring(nn.Module):
    """Images `[B, 3, H, W]` -> the same, fine contrast at most `limit` times that at the next coarser scales."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, images: Tensor) -> Tensor:
        images = images.float()
        side = images.shape[-1]
        smooth = gaussian_blur(images, FINE * side)
        fine = images - smooth
        middle = smooth - gaussian_blur(smooth, (COARSE**2 - FINE**2) ** 0.5 * side)
        gain = self.limit * (contrast(middle) + FLOOR) / contrast(fine)
        return smooth + fine * gain.clamp(max=1.0)


def coring(limit: float) -> nn.Module:
    """`Coring` to that limit; at 0 images pass as they are."""
    return Coring(limit) if limit else nn.Identity()


def contrast(band: Tensor) -> Tensor:
    """Deviation of a band `[B, 3, H, W]` of images in a window about each pixel, `[B, 1, H, W]`."""
    squares = band.square().mean(1, keepdim=True)
    return torch.sqrt(gaussian_blur(squares, WINDOW * band.shape[-1]) + 1e-6)


# Grain: noise in proportion to the local fine contrast, added after the enlargement (film grain synthesis, as in
# Norkin & Birkbeck 2018, DCC). The noise is the same for every code, so that an image is a function of its code.


class Grain(nn.Module):
    """Images `[B, 3, S, S]` -> `[B, 3, 2S, 2S]`, with grain of `strength` times the local fine contrast."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, images: Tensor) -> Tensor:
        images = images.float()
        fine = contrast(images - gaussian_blur(images, FINE * images.shape[-1]))
        larger, amount = doubled(torch.cat([images, fine], 1)).split([3, 1], 1)
        return larger + self.strength * amount * pattern(larger.shape[-1], larger.device)


def grain(strength: float) -> nn.Module:
    """`Grain` of that strength; at 0 images pass as they are."""
    return Grain(strength) if strength else nn.Identity()


def doubled(images: Tensor) -> Tensor:
    """Images `[B, C, S, S]` of twice the side, by bicubic interpolation."""
    side = 2 * images.shape[-1]
    return resized(images, (side, side), "bicubic", antialias=False)


@cache
def pattern(side: int, device: torch.device) -> Tensor:
    """White noise of deviation 1, `[side, side]`."""
    with torch.inference_mode(False):  # a kept one must serve gradients later
        return torch.randn(side, side, generator=torch.Generator().manual_seed(0), device="cpu").to(device)
