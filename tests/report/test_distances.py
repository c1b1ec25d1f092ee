"""Distances and intervals, each against a case whose answer is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gen_prior.errors import OptionError
from gen_prior.report.distances import bootstrap_interval, diversity, frechet_distance, kernel_distance


def test_diversity_of_equal_orthogonal_and_single_features() -> None:
    assert diversity(torch.ones(3, 4)) == pytest.approx(0)
    assert diversity(torch.eye(3)) == pytest.approx(1)
    assert diversity(torch.tensor([[1.0, 0], [5.0, 0], [0, 2.0]])) == pytest.approx(2 / 3)
    assert diversity(torch.ones(1, 4)) is None


def test_frechet_distance_of_known_gaussians() -> None:
    source = torch.Generator().manual_seed(0)
    first = torch.randn(500, 6, generator=source)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(first, first + 2) == pytest.approx(24, rel=1e-6)
    one = torch.tensor([[-1.0], [1.0]])
    spread = one.double().var().sqrt().item()
    assert frechet_distance(one, 3 * one + 1) == pytest.approx(1 + (2 * spread) ** 2)
    mixed = first @ torch.randn(6, 6, generator=source)
    assert frechet_distance(first, mixed) == pytest.approx(frechet_distance(mixed, first))


def test_frechet_distance_of_few_rows_is_that_of_their_covariances() -> None:
    source = torch.Generator().manual_seed(1)
    first, second = torch.randn(4, 9, generator=source).double(), torch.randn(7, 9, generator=source).double() * 2
    product = torch.cov(first.T) @ torch.cov(second.T)
    cross = torch.linalg.eigvals(product).real.clamp_min(0).sqrt().sum()
    traces = torch.cov(first.T).trace() + torch.cov(second.T).trace()
    wanted = (first.mean(0) - second.mean(0)).square().sum() + traces - 2 * cross
    assert frechet_distance(first, second) == pytest.approx(float(wanted), rel=1e-5)


def test_kernel_distance_by_hand_and_without_bias() -> None:
    first, second = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [3.0]])
    assert kernel_distance(first, second) == pytest.approx(27 + 1 - 2 * (1 + 64 + 1 + 343) / 4)
    source = torch.Generator().manual_seed(0)
    small = [kernel_distance(*torch.randn(2, 10, 20, generator=source)) for _ in range(300)]
    assert abs(sum(small) / 300) < 0.05, "however small the sets"
    shift = torch.tensor([0.0, 1.0])[:, None, None]
    apart = [kernel_distance(*(torch.randn(2, 10, 20, generator=source) + shift)) for _ in range(30)]
    assert sum(apart) / 30 > 1


@pytest.mark.parametrize(("first", "second"), [((1, 3), (5, 3)), ((5, 3), (5, 2)), ((5,), (5, 3))])
@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_distances_refuse_other_shapes(distance: Any, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="at least two rows"):
        distance(torch.ones(first), torch.ones(second))


def test_bootstrap_interval_is_repeatable_and_holds_the_middle() -> None:
    values = torch.randn(40, generator=torch.Generator().manual_seed(0)).tolist()
    low, high = bootstrap_interval(values)
    assert low < torch.tensor(values).quantile(0.5).item() < high
    assert bootstrap_interval(values) == (low, high)
    wide = bootstrap_interval(values[:8])
    assert wide[1] - wide[0] > high - low
    assert bootstrap_interval([2.0, 2.0]) == (2.0, 2.0)
    assert bootstrap_interval([0.0, 1.0], statistic="mean") == (0.0, 1.0)


def test_bootstrap_interval_covers_the_truth_as_often_as_it_says() -> None:
    source = torch.Generator().manual_seed(1)
    intervals = [bootstrap_interval(torch.randn(30, generator=source).tolist(), resamples=400) for _ in range(60)]
    assert 0.85 <= sum(low <= 0 <= high for low, high in intervals) / 60 <= 1.0


def test_bootstrap_interval_needs_values_and_a_known_statistic() -> None:
    with pytest.raises(OptionError):
        bootstrap_interval([])
    with pytest.raises(OptionError):
        bootstrap_interval([1.0], statistic="mode")
