"""Paired statistics against answers that are known by hand, by enumeration, and in the long run."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]  # of scikit-image

from gen_prior.report import paired
from gen_prior.report.paired import holm, mean_interval, paired_difference, sign_flip_test


def test_all_differences_of_one_sign_have_the_smallest_p() -> None:
    assert sign_flip_test([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == 2 / 64
    assert sign_flip_test([-1.0] * 10) == 2 / 1024
    assert sign_flip_test([0.0] * 8) == 1.0
    assert sign_flip_test([3.0, -3.0, 1.0, -1.0, 2.0, -2.0]) == 1.0  # a mean of zero


@pytest.mark.parametrize("seed", range(6))
def test_p_is_that_of_enumeration(seed: int) -> None:
    differences = np.random.default_rng(seed).normal(0.5, 1, 7).round(1)  # with ties
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=7)
    ]
    expected = sum(one >= abs(differences.sum()) - 1e-9 for one in sums) / len(sums)
    assert sign_flip_test(differences.tolist()) == pytest.approx(expected)
    assert sign_flip_test((-1000 * differences).tolist()) == pytest.approx(expected)


def test_p_of_darwins_maize() -> None:
    """Fisher (1935) on Darwin's fifteen pairs of plants: 1726 of 32768 flips are as extreme, p = 0.0527."""
    eighths = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sign_flip_test([float(value) for value in eighths]) == 1726 / 32768


def test_random_flips_agree_with_all_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(3).normal(0.4, 1, 15).tolist()
    exact = sign_flip_test(differences)
    monkeypatch.setattr(paired, "EXACT_UP_TO", 10)
    drawn = sign_flip_test(differences)
    assert drawn == pytest.approx(exact, abs=4 * (exact * (1 - exact) / paired.RANDOM_FLIPS) ** 0.5)
    assert sign_flip_test(differences) == drawn != sign_flip_test(differences, seed=1)
    assert sign_flip_test([1.0] * 60) == 1 / (paired.RANDOM_FLIPS + 1)


def test_under_the_null_p_is_uniform() -> None:
    """Of 600 comparisons without a difference, as many as should be are below each level (4 standard errors)."""
    source = np.random.default_rng(0)
    drawn = [sign_flip_test((source.standard_t(3, 10) * source.uniform(0.1, 9, 10)).tolist()) for _ in range(600)]
    for level in (0.05, 0.1, 0.25, 0.5, 0.75):
        share = np.mean(np.asarray(drawn) <= level)
        assert share == pytest.approx(level, abs=4 * (level * (1 - level) / 600) ** 0.5)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # as R's p.adjust
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_errs_at_all_in_five_per_cent_of_families() -> None:
    source = np.random.default_rng(1)
    wrong = [min(holm(source.uniform(size=12).tolist())) < 0.05 for _ in range(2000)]
    assert np.mean(wrong) == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / 2000) ** 0.5)


@pytest.mark.parametrize(("count", "least"), [(8, 0.88), (30, 0.92)])
def test_intervals_cover_the_mean(count: int, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "RESAMPLES", 1000)
    source, covered = np.random.default_rng(2), 0
    for number in range(500):
        low, high = mean_interval(source.normal(3, 2, count).tolist(), seed=number)
        covered += low <= 3 <= high
    assert least < covered / 500 < 0.98


def test_an_interval_is_repeatable_and_near_that_of_theory() -> None:
    values = np.random.default_rng(4).normal(0, 1, 200)
    low, high = mean_interval(values.tolist())
    error = values.std(ddof=1) / 200**0.5
    assert (low, high) == mean_interval(values.tolist())
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error)
    assert mean_interval([2.0]) == (2.0, 2.0)


def test_few_differences_have_a_mean_and_no_test() -> None:
    assert paired_difference([]) is None
    few = paired_difference([1.0, 2.0, 3.0, 4.0, 5.0])
    assert few is not None
    assert (few.mean, few.low, few.high, few.p, few.count) == (3.0, None, None, None, 5)
    enough = paired_difference([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert enough is not None
    assert enough.p == 2 / 64
    assert enough.low is not None
    assert enough.high is not None
    assert enough.low < enough.mean == 3.5 < enough.high


def test_both_agree_with_scipy() -> None:
    differences = np.random.default_rng(5).normal(0.3, 1, 12)
    test = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_test(differences.tolist()) == pytest.approx(test.pvalue)
    found = stats.bootstrap((differences,), np.mean, n_resamples=10_000, method="percentile", rng=0)
    plain = np.asarray(found.confidence_interval) - differences.mean()
    ends = np.asarray(mean_interval(differences.tolist())) - differences.mean()
    assert ends == pytest.approx(plain * (12 / 11) ** 0.5, rel=0.04)  # of other random resamples
