"""Distances within and between sets of features, and bootstrap intervals of their medians and means."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.errors import OptionError


def diversity(features: Tensor) -> float | None:
    """Mean cosine distance over all pairs of rows of `[S, D]`: 0 for equal rows; None for fewer than two rows."""
    if len(features) < 2:
        return None
    unit = F.normalize(features.double(), dim=1)
    first, second = torch.triu_indices(len(unit), len(unit), offset=1)
    return float((1 - (unit[first] * unit[second]).sum(1)).mean())


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Frechet distance between Gaussians fitted to features `[N, D]` and `[M, D]` (Heusel et al. 2017).

    Raises `OptionError` for sets of fewer than two rows, or of different widths.
    """
    _check_sets(first, second)
    first, second = first.double(), second.double()
    between_means = (first.mean(0) - second.mean(0)).square().sum()
    roots = [_covariance_root(rows) for rows in (first, second)]
    # Tr (A B)^(1/2) of two covariances R.T @ R, S.T @ S is the sum of the singular values of R @ S.T.
    cross = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    return float(between_means + roots[0].square().sum() + roots[1].square().sum() - 2 * cross)


def _covariance_root(rows: Tensor) -> Tensor:
    """A matrix `R` of at most D rows such that `R.T @ R` is the covariance of `rows` `[N, D]`."""
    centred = (rows - rows.mean(0)) / (len(rows) - 1) ** 0.5
    return centred if len(rows) <= rows.shape[1] else torch.linalg.qr(centred, mode="r").R


def kernel_distance(first: Tensor, second: Tensor) -> float:
    """Squared kernel distance (KID) of features `[N, D]` and `[M, D]` (Binkowski et al. 2018, arXiv 1801.01401).

    The kernel is `(x . y / D + 1) ** 3`. The estimate is unbiased, unlike the Frechet distance, so sets of different
    and small sizes can be compared; for two sets of one distribution it is near zero and may be negative.
    Raises `OptionError` as `frechet_distance` does.
    """
    _check_sets(first, second)

    def similarity(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    first, second = first.double(), second.double()
    within = [_mean_off_diagonal(similarity(rows, rows)) for rows in (first, second)]
    return float(within[0] + within[1] - 2 * similarity(first, second).mean())


def _mean_off_diagonal(square: Tensor) -> Tensor:
    count = len(square)
    return (square.sum() - square.diagonal().sum()) / (count * (count - 1))


def _check_sets(first: Tensor, second: Tensor) -> None:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise OptionError(
            f"features must be [N, D] and [M, D] of at least two rows, got {list(first.shape)}, {list(second.shape)}"
        )


def bootstrap_interval(
    values: Sequence[float], *, statistic: str = "median", level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of the "median" or "mean" of `values`; repeatable by its seed.

    Raises `OptionError` for no values or another statistic.
    """
    if not values or statistic not in ("median", "mean"):
        raise OptionError(
            f"an interval needs values and the statistic median or mean, got {len(values)} values, {statistic!r}"
        )
    data = torch.tensor(values, dtype=torch.float64)
    source = torch.Generator().manual_seed(seed)
    drawn = data[torch.randint(len(data), (resamples, len(data)), generator=source)]
    middles = drawn.quantile(0.5, dim=1) if statistic == "median" else drawn.mean(1)
    tail = (1 - level) / 2
    low, high = middles.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return float(low), float(high)
