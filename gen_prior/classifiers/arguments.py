"""Checks of what a `Classifier` is told of its network: mean, standard deviation, size, resize, axes of units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gen_prior.errors import OptionError

INTERPOLATIONS = ("bilinear", "bicubic")


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise `OptionError` unless mean and std are one number per channel, of pixels in [0, 1]."""
    for name, values in (("mean", mean), ("std", std)):
        if isinstance(values, int | float):
            raise OptionError(f"{name} has one number per channel, got {values}", fix=f"{name}=({values},) * 3")
        if isinstance(values, str) or not all(_is_number(value) for value in _listed(name, values)):
            raise OptionError(f"{name} has one number per channel, got {values!r}", fix=f"{name}=(0.5, 0.5, 0.5), say")
    if len(mean) != len(std) or not len(mean):
        raise OptionError(f"mean and std need one value per input channel, got {len(mean)} and {len(std)}")
    if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
        raise OptionError(f"mean must be finite and std positive, got {tuple(mean)} and {tuple(std)}")
    if min(mean) < 0 or max(*mean, *std) > 1:
        raise OptionError(
            f"mean and std are of pixels in [0, 1], got {tuple(mean)} and {tuple(std)}",
            fix="divide those of pixels from 0 to 255 by 255",
        )


def checked_size(given: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) in pixels of a side or a pair. Raises `OptionError` for anything else, such as text."""
    size = (given, given) if isinstance(given, int) else given
    try:
        height, width = () if isinstance(size, str) else size
        if min(height, width) >= 1 and int(height) == height and int(width) == width:
            return int(height), int(width)
    except (TypeError, ValueError, OverflowError):  # no pair, or not of numbers
        pass
    raise OptionError(
        f"input_size must be a side or (height, width) in pixels, got {given!r}", fix="input_size=224, or (36, 64), say"
    )


def check_interpolation(given: str) -> None:
    """Raise `OptionError` for an unknown interpolation."""
    if given not in INTERPOLATIONS:
        raise OptionError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {given!r}")


def checked_axes(given: Mapping[str, int] | None) -> dict[str, int]:
    """`{layer: axis}`, empty for None. Raises `OptionError` for anything else."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(axis, int) for axis in given.values()):
        raise OptionError(f"unit_axis is {{layer: axis}}, got {given!r}", fix='unit_axis={"conv": 1}, say')
    return dict(given)


def _listed(name: str, values: Sequence[float]) -> list[float]:
    try:
        return list(values)
    except TypeError as error:
        raise OptionError(f"{name} has one number per channel, got {values!r}") from error


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return not isinstance(value, str)
