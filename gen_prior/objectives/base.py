"""`Objective`: (activations, image, code) -> score `[B]`, higher is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gen_prior.classifiers.hooks import Activations
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.errors import OptionError

Score = Callable[[Activations, Tensor, Tensor], Tensor]
ORIGIN = "origin"
"""Attribute of a score function that a factory of this package made: the factory's name and arguments, plain values."""
HOLDS = "holds"
"""Attribute of a score function that holds photographs or activations, which no result keeps: which of them."""


def made_by(function: Score, factory: str, **arguments: Any) -> Score:
    """Record on `function` which factory made it, with tensors as lists.

    `rebuild.FACTORIES` names how the objective is made again from a file. A factory that holds photographs calls
    `holding` instead: its objectives replay only where they are given again.
    """
    plain = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in arguments.items()}
    function.__dict__[ORIGIN] = {"factory": factory} | plain
    return function


def holding(function: Score, what: str) -> Score:
    """Note on `function` what it holds that is too large for a result: "photographs" or "activations"."""
    function.__dict__[HOLDS] = what
    return function


@dataclass(frozen=True, eq=False)
class Objective:
    """A score to maximise. Objectives can be added, subtracted, and multiplied by a number.

    A factory of the library also calls `made_by` and is named in `rebuild.FACTORIES`, so that its results replay.

    Attributes:
        function: (`{layer: [B, ...]}`, images `[B, 3, H, W]` in [0, 1], codes `[B, *code_shape]`) -> scores `[B]`.
            An item's score must depend on that item alone.
        layers: the layers that `function` needs, "logits" is the output.
        description: how results describe this objective.
        reported: the objective whose value results report as the activation; None for this one.
        positions: (layer, position) pairs that it reads of hidden layers, from which follows what part of the input
            it sees. A position is one of a `Target`, "mean" for all positions alike, or "all" where it tells them
            apart. None stands for "mean" of every hidden layer in `layers`.
    """

    function: Score
    layers: Sequence[str] = (LOGITS,)
    description: str = "custom"
    reported: Objective | None = None
    positions: Sequence[tuple[str, object]] | None = None

    @property
    def hidden(self) -> bool:
        """True if it reads another layer than the logits."""
        return any(layer != LOGITS for layer in self.layers)

    @property
    def read_positions(self) -> tuple[tuple[str, object], ...]:
        """`positions`, or what None stands for."""
        if self.positions is not None:
            return tuple(self.positions)
        return tuple((layer, "mean") for layer in self.layers if layer != LOGITS)

    @property
    def origin(self) -> Mapping[str, Any] | None:
        """Plain values from which `rebuild` makes the same objective; None for a function of the user's own."""
        own: Mapping[str, Any] | None = getattr(self.function, ORIGIN, None)
        if own is None or self.reported is None:
            return own
        reported = self.reported.origin
        return None if reported is None else {"factory": "reporting", "part": own, "reported": reported}

    @property
    def holds(self) -> str | None:
        """Data that it holds and no result keeps: "photographs" or "activations"; None if nothing, or unknown."""
        what: str | None = getattr(self.function, HOLDS, None)
        return what

    def __call__(self, activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        """Return the scores `[B]`. Raises `OptionError` where the function returns another shape."""
        score = self.function(activations, image, code)
        if score.shape != (len(code),):
            raise OptionError(f"objective {self.description!r} must return one score per item, got {list(score.shape)}")
        return score

    def reporting(self, other: Objective) -> Objective:
        """Return the same objective, with the value of `other` as the activation that results report."""
        layers = tuple(dict.fromkeys([*self.layers, *other.layers]))
        return replace(self, layers=layers, reported=other, positions=self.read_positions)

    def __add__(self, other: Objective) -> Objective:
        def total(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
            return self(activations, image, code) + other(activations, image, code)

        layers = tuple(dict.fromkeys([*self.layers, *other.layers]))
        positions = tuple(dict.fromkeys([*self.read_positions, *other.read_positions]))
        parts = [self.origin, other.origin]
        if None not in parts:
            made_by(total, "sum", parts=parts)
        if what := self.holds or other.holds:
            holding(total, what)
        return Objective(total, layers, f"{self.description} + {other.description}", positions=positions)

    def __radd__(self, other: object) -> Objective:
        """Let `sum([a, b, c])` work, which starts from 0."""
        if other != 0:
            return NotImplemented
        return self

    def __mul__(self, factor: float) -> Objective:
        def scaled(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
            return self(activations, image, code) * factor

        if self.origin is not None:
            made_by(scaled, "scaled", part=self.origin, factor=factor)
        if self.holds:
            holding(scaled, self.holds)
        return replace(self, function=scaled, description=f"{factor:g} * ({self.description})", reported=None)

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        return self + (-other)
