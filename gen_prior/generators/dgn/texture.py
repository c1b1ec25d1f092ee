"""Texture of a prior's images, as its last steps: coring suppresses it where it is unlikely, grain adds it."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from gen_prior.util.resample import gaussian_blur, resized

FINE, COARSE, WINDOW = 1.5 / 128, 5.0 / 128, 6.0 / 128
"""Standard deviations of Gaussian blurs, in parts of the image's side: the fine band is what the first blur removes,
the middle band lies between the first and the second, and contrast is averaged in windows of the third."""
FLOOR = 0.01
"""Contrast of the middle band that is assumed everywhere at least."""

# Coring limits the fine contrast of an image, in a window around each pixel, in proportion to the contrast of the next
# coarser band there (the name is that of a similar gain in video: Rossi 1978, SMPTE Journal 87). In photographs fine
# contrast comes with coarser contrast. A decoder trained by critics makes texture elsewhere too, and optimisation
# exploits it, since texture excites classifiers. As a part of the generator, coring takes it from both the image that
# the classifier sees and the one that is shown, so nothing is gained by it.


class Coring(nn.Module):
    """Images `[B, 3, H, W]` -> the same with a fine contrast of at most `limit` times that of the middle band.

    `side`: that of which the bands are parts, in pixels; the images' own if None.
    """

    def __init__(self, limit: float, side: int | None = None) -> None:
        super().__init__()
        self.limit, self.side = limit, side

    def forward(self, images: Tensor) -> Tensor:
        images = images.float()
        side = self.side or images.shape[-1]
        smooth = gaussian_blur(images, FINE * side)
        fine = images - smooth
        middle = smooth - gaussian_blur(smooth, (COARSE**2 - FINE**2) ** 0.5 * side)
        gain = self.limit * (contrast(middle, side) + FLOOR) / contrast(fine, side)
        return smooth + fine * gain.clamp(max=1.0)


def coring(limit: float, side: int | None = None) -> nn.Module:
    """`Coring` to that limit, or the identity for a limit of 0."""
    return Coring(limit, side) if limit else nn.Identity()


def contrast(band: Tensor, side: int) -> Tensor:
    """Local standard deviation of a band of images, `[B, 3, H, W]` -> `[B, 1, H, W]`, in windows by `side`."""
    squares = band.square().mean(1, keepdim=True)
    return torch.sqrt(gaussian_blur(squares, WINDOW * side) + 1e-6)


# Grain adds noise in proportion to the local fine contrast after the image is enlarged (film grain synthesis, as in
# Norkin & Birkbeck 2018, DCC). The noise is the same for every code, so that an image is a function of its code.


class Grain(nn.Module):
    """Images `[B, 3, S, S]` -> `[B, 3, 2S, 2S]` with noise of `strength` times the local fine contrast.

    `side`: as of `Coring`.
    """

    def __init__(self, strength: float, side: int | None = None) -> None:
        super().__init__()
        self.strength, self.side = strength, side

    def forward(self, images: Tensor) -> Tensor:
        images = images.float()
        side = self.side or images.shape[-1]
        fine = contrast(images - gaussian_blur(images, FINE * side), side)
        larger, amount = doubled(torch.cat([images, fine], 1)).split([3, 1], 1)
        return larger + self.strength * amount * pattern(larger.shape[-1], larger.device)


def grain(strength: float, side: int | None = None) -> nn.Module:
    """`Grain` of that strength, or the identity for a strength of 0."""
    return Grain(strength, side) if strength else nn.Identity()


def doubled(images: Tensor) -> Tensor:
    """Images `[B, C, S, S]` enlarged to twice the side by bicubic interpolation."""
    side = 2 * images.shape[-1]
    return resized(images, (side, side), "bicubic", antialias=False)


@cache
def pattern(side: int, device: torch.device) -> Tensor:
    """Standard normal noise `[side, side]`, always the same."""
    with torch.inference_mode(False):  # the cached tensor must serve gradients later
        return torch.randn(side, side, generator=torch.Generator().manual_seed(0), device="cpu").to(device)
