"""The type of every objective: (activations, image, code) -> score `[B]`, higher is better. They add and scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from gen_prior.classifiers.hooks import LOGITS, Activations
from gen_prior.errors import OptionError

Score = Callable[[Activations, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Objective:
    """A score function, the layers it reads, and the words that results describe it with.

    `function(activations, image, code)` takes `{layer: [B, ...]}`, images `[B, 3, H, W]` and codes
    `[B, *code_shape]` and returns `[B]`; every item's score must depend on that item alone. Results report the value
    of `reported` as the activation where there is one, else the score.
    """

    function: Score
    layers: Sequence[str] = (LOGITS,)
    description: str = "custom"
    reported: Objective | None = None

    def __call__(self, activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        """The scores `[B]`. Raises `OptionError` where the function returns another shape."""
        score = self.function(activations, image, code)
        if score.shape != (len(code),):
            raise OptionError(f"objective {self.description!r} must return one score per item, got {list(score.shape)}")
        return score

    def reporting(self, other: Objective) -> Objective:
        """The same score, with the value of `other` as the activation that results report."""
        return replace(self, layers=tuple(dict.fromkeys([*self.layers, *other.layers])), reported=other)

    def __add__(self, other: Objective) -> Objective:
        def total(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
            return self(activations, image, code) + other(activations, image, code)

        layers = tuple(dict.fromkeys([*self.layers, *other.layers]))
        return Objective(total, layers, f"{self.description} + {other.description}")

    def __radd__(self, other: object) -> Objective:
        """So that `sum([a, b, c])`, which starts from 0, works."""
        if other != 0:
            return NotImplemented
        return self

    def __mul__(self, factor: float) -> Objective:
        def scaled(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
            return self(activations, image, code) * factor

        return Objective(scaled, self.layers, f"{factor:g} * ({self.description})")

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        return self + (-other)
