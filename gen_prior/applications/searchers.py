"""Search without gradients: a searcher proposes points (ask) and is told their scores (tell), higher is better.

Points are `[N, D]`, float64, in deviations of the code's prior: 0 is its mean.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gen_prior.errors import MissingExtraError

Points = NDArray[np.float64]


class Searcher(Protocol):
    """Search without gradients: the same seed and the same scores give the same proposals."""

    def ask(self) -> Points:
        """The next generation, `[N, D]`."""

    def tell(self, points: Points, scores: Points) -> None:
        """Scores `[N]` of the generation asked for last."""


class CovarianceSearch:
    """CMA-ES by the `cmaes` library (Hansen & Ostermeier 2001): full covariance, or its diagonal (sep-CMA, Ros 2008).

    Full costs D^2 memory and, now and then, D^3 time; beyond a few hundred numbers take the diagonal.
    """

    def __init__(self, numbers: int, population: int, seed: int, *, diagonal: bool) -> None:
        try:
            import cmaes
        except ImportError as error:
            raise MissingExtraError(
                "evolution needs cmaes, which is not installed", fix="pip install 'gen-prior[evolution]'"
            ) from error
        kind = cmaes.SepCMA if diagonal else cmaes.CMA
        self._search = kind(mean=np.zeros(numbers), sigma=1.0, seed=seed, population_size=population)
        self.population = population

    def ask(self) -> Points:
        """The next generation, `[N, D]`."""
        return np.stack([self._search.ask() for _ in range(self.population)])

    def tell(self, points: Points, scores: Points) -> None:
        """Scores `[N]` of `points`; the library minimises."""
        self._search.tell([(point, -float(score)) for point, score in zip(points, scores, strict=True)])


class GeneticSearch:
    """A genetic algorithm in the manner of Ponce et al. 2019 (XDREAM), the baseline of evolution.

    The best `elite` go on unchanged; the rest are children of two parents each, drawn with probability that grows
    exponentially with the standardised score: every number comes from one parent or the other, and a quarter
    of them mutate.
    """

    def __init__(
        self, numbers: int, population: int, seed: int, *, elite: int | None = None, mutated: float = 0.25,
        mutation: float = 0.75, selectivity: float = 2.0,
    ) -> None:  # fmt: skip
        self._random = np.random.default_rng(seed)
        self.numbers, self.population = numbers, population
        self.elite = max(1, population // 4) if elite is None else elite
        self.mutated, self.mutation, self.selectivity = mutated, mutation, selectivity
        self._next = self._random.standard_normal((population, numbers))

    def ask(self) -> Points:
        """The next generation, `[N, D]`."""
        return self._next

    def tell(self, points: Points, scores: Points) -> None:
        """Scores `[N]` of `points`."""
        order = np.argsort(-scores, kind="stable")
        spread = scores.std()
        fitness = np.exp(self.selectivity * (scores - scores.max()) / (spread if spread > 0 else 1.0))
        count = self.population - self.elite
        parents = self._random.choice(len(points), size=(count, 2), p=fitness / fitness.sum())
        first = self._random.random((count, self.numbers)) < 0.5
        children = np.where(first, points[parents[:, 0]], points[parents[:, 1]])
        changed = self._random.random(children.shape) < self.mutated
        children = children + changed * self.mutation * self._random.standard_normal(children.shape)
        self._next = np.concatenate([points[order[: self.elite]], children])


FULL_UP_TO = 256
METHODS = ("cma", "sep-cma", "genetic")


def build_searcher(method: str, numbers: int, population: int, seed: int) -> Searcher:
    """The searcher called `method`, one of `METHODS`."""
    if method == "genetic":
        return GeneticSearch(numbers, population, seed)
    return CovarianceSearch(numbers, population, seed, diagonal=method == "sep-cma")
