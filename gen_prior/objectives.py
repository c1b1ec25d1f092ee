"""Objectives: (activations, image, code) -> score `[B]`, higher is better. They add and scale.

A user's own objective is any such function: `Objective(function, layers=["blocks.5"])`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gen_prior.activations import LOGITS
from gen_prior.errors import OptionError
from gen_prior.targets import Target

Activations = dict[str, Tensor]
Score = Callable[[Activations, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Objective:
    """A score function, the layers it reads, and the words that results describe it with.

    `function(activations, image, code)` takes `{layer: [B, ...]}`, images `[B, 3, H, W]` and codes
    `[B, *code_shape]` and returns `[B]`; every item's score must depend on that item alone.
    """

    function: Score
    layers: Sequence[str] = (LOGITS,)
    description: str = "custom"

    def __call__(self, activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        """The scores `[B]`. Raises `OptionError` where the function returns another shape."""
        score = self.function(activations, image, code)
        if score.shape != (len(code),):
            raise OptionError(f"objective {self.description!r} must return one score per item, got {list(score.shape)}")
        return score

    def __add__(self, other: Objective) -> Objective:
        def total(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
            return self(activations, image, code) + other(activations, image, code)

        layers = tuple(dict.fromkeys([*self.layers, *other.layers]))
        return Objective(total, layers, f"{self.description} + {other.description}")

    def __mul__(self, factor: float) -> Objective:
        def scaled(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
            return self(activations, image, code) * factor

        return Objective(scaled, self.layers, f"{factor:g} * ({self.description})")

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        return self + (-other)


def activation(target: Target) -> Objective:
    """The target's raw activation: for a class, the logit before any softmax (Simonyan 2014, Nguyen 2016)."""
    return Objective(lambda activations, image, code: target.read(activations), (target.layer,), str(target))


def log_probability(target: Target) -> Objective:
    """Log of the target's softmax probability (the class gradient of PPGN, Nguyen 2017); class targets only."""
    if not target.is_class:
        raise OptionError(f"{target} is a hidden unit: it has no probability", fix="use the score 'activation'")

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return torch.log_softmax(activations[LOGITS].float(), 1)[:, target.unit]

    return Objective(score, (LOGITS,), f"log p({target.label or target})")
