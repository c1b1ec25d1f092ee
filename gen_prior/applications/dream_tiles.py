"""Octaves and tiles of DeepDream: sizes of an image, and optimisation steps on tiles of the classifier's input size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.optimise.resolve import TargetLike
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe

SCALE = 1.4
SMALLEST = 32
"""Least side of an image, an octave and a tile, in pixels."""


def octave_sizes(height: int, width: int, octaves: int, scale: float = SCALE) -> list[tuple[int, int]]:
    """Sizes (H, W) from the smallest octave to the image's own, without those with a side below 32 pixels.

    Raises `OptionError` for an image below 32 pixels, no octaves, or a scale that is not above 1.
    """
    if not isinstance(octaves, int) or octaves < 1:
        raise OptionError(f"octaves must be at least 1, got {octaves}")
    if not scale > 1:
        raise OptionError(f"the octave scale must be above 1, got {scale}")
    if min(height, width) < SMALLEST:
        raise OptionError(f"a dream needs an image of at least {SMALLEST} x {SMALLEST} pixels, got {height} x {width}")
    sizes = ((round(height / scale**octave), round(width / scale**octave)) for octave in range(octaves))
    return [*itertools.takewhile(lambda size: min(size) >= SMALLEST, sizes)][::-1]


def tile_indices(height: int, width: int, tile: tuple[int, int], shift: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Row and column indices of tiles that cover the image, shifted and wrapped around; a small image repeats."""
    axes = []
    for side, length, offset in zip((height, width), tile, shift, strict=True):
        count = max(1, math.ceil(side / length))
        axes.append([(torch.arange(length) + offset + index * side // count) % side for index in range(count)])
    return [(rows, columns) for rows in axes[0] for columns in axes[1]]


def optimise_tiles(
    classifier: Classifier,
    image: Tensor,
    objective: TargetLike,
    source: torch.Generator,
    recipe: Recipe,
    batch: int | None,
    precision: str,
) -> tuple[Tensor, Tensor]:
    """The image after a few steps on newly shifted tiles, overlaps averaged, and the tiles' activations."""
    tile = classifier.input_size
    height, width = image.shape[1:]
    shift = (int(torch.randint(height, (), generator=source)), int(torch.randint(width, (), generator=source)))
    tiles = tile_indices(height, width, tile, shift)
    starts = torch.stack([image[:, rows[:, None], columns[None]] for rows, columns in tiles])
    canvas = Generator(
        lambda code: code, (3, *tile), output_range=(0, 1), code_min=0.0, code_max=1.0, name="tiles", domain="image"
    )
    result = synthesize(
        classifier,
        objective,
        canvas,
        seeds=len(tiles),
        start=starts[None],
        recipe=recipe,
        batch=batch,
        precision=precision,
    )  # fmt: skip
    total, count = torch.zeros_like(image), torch.zeros(height, width)
    for (rows, columns), code in zip(tiles, result.codes[0], strict=True):
        where = (rows[:, None].expand(tile), columns[None].expand(tile))
        count.index_put_(where, torch.ones(tile), accumulate=True)
        for channel in range(3):
            total[channel].index_put_(where, code[channel], accumulate=True)
    return total / count, result.activations[0]


@contextmanager
def tile_size(classifier: Classifier, side: int | None) -> Iterator[None]:
    """Context in which the classifier takes images of `side` pixels; its own size if None."""
    if side is not None and side < SMALLEST:
        raise OptionError(f"tiles must be at least {SMALLEST} pixels, got {side}")
    before = classifier.input_size
    classifier.input_size = before if side is None else (side, side)
    try:
        yield
    finally:
        classifier.input_size = before


def turned(image: Tensor, zoom: float, degrees: float) -> Tensor:
    """`image` `[3, H, W]` enlarged about its centre and rotated by `degrees`, reflected beyond its borders."""
    height, width = image.shape[1:]
    angle = math.radians(degrees)
    cos, sin, ratio = math.cos(angle) / zoom, math.sin(angle) / zoom, height / width
    grid = F.affine_grid(torch.tensor([[[cos, -sin * ratio, 0], [sin / ratio, cos, 0]]]), [1, 3, height, width], False)
    return F.grid_sample(image[None], grid, mode="bicubic", padding_mode="reflection", align_corners=False)[0].clamp(
        0, 1
    )
