"""Paired comparisons: an interval of a mean by bootstrap, a sign-flip permutation test, Holm's correction; in numpy.

A value belongs to one unit of analysis (for `compare` a target), and the units are independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
"""Resamples of the targets for a bootstrap interval."""
EXACT_UP_TO, RANDOM_FLIPS = 16, 100_000
"""Differences up to which all sign flips are tried, and the number of random ones beyond."""
FEWEST = 6
"""Differences below which no test is made: of 5, the smallest possible p is 2 / 32, above 0.05."""
CHUNK = 4096


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, its 95 % interval and its p; `low`, `high` and `p` are None below `FEWEST`."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    count: int


def paired_difference(differences: Sequence[float], *, seed: int = 0) -> Difference | None:
    """Mean, interval and test of `differences`, one for each unit of analysis; None for no differences."""
    if not differences:
        return None
    mean, count = float(np.mean(differences)), len(differences)
    if count < FEWEST:
        return Difference(mean, None, None, None, count)
    low, high = mean_interval(differences, seed=seed)
    return Difference(mean, low, high, sign_flip_test(differences, seed=seed), count)


def mean_interval(values: Sequence[float], *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval (low, high) of the mean of at least one value; repeatable by its seed.

    Percentiles of the means of `RESAMPLES` resamples, their distances from the mean times sqrt(n / (n - 1)), without
    which intervals of few values are too narrow (Hesterberg 2015, arXiv 1411.5279).
    """
    data = np.asarray(values, np.float64)
    source, middles = np.random.default_rng(seed), []
    for start in range(0, RESAMPLES, CHUNK):
        picks = source.integers(len(data), size=(min(CHUNK, RESAMPLES - start), len(data)))
        middles.append(data[picks].mean(1))
    widened = (len(data) / max(len(data) - 1, 1)) ** 0.5
    tail = (1 - level) / 2
    low, high = data.mean() + widened * (np.quantile(np.concatenate(middles), [tail, 1 - tail]) - data.mean())
    return float(low), float(high)


def sign_flip_test(differences: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p of the hypothesis that each difference is as likely as its negative (Fisher 1935).

    The share of sign flips whose absolute mean is at least the observed one: of all flips up to `EXACT_UP_TO`
    differences; beyond, of `RANDOM_FLIPS` random ones and the observed one (Phipson & Smyth 2010).
    """
    data = np.asarray(differences, np.float64)
    observed = abs(float(data.sum()))
    limit = observed - 1e-9 * float(np.abs(data).sum())  # sums of the same numbers in another order are equal
    if len(data) <= EXACT_UP_TO:
        numbers = np.arange(2 ** len(data), dtype=np.int64)
        return float(_at_least(data, (numbers[:, None] >> np.arange(len(data))) & 1, limit).mean())
    source, reached = np.random.default_rng(seed), 0
    for start in range(0, RANDOM_FLIPS, CHUNK):
        flips = source.integers(2, size=(min(CHUNK, RANDOM_FLIPS - start), len(data)))
        reached += int(_at_least(data, flips, limit).sum())
    return (reached + 1) / (RANDOM_FLIPS + 1)


def _at_least(data: NDArray[np.float64], flips: NDArray[np.int64], limit: float) -> NDArray[np.bool_]:
    """Mark the rows of `flips` (0 or 1) that give an absolute sum of at least `limit`."""
    return np.abs(data.sum() - 2 * (flips @ data)) >= limit


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for their number (Holm 1979): rejecting those below 0.05 errs at all in 5 % of cases."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected
