"""Update rules: equal to torch's own where it has them, to the paper's formula where it has not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gen_prior.optimise.update_rules import OPTIMISERS, State
from gen_prior.recipe import OPTIMISER_NAMES, Recipe


def test_recipes_accept_exactly_the_update_rules() -> None:
    assert tuple(OPTIMISERS) == OPTIMISER_NAMES


def losses(code: Tensor) -> Tensor:
    """Per item a quartic with another scale, `[B]`."""
    scale = torch.tensor([1.0, 30.0, 0.001])[: len(code)]
    return scale * ((code - 1) ** 4 + (code[:, :1] * code).square()).sum(1)


def run(name: str, steps: int = 12, **options: Any) -> Tensor:
    recipe = Recipe(optimiser=name, **options)
    update, state = OPTIMISERS[name](recipe), State()
    code = torch.linspace(-1, 1, 12).view(3, 4)
    for step in range(steps):
        leaf = code.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(losses(leaf).sum(), leaf)
        code = update(code, gradient, state, recipe.rate, step)
    return code


def reference(optimiser: type[torch.optim.Optimizer], steps: int = 12, **options: Any) -> Tensor:
    code = torch.linspace(-1, 1, 12).view(3, 4).clone().requires_grad_()
    rule = optimiser([code], **options)
    for _ in range(steps):
        rule.zero_grad()
        losses(code).sum().backward()
        rule.step()
    return code.detach()


@pytest.mark.parametrize("momentum", [0.9, 0.5, 0.0])
def test_adam_is_torchs(momentum: float) -> None:
    torch.testing.assert_close(
        run("adam", rate=0.1, momentum=momentum), reference(torch.optim.Adam, lr=0.1, betas=(momentum, 0.999))
    )


def test_sgd_is_torchs() -> None:
    torch.testing.assert_close(
        run("sgd", rate=1e-4, momentum=0.9), reference(torch.optim.SGD, lr=1e-4, momentum=0.9, nesterov=True)
    )
    torch.testing.assert_close(run("sgd", rate=1e-4, momentum=0.0), reference(torch.optim.SGD, lr=1e-4))


def test_normalised_steps_have_the_rates_size_whatever_the_gradients() -> None:
    update = OPTIMISERS["normalised"](Recipe(optimiser="normalised"))
    code, gradient = torch.zeros(2, 3, 2), torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    moved = update(code, gradient * torch.tensor([1e-6, 1e6])[:, None, None], {}, 0.5, 0)
    torch.testing.assert_close(moved.abs().mean((1, 2)), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(moved, -0.5 * gradient / gradient.abs().mean((1, 2), keepdim=True))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_zero_gradient_moves_nothing(name: str) -> None:
    update = OPTIMISERS[name](Recipe(optimiser=name))
    code = torch.ones(2, 3)
    assert torch.equal(update(code, torch.zeros(2, 3), {}, 0.1, 0), code)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_descent(name: str) -> None:
    rate = {"adam": 0.05, "sgd": 1e-4, "normalised": 0.02}[name]
    start = torch.linspace(-1, 1, 12).view(3, 4)
    assert (losses(run(name, rate=rate)) < losses(start)).all()
