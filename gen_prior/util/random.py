"""One random stream per seed: what an item draws depends on its seed alone, never on its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_SEED = 2**31 - 1
_SALT = 0x9E3779B1


def derived_seed(seed: int, index: int) -> int:
    """A seed for the draws at one place of what `seed` decides: a piece of a chain, a candidate for a start."""
    return (seed * 1_000_003 + index * 7919 + 1) % (MAX_SEED + 1)


class Streams:
    """The draws of a batch of items during optimisation, each from its own CPU generator.

    Drawing on the CPU makes the same seed mean the same thing on every device. The uniform numbers for
    every step are drawn before the loop and copied to the device once, so the loop never waits for the host.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator().manual_seed(seed * _SALT + 1) for seed in seeds]
        self.device = device

    def uniform(self, steps: int, count: int) -> Tensor:
        """`[steps, B, count]` numbers in [0, 1)."""
        drawn = [torch.rand(steps, count, generator=generator) for generator in self._generators]
        return torch.stack(drawn, 1).to(self.device, non_blocking=True)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """`[B, *shape]` standard normal numbers."""
        drawn = [torch.randn(tuple(shape), generator=generator) for generator in self._generators]
        return torch.stack(drawn).to(self.device, non_blocking=True)
