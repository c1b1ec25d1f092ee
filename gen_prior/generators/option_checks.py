"""Options of generators as users write them, in Python or after `--set`: of the right kind and in range, or refused."""

from __future__ import annotations

import math
from typing import Any

from gen_prior.errors import OptionError
from gen_prior.labels import imagenet

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
