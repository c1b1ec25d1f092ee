"""Seeds -> random tensors: one stream per seed, so that an item draws the same in every batch."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gen_prior.errors import OptionError

MAX_SEED = 2**31 - 1
_SALT = 0x9E3779B1


def check_seed(seed: Any, *, most: int = MAX_SEED) -> int:
    """Return a seed as an integer. Raises `OptionError` unless it is a whole number from 0 to `most`."""
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number <= most:
        raise OptionError(f"a seed must be a whole number from 0 to {most}, got {seed!r}")
    return number


def derived_seed(seed: int, index: int) -> int:
    """A distinct seed for item `index`, computed from `seed` by a linear map."""
    return (seed * 1_000_003 + index * 7919 + 1) % (MAX_SEED + 1)


class Streams:
    """Random draws for a batch of B items during optimisation, each from a CPU generator of its own.

    Drawing on the CPU gives the same values for the same seed on every device. `uniform` draws the values of
    all steps at once, before the loop; `normal`, for noise on codes and gradients, draws at each call.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator().manual_seed(seed * _SALT + 1) for seed in seeds]
        self.device = device

    def uniform(self, steps: int, count: int) -> Tensor:
        """`[steps, B, count]` uniform values in [0, 1)."""
        drawn = [torch.rand(steps, count, generator=generator) for generator in self._generators]
        return torch.stack(drawn, 1).to(self.device, non_blocking=True)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """`[B, *shape]` standard normal values."""
        drawn = [torch.randn(tuple(shape), generator=generator) for generator in self._generators]
        return torch.stack(drawn).to(self.device, non_blocking=True)
