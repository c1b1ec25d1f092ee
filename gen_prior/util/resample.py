"""Images `[..., H, W]` -> blurred, cropped and resized images, differentiable and cheap enough for every step.

Blurring and resizing are products with matrices: an item's result does not depend on the size of its batch, to the
bit, as that of a convolution would. On a CPU the gradient of a resize takes a quarter of the time of torch's own,
whose gradient is summed in no fixed order on a GPU.
"""

from __future__ import annotations

from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


def centre_crop(images: Tensor, height: int, width: int) -> Tensor:
    """The central `height` x `width` pixels of `[..., H, W]`, which must be at least as large."""
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]


# Published edits, `Transparency` and the training of the texture stage use torchvision's blurs instead, which cut the
# kernel off: another result, on which their settings and the trained weights rest.


def gaussian_blur(images: Tensor, std: float) -> Tensor:
    """Blur `[B, C, H, W]` by a Gaussian of `std` pixels, mirrored at the edge; in float32 under autocast too."""
    planes = images.float().flatten(0, 1)
    with torch.autocast(images.device.type, enabled=False):
        down, across = (_blur_matrix(side, std, planes.device).expand(len(planes), -1, -1) for side in planes.shape[1:])
        return torch.bmm(torch.bmm(down, planes), across.mT).view(images.shape)


@lru_cache(maxsize=64)
def _blur_matrix(side: int, std: float, device: torch.device) -> Tensor:
    """`[side, side]`: weight of each pixel in each blurred one, directly and by its mirror images at both ends."""
    with torch.inference_mode(False):  # cached ones must serve gradients later, wherever they were first made
        pixels = torch.arange(side, device=device, dtype=torch.float32)
        to, source = pixels[:, None], pixels[None]
        distances = (to - source, to + source + 1, 2 * side - 1 - to - source)
        direct, first, last = (torch.exp(-0.5 * (distance / std) ** 2) for distance in distances)
        weights = direct + first + last
        return weights / weights.sum(1, keepdim=True)


def resized(images: Tensor, size: tuple[int, int], mode: str, antialias: bool) -> Tensor:
    """Resize `[B, C, H, W]` to `size` (height, width) with torch's `mode` of interpolation; not clamped."""
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
    """`[wanted, size]`: the linear map that a resize applies to each row or column."""
    with torch.inference_mode(False):  # cached ones must serve gradients later, wherever they were first made
        impulses = torch.eye(size, device="cpu")[None, None]  # each row is an impulse, resized along its own direction
        resized = F.interpolate(impulses, (size, wanted), mode=mode, align_corners=False, antialias=antialias)
        return resized[0, 0].mT.to(device, dtype)
