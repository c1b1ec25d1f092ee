"""Gaussian blur of images, differentiable and cheap enough for every step of a climb.

Each side is one product with a matrix: an item's result does not depend on how many others there are, to the bit, as
that of a convolution would.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


def gaussian_blur(images: Tensor, deviation: float) -> Tensor:
    """Images `[B, C, H, W]` blurred by `deviation` pixels, mirrored at the edge; in float32 whatever surrounds it."""
    planes = images.float().flatten(0, 1)
    with torch.autocast(images.device.type, enabled=False):
        down, across = (_window(side, deviation, planes).expand(len(planes), -1, -1) for side in planes.shape[1:])
        return torch.bmm(torch.bmm(down, planes), across.mT).view(images.shape)


def _window(side: int, deviation: float, like: Tensor) -> Tensor:
    """`[side, side]`: how much of each place goes to each, itself and in the mirrors at both ends."""
    places = torch.arange(side, device=like.device, dtype=like.dtype)
    here, there = places[:, None], places[None]
    mirrored, beyond = here + there + 1, 2 * side - 1 - here - there
    weights = _bell(here - there, deviation) + _bell(mirrored, deviation) + _bell(beyond, deviation)
    return weights / weights.sum(1, keepdim=True)


def _bell(distance: Tensor, deviation: float) -> Tensor:
    return torch.exp(-0.5 * (distance / deviation) ** 2)


# Resizing as a product with matrices: on a CPU its gradient takes a quarter of the time of torch's own resize, whose
# gradient is summed in no fixed order on a GPU.


def resized(images: Tensor, size: tuple[int, int], mode: str, antialias: bool) -> Tensor:
    """Images `[B, C, H, W]` at `size` (height, width); not clamped."""
    rows, columns = (
        resize_matrix(*sides, mode, antialias, images.device, images.dtype)
        for sides in zip(images.shape[-2:], size, strict=True)
    )
    with torch.autocast(images.device.type, enabled=False):
        return rows @ images @ columns.mT


@cache
def resize_matrix(
    size: int, wanted: int, mode: str, antialias: bool, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """`[wanted, size]`: what a resize does to each row or column, which is linear."""
    with torch.inference_mode(False):  # kept ones must serve gradients later, wherever they were made first
        impulses = torch.eye(size, device="cpu")[None, None]  # each row is an impulse, resized along its own direction
        resized = F.interpolate(impulses, (size, wanted), mode=mode, align_corners=False, antialias=antialias)
        return resized[0, 0].mT.to(device, dtype)
