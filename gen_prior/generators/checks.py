"""Options of generators as users write them, in Python or after `--set`: of the right kind and in range, or refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gen_prior.classifiers.labels import imagenet
from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.base import Generator

LARGEST_SIDE = 2048


def whole_number(name: str, given: Any, *, least: int, most: int, multiple: int = 1) -> int:
    """`given`, a whole number in range. Raises `OptionError` that calls it `name`."""
    whole = isinstance(given, int) and not isinstance(given, bool)
    if not whole or not least <= given <= most or given % multiple:
        kind = {1: "a whole number", 2: "an even number"}.get(multiple, f"a multiple of {multiple}")
        raise OptionError(f"{name} must be {kind} from {least} to {most}, got {given!r}")
    return int(given)


def fraction(name: str, given: Any) -> float:
    """`given`, a number above 0 and at most 1. Raises `OptionError` that calls it `name`."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= 1 or math.isnan(given):
        raise OptionError(f"{name} must be a number above 0 and at most 1, got {given!r}")
    return given


def image_side(given: Any, *, least: int = 8, multiple: int = 1) -> int:
    """`given`, a side of an image in pixels. Raises `OptionError`."""
    return whole_number("image_size", given, least=least, most=LARGEST_SIDE, multiple=multiple)


def class_index(label: int | str, classes: int) -> int:
    """Class number of a number or, with the 1000 of ImageNet, a name. Raises `OptionError`, `UnknownNameError`."""
    text = str(label).strip()
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise OptionError(f"class_label must be a number or a name, got {label!r}")
    if isinstance(label, int) or (text.isascii() and text.isdecimal()):
        return whole_number("class_label", int(text), least=0, most=classes - 1)
    if classes != len(imagenet()):
        raise OptionError(f"this generator has {classes} classes without names, got {label!r}", fix="pass a number")
    return imagenet().index(text)


__all__ = ["class_index", "fraction", "image_side", "whole_number"]


def check_generates(
    generator: Generator,
    file: str,
    *,
    code: Tensor | None = None,
    size: tuple[int, int] | None = None,
    draw: Callable[[Tensor], Tensor] | None = None,
) -> Generator:
    """`generator`, once it has drawn a finite image of `size` (any, where None) from `code` (a start, where None).

    `draw`: what draws in place of the generator's module, where a part of the image is to do.
    Raises `WeightsError` that names `file`; what its network raises is left to `Files.loading`.
    """
    with torch.no_grad():
        image = (draw or generator.module)((generator.initial_code(0) if code is None else code)[None])
    channels = 1 if generator.channels == "L" else 3
    if image.ndim != 4 or image.shape[:2] != (1, channels) or (size is not None and tuple(image.shape[2:]) != size):
        wanted = " x ".join(map(str, size)) if size is not None else "any size"
        raise WeightsError(
            f"{file} draws something of shape {list(image.shape[1:])}, not an image of {channels} channels and {wanted}"
        )
    if not torch.isfinite(image).all():
        raise WeightsError(f"{file} draws images that are not finite")
    return generator


__all__ = ["check_generates"]
