"""Images `[B, C, H, W]` -> turned, zoomed, shifted and mirrored views, whose gradient is summed in a fixed order.

The gradient of torch's `grid_sample` adds up what the views' pixels send to each pixel of the image; on a GPU in the
order in which threads arrive, so that two runs differ by their last digits. Here each pixel of the image collects the
sum instead, from the few pixels of the view that can have read it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Limits:
    """Bounds of the maps of a transform, which fix the number of pixels that are looked at: nothing waits for the host.

    Attributes:
        degrees: largest rotation either way.
        enlargement: largest factor by which a view enlarges the image.
        reduction: smallest such factor.
        shift: largest shift either way, as a share of the side.
    """

    degrees: float = 0.0
    enlargement: float = 1.0
    reduction: float = 1.0
    shift: float = 0.0

    def margin(self, size: int, other: int) -> int:
        """Pixels beyond either end of a side of `size` that views can show; `other` is the other side's length."""
        turned = math.sin(math.radians(min(abs(self.degrees), 90.0)))
        reach = (size + turned * other) / 2 / self.reduction + self.shift * size
        return math.ceil(reach - size / 2) + 2

    def reach(self) -> float:
        """Distance in a view, along either side, between a pixel and one that can have read the same place."""
        turned = math.radians(min(abs(self.degrees), 45.0))
        return self.enlargement * (math.cos(turned) + math.sin(turned))


def affine_view(images: Tensor, rows: Tensor, limits: Limits) -> Tensor:
    """Sample `[B, C, H, W]` bilinearly at `rows` `[B, 2, 3]`, as `affine_grid` takes them; reflected at the edges.

    On a CPU this is torch's own function, whose gradient is summed in order there, and faster.
    """
    if images.device.type == "cpu":
        return _sampled(images, rows)
    view: Tensor = OrderedView.apply(images, rows, limits)
    return view


def _sampled(images: Tensor, rows: Tensor) -> Tensor:
    grid = F.affine_grid(rows.to(images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


class OrderedView(torch.autograd.Function):
    """`affine_view` by torch's own function, with a gradient that each pixel of the image collects."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, rows: Tensor, limits: Limits) -> Tensor:
        """Save the map, and sample."""
        ctx.save_for_backward(rows)
        ctx.limits = limits
        return _sampled(images, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Gradient on a plane that is extended by its reflections, folded back onto the image."""
        (rows,) = ctx.saved_tensors
        height, width = gradient.shape[-2:]
        margins = ctx.limits.margin(height, width), ctx.limits.margin(width, height)
        with torch.autocast(gradient.device.type, enabled=False):
            extended = _collected(gradient.float(), rows.float(), ctx.limits.reach(), margins)
            return _folded(_folded(extended, -1, margins[1]), -2, margins[0]).to(gradient.dtype), None, None


def _collected(gradient: Tensor, rows: Tensor, reach: float, margins: tuple[int, int]) -> Tensor:
    """What each pixel of the extended plane receives, `[B, C, H + 2 margin, W + 2 margin]`.

    A view's pixel `q` reads at `linear @ q + offset`, in pixels of the image, the four pixels around by the product of
    `1 - distance` along each side.
    """
    batch, channels, height, width = gradient.shape
    linear, offset = _in_pixels(rows, height, width)
    inverse = _inverse(linear)
    y = torch.arange(-margins[0], height + margins[0], device=rows.device)[None, :, None]
    x = torch.arange(-margins[1], width + margins[1], device=rows.device)[None, None, :]
    around_x, around_y = _mapped(inverse, x - offset[:, 0, None, None], y - offset[:, 1, None, None])
    first_x, first_y = around_x.floor(), around_y.floor()
    total = gradient.new_zeros(batch, channels, height + 2 * margins[0], width + 2 * margins[1])
    steps = range(math.floor(-reach) + 1, math.ceil(reach) + 1)
    for down in steps:
        for right in steps:
            at_x, at_y = first_x + right, first_y + down
            read_x, read_y = _mapped(linear, at_x, at_y)
            weight = (1 - (read_x + offset[:, 0, None, None] - x).abs()).clamp_min(0)
            weight = weight * (1 - (read_y + offset[:, 1, None, None] - y).abs()).clamp_min(0)
            weight = weight * ((at_x >= 0) & (at_x < width) & (at_y >= 0) & (at_y < height))
            index = at_y.clamp(0, height - 1).long() * width + at_x.clamp(0, width - 1).long()
            sent = gradient.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, channels, -1))
            total += weight[:, None] * sent.view_as(total)
    return total


def _in_pixels(rows: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Maps between coordinates from -1 to 1 as maps between pixels: linear parts `[B, 2, 2]`, offsets `[B, 2]`."""
    half = rows.new_tensor([width / 2, height / 2])
    linear = rows[:, :, :2] * half[:, None] / half
    offset = rows[:, :, 2] * half + half - 0.5 - linear @ (half - 0.5)
    return linear, offset


def _inverse(linear: Tensor) -> Tensor:
    """Inverses of `[B, 2, 2]`; torch's own would wait for the host."""
    xx, xy, yx, yy = linear.flatten(1).unbind(1)
    adjugate = torch.stack([torch.stack([yy, -xy], 1), torch.stack([-yx, xx], 1)], 1)
    return adjugate / (xx * yy - xy * yx)[:, None, None]


def _mapped(linear: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    entries = linear[..., None, None]
    return entries[:, 0, 0] * x + entries[:, 0, 1] * y, entries[:, 1, 0] * x + entries[:, 1, 1] * y


def _folded(extended: Tensor, side: int, margin: int) -> Tensor:
    """Add the margins along `side` to the pixels that they reflect, again and again where they are wider than those."""
    size = extended.shape[side] - 2 * margin
    total = torch.zeros_like(extended.narrow(side, margin, size))
    for start in range(-(margin // size + 1) * size, size + margin, size):  # whole images' widths, every other mirrored
        low, high = max(start, -margin), min(start + size, size + margin)
        if low < high:
            part = extended.narrow(side, low + margin, high - low)
            mirrored = (start // size) % 2 == 1
            place = size - (high - start) if mirrored else low - start
            total.narrow(side, place, high - low).add_(part.flip(side) if mirrored else part)
    return total
