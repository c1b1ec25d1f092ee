"""Checks of generators: their options as users write them, and a smoke test of a loaded network."""

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
    """Return `given`. Raises `OptionError` that calls it `name` unless it is a whole number in range."""
    whole = isinstance(given, int) and not isinstance(given, bool)
    if not whole or not least <= given <= most or given % multiple:
        kind = {1: "a whole number", 2: "an even number"}.get(multiple, f"a multiple of {multiple}")
        raise OptionError(f"{name} must be {kind} from {least} to {most}, got {given!r}")
    return int(given)


def fraction(name: str, given: Any) -> float:
    """Return `given`. Raises `OptionError` that calls it `name` unless it is a number above 0 and at most 1."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= 1 or math.isnan(given):
        raise OptionError(f"{name} must be a number above 0 and at most 1, got {given!r}")
    return given


def image_side(given: Any, *, least: int = 8, multiple: int = 1) -> int:
    """Return `given`. Raises `OptionError` unless it is a possible side of an image in pixels."""
    return whole_number("image_size", given, least=least, most=LARGEST_SIDE, multiple=multiple)


def class_index(label: int | str, classes: int) -> int:
    """The class number of `label`: a number or, for the 1000 classes of ImageNet, a name.

    Raises `OptionError` for a number out of range and a name without ImageNet's classes, `UnknownNameError` otherwise.
    """
    text = str(label).strip()
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise OptionError(f"class_label must be a number or a name, got {label!r}")
    if isinstance(label, int) or (text.isascii() and text.isdecimal()):
        return whole_number("class_label", int(text), least=0, most=classes - 1)
    if classes != len(imagenet()):
        raise OptionError(f"this generator has {classes} classes without names, got {label!r}", fix="pass a number")
    return imagenet().index(text)


def check_generates(
    generator: Generator,
    file: str,
    *,
    code: Tensor | None = None,
    size: tuple[int, int] | None = None,
    draw: Callable[[Tensor], Tensor] | None = None,
) -> Generator:
    """Smoke-test a loaded generator and return it: it must make one finite image of the expected shape.

    `code`: code to decode, an initial code if None; `size`: expected height and width, any if None; `draw`: function to
    call instead of the generator's module. Raises `WeightsError` that names `file`; errors that the network itself
    raises are left to `Files.loading`.
    """
    with torch.no_grad():
        image = (draw or generator.module)((generator.initial_code(0) if code is None else code)[None])
    channels = 1 if generator.channels == "L" else 3
    if image.ndim != 4 or image.shape[:2] != (1, channels) or (size is not None and tuple(image.shape[2:]) != size):
        wanted = " x ".join(map(str, size)) if size is not None else "any size"
        raise WeightsError(
            f"{file} makes output of shape {list(image.shape[1:])}, not images of {channels} channels and {wanted}"
        )
    if not torch.isfinite(image).all():
        raise WeightsError(f"{file} makes images that are not finite")
    return generator


__all__ = ["LARGEST_SIDE", "check_generates", "class_index", "fraction", "image_side", "whole_number"]
