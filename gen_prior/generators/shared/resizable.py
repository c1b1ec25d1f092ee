"""Size and channels of image parameterisations (pixel, fourier, maco), which follow those of the classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.generators.shared.checks import image_side

DEFAULT_SIDE = 224
ImageSize = int | Sequence[int] | None
"""A side, (height, width), or None for the classifier's own."""
Fit = Callable[..., Generator]
Build = Callable[[tuple[int, int], int, Fit | None], Generator]
"""(height and width, channels 1 or 3, `fit` of the generator) -> the generator."""


def resizable_generator(build: Build, image_size: ImageSize, channels: int) -> Generator:
    """The generator of a given size, or, where `image_size` is None, one that takes the size of each classifier.

    It starts at 224 pixels and `channels`; for classifiers of one channel it then draws grey images.

    Raises `OptionError` for sizes that are not from 8 to 2048, or other channels than 1 or 3.
    """
    if channels not in (1, 3):
        raise OptionError(f"channels must be 3 (colour) or 1 (grey), got {channels!r}")

    def fit(size: tuple[int, int], wanted: int = 3) -> Generator:
        return build(size, 1 if wanted == 1 else channels, None)

    if image_size is None:
        return build((DEFAULT_SIDE, DEFAULT_SIDE), channels, fit)
    return build(sides(image_size), channels, None)


def sides(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width, checked."""
    if isinstance(image_size, Sequence) and not isinstance(image_size, str):
        if len(image_size) != 2:
            raise OptionError(f"image_size must be a side or (height, width) in pixels, got {image_size!r}")
        return image_side(image_size[0]), image_side(image_size[1])
    side = image_side(image_size)
    return side, side


def recorded_options(size: tuple[int, int], channels: int) -> dict[str, Any]:
    """Options that load the same generator again, as results record them."""
    one = size[0] if size[0] == size[1] else list(size)
    return {"image_size": one} | ({} if channels == 3 else {"channels": channels})
