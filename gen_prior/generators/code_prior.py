"""The prior of natural codes: a diagonal Gaussian and bounds, which optimisation may project to or penalise by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gen_prior.errors import OptionError
from gen_prior.util.devices import as_like


@dataclass(frozen=True)
class CodePrior:
    """Mean, standard deviation and bounds of natural codes, per code unit.

    Each field is a number or a tensor that broadcasts to the code's shape; a bound of None is absent. A unit of
    standard deviation 0 never varied: it carries no penalty.
    """

    mean: Tensor | float = 0.0
    std: Tensor | float = 1.0
    minimum: Tensor | float | None = None
    maximum: Tensor | float | None = None

    def check(self, shape: Sequence[int]) -> None:
        """Raises `OptionError` where a field does not broadcast to codes of `shape`, or `std` is negative."""
        fields = {"mean": self.mean, "std": self.std, "min": self.minimum, "max": self.maximum}
        for label, value in fields.items():
            own = list(value.shape) if isinstance(value, Tensor) else []
            if value is not None and not _broadcasts(own, shape):
                raise OptionError(f"code_{label} must be a number or broadcast to {list(shape)}, got {own}")
        if bool((torch.as_tensor(self.std) < 0).any()):
            raise OptionError("code_std must not be negative")

    def project(self, code: Tensor, sigmas: float | None = None) -> Tensor:
        """Nearest codes `[B, *shape]` inside the bounds and, if given, within `sigmas` standard deviations of the mean.

        Clamps each unit by itself.
        """
        for bound, limit in ((self.minimum, torch.maximum), (self.maximum, torch.minimum)):
            if bound is not None:
                code = limit(code, as_like(bound, code))
        if sigmas is not None:
            mean, reach = as_like(self.mean, code), sigmas * as_like(self.std, code)
            code = torch.minimum(torch.maximum(code, mean - reach), mean + reach)
        return code

    def penalty(self, code: Tensor) -> Tensor:
        """Negative log density of codes `[B, *shape]` under the Gaussian, per unit and up to a constant: `[B]`, >= 0.

        This is half the mean squared distance from the mean in standard deviations.
        """
        std = as_like(self.std, code)
        z = (code - as_like(self.mean, code)) / torch.where(std > 0, std, 1.0)
        return 0.5 * torch.where(std > 0, z, 0.0).square().flatten(1).mean(1)

    def to(self, device: torch.device | str) -> CodePrior:
        """Return the same prior with its tensors on `device`."""
        fields = (self.mean, self.std, self.minimum, self.maximum)
        return CodePrior(*(value.to(device) if isinstance(value, Tensor) else value for value in fields))  # type: ignore[arg-type]


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    try:
        return np.broadcast_shapes(tuple(shape), tuple(to)) == tuple(to)  # torch's takes half a second to import sympy
    except ValueError:
        return False


__all__ = ["CodePrior"]
