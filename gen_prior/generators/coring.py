"""Coring: texture is left only where something coarser lies under it.

In photographs fine contrast comes with contrast at the next coarser scales. A decoder trained by critics draws weave or
grain also where there is none, and optimisation seeks it out, since it excites classifiers. As the last step of a
generator this takes it both from the image that the classifier sees and from the one that is shown, so that nothing is
gained by it. (Coring is the name of such a gain in video engineering: Rossi 1978, "Digital techniques for reducing
television noise", SMPTE Journal 87.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_prior.blurring import gaussian_blur

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
