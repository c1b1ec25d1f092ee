"""Grain: the finest contrast, which photographs have everywhere and no code says anything of.

What halving a photograph of 256 pixels loses has in each place a contrast that goes with the finest contrast that is
left (over 200 photographs the correlation of their logarithms is 0.9). To a network an image without it is far from all
photographs, also if it is one. So what a decoder draws is enlarged, and noise laid over it in proportion to the fine
contrast of the place, as the coders of films do it that take the grain out before they code, and synthesise one like it
afterwards (Norkin & Birkbeck 2018, "Film grain synthesis for AV1 video codec", DCC). The noise is one and the same for
every code, so that an image is a function of its code.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from gen_prior.blurring import gaussian_blur
from gen_prior.generators.coring import FINE, contrast
from gen_prior.resizing import resized


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
