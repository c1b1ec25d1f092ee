"""Update rules: (code, gradient of the loss, state, learning rate, step) -> new code, each item by itself.

A new rule needs a line in `OPTIMISERS` here and its name in `gen_prior.recipe.OPTIMISER_NAMES`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gen_prior.recipe import Recipe

State = dict[str, Tensor]
Update = Callable[[Tensor, Tensor, State, float, int], Tensor]
"""(code, gradient, state, learning rate, step) -> new code."""


def adam(recipe: Recipe) -> Update:
    """Adam (Kingma & Ba 2015), betas (momentum, 0.999)."""
    first, second = recipe.momentum, 0.999

    def update(code: Tensor, gradient: Tensor, state: State, rate: float, step: int) -> Tensor:
        if not state:
            state["mean"], state["square"] = torch.zeros_like(code), torch.zeros_like(code)
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        mean = state["mean"] / (1 - first ** (step + 1))
        square = state["square"] / (1 - second ** (step + 1))
        return code - rate * mean / (square.sqrt() + 1e-8)

    return update


def sgd(recipe: Recipe) -> Update:
    """Gradient descent with Nesterov momentum (none where momentum is 0)."""

    def update(code: Tensor, gradient: Tensor, state: State, rate: float, step: int) -> Tensor:
        if recipe.gradient_limit is not None:
            length = gradient.flatten(1).norm(dim=1).clamp_min(recipe.gradient_limit)
            gradient = gradient * (recipe.gradient_limit / length).view(-1, *[1] * (code.ndim - 1))
        if recipe.momentum == 0:
            return code - rate * gradient
        if not state:
            state["velocity"] = torch.zeros_like(code)
        state["velocity"].mul_(recipe.momentum).add_(gradient)
        return code - rate * (gradient + recipe.momentum * state["velocity"])

    return update


def normalised(recipe: Recipe) -> Update:
    """A step along the gradient divided by the item's mean absolute gradient, without momentum (Nguyen et al. 2016)."""

    def update(code: Tensor, gradient: Tensor, state: State, rate: float, step: int) -> Tensor:
        size = gradient.abs().flatten(1).mean(1).clamp_min(1e-12)
        return code - rate * gradient / size.view(-1, *[1] * (code.ndim - 1))

    return update


OPTIMISERS: dict[str, Callable[[Recipe], Update]] = {"adam": adam, "sgd": sgd, "normalised": normalised}
