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
    """Sums that reach each pixel of the extended plane, `[B, C, H + 2 margin, W + 2 margin]`.

    A view's pixel reads the four pixels around its place in the image, each by the product of `1 - distance` along
    either side. A pixel of the plane looks for such readers around its own place in the view.
    """
    batch, channels, height, width = gradient.shape
    place_in_image = _in_pixels(rows, height, width)
    y = torch.arange(-margins[0], height + margins[0], device=rows.device)[None, :, None]
    x = torch.arange(-margins[1], width + margins[1], device=rows.device)[None, None, :]
    nearest_x, nearest_y = (place.floor() for place in _mapped(_inverse(place_in_image), x, y))
    total = gradient.new_zeros(batch, channels, height + 2 * margins[0], width + 2 * margins[1])
    steps = range(math.floor(-reach) + 1, math.ceil(reach) + 1)
    for down in steps:
        for right in steps:
            reader_x, reader_y = nearest_x + right, nearest_y + down
            read_x, read_y = _mapped(place_in_image, reader_x, reader_y)
            weight = (1 - (read_x - x).abs()).clamp_min(0) * (1 - (read_y - y).abs()).clamp_min(0)
            weight = weight * ((reader_x >= 0) & (reader_x < width) & (reader_y >= 0) & (reader_y < height))
            index = reader_y.clamp(0, height - 1).long() * width + reader_x.clamp(0, width - 1).long()
            sent = gradient.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, channels, -1))
            total += weight[:, None] * sent.view_as(total)
    return total


def _in_pixels(rows: Tensor, height: int, width: int) -> Tensor:
    """Maps `[B, 2, 3]` between coordinates from -1 to 1 as maps between pixels, without a copy from the host."""
    xx, xy, right, yx, yy, down = rows.flatten(1).unbind(1)
    xy, yx = xy * (width / height), yx * (height / width)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    right = right * (width / 2) + middle_x - xx * middle_x - xy * middle_y
    down = down * (height / 2) + middle_y - yx * middle_x - yy * middle_y
    return torch.stack([xx, xy, right, yx, yy, down], 1).view_as(rows)


def _inverse(maps: Tensor) -> Tensor:
    """Inverses of maps `[B, 2, 3]`; torch's own would wait for the host."""
    xx, xy, right, yx, yy, down = maps.flatten(1).unbind(1)
    entries = [yy, -xy, xy * down - yy * right, -yx, xx, yx * right - xx * down]
    return (torch.stack(entries, 1) / (xx * yy - xy * yx)[:, None]).view_as(maps)


def _mapped(maps: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Places `[B, H, W]` across and down that `[B, 2, 3]` maps `x` and `y` to."""
    across, down = maps[..., None, None].unbind(1)
    return across[:, 0] * x + across[:, 1] * y + across[:, 2], down[:, 0] * x + down[:, 1] * y + down[:, 2]


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
