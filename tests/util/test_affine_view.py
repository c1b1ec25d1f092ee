"""Turned and zoomed views: the gradient that is summed in a fixed order equals that of torch."""

from __future__ import annotations

import math

import pytest
import torch

from gen_prior.optimise.transforms import build_transform
from gen_prior.util import affine_view as module
from gen_prior.util.affine_view import Limits, OrderedView, affine_view

CASES = [
    ({"degrees": 15.0, "scale": (0.8, 1.2), "shift": 0.1}, (20, 20)),
    ({"degrees": 180.0, "scale": (0.5, 2.5), "shift": 0.4, "mirror": True}, (13, 21)),
    ({"degrees": 0.0, "scale": (0.1, 0.1), "shift": 0.0}, (6, 5)),
    ({"degrees": 40.0, "scale": (1.0, 1.0), "shift": 3.0}, (4, 9)),
]


@pytest.mark.parametrize(("options", "size"), CASES)
def test_gradients_are_those_of_torch(
    options: dict[str, object], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = torch.Generator().manual_seed(1)
    images = torch.rand(8, 3, *size, generator=source, requires_grad=True)
    weights = torch.randn(8, 3, *size, generator=source)
    draws = torch.cat([torch.rand(6, 5, generator=source), torch.zeros(1, 5), torch.full((1, 5), 1 - 1e-6)])
    transform = build_transform("affine", options)
    expected_view = transform.apply(images, draws)
    (expected,) = torch.autograd.grad((expected_view * weights).sum(), images)
    monkeypatch.setattr("gen_prior.optimise.transforms.affine_view", OrderedView.apply)
    view = transform.apply(images, draws)
    (gradient,) = torch.autograd.grad((view * weights).sum(), images)
    torch.testing.assert_close(view, expected_view)
    torch.testing.assert_close(gradient, expected, atol=2e-4, rtol=1e-3)


def test_a_crop_has_the_gradient_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(4, 3, 16, 24, requires_grad=True)
    weights, draws = torch.randn(4, 3, 16, 24), torch.tensor([[0.0, 0.0], [0.3, 0.9], [0.5, 0.5], [1.0, 1.0]])
    transform = build_transform("crop", {"margin": 0.2})
    (expected,) = torch.autograd.grad((transform.apply(images, draws) * weights).sum(), images)
    monkeypatch.setattr("gen_prior.optimise.transforms.affine_view", OrderedView.apply)
    (gradient,) = torch.autograd.grad((transform.apply(images, draws) * weights).sum(), images)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-3)


def test_bfloat16_keeps_its_type() -> None:
    images = torch.rand(1, 3, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    rows = torch.tensor([[[0.9, 0.1, 0.0], [-0.1, 0.9, 0.0]]])
    view = OrderedView.apply(images, rows, Limits(degrees=10, enlargement=1.2))
    (gradient,) = torch.autograd.grad(view.float().sum(), images)
    assert view.dtype == gradient.dtype == torch.bfloat16


def test_a_cpu_takes_the_faster_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_collected", None)
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    affine_view(images, torch.eye(2, 3)[None], Limits()).sum().backward()
    assert images.grad is not None
    assert math.isclose(images.grad.sum().item(), 192, rel_tol=1e-5)
