"""Gradient-free optimisers with an ask-and-tell interface; scores are maximised.

Points are `[N, D]`, float64, in standard deviations of the code's prior from its mean.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gen_prior.errors import MissingExtraError

Points = NDArray[np.float64]


class Searcher(Protocol):
    """A gradient-free optimiser; the same seed and scores give the same points."""

    def ask(self) -> Points:
        """The next generation, `[N, D]`."""

    def tell(self, points: Points, scores: Points) -> None:
        """Receive the scores `[N]` of the points returned last."""


class CovarianceSearch:
    """CMA-ES (Hansen & Ostermeier 2001), or sep-CMA with a diagonal covariance (Ros & Hansen 2008), by `cmaes`.

    The full covariance takes D^2 memory and at times D^3 time: use the diagonal beyond a few hundred dimensions.
    """

    def __init__(self, dims: int, population: int, seed: int, *, diagonal: bool) -> None:
        try:
            import cmaes
        except ImportError as error:
            raise MissingExtraError(
                "evolution needs cmaes, which is not installed", fix="pip install 'gen-prior[evolution]'"
            ) from error
        kind = cmaes.SepCMA if diagonal else cmaes.CMA
        self._search = kind(mean=np.zeros(dims), sigma=1.0, seed=seed, population_size=population)
        self.population = population

    def ask(self) -> Points:
        """The next generation, `[N, D]`."""
        return np.stack([self._search.ask() for _ in range(self.population)])

    def tell(self, points: Points, scores: Points) -> None:
        """Receive the scores `[N]` of `points`, negated for the library, which minimises."""
        self._search.tell([(point, -float(score)) for point, score in zip(points, scores, strict=True)])


class GeneticSearch:
    """A genetic algorithm after XDREAM (Ponce et al. 2019), the baseline.

    The best `elite` codes are kept. The others are children of two parents, drawn with probability proportional
    to exp(`selectivity` * standardised score): each dimension comes from one of the parents. `mutated` is the share
    of dimensions that mutate, `mutation` the std of the Gaussian noise added to them.
    """

    def __init__(
        self, dims: int, population: int, seed: int, *, elite: int | None = None, mutated: float = 0.25,
        mutation: float = 0.75, selectivity: float = 2.0,
    ) -> None:  # fmt: skip
        self._random = np.random.default_rng(seed)
        self.dims, self.population = dims, population
        self.elite = max(1, population // 4) if elite is None else elite
        self.mutated, self.mutation, self.selectivity = mutated, mutation, selectivity
        self._next = self._random.standard_normal((population, dims))

    def ask(self) -> Points:
        """The next generation, `[N, D]`."""
        return self._next

    def tell(self, points: Points, scores: Points) -> None:
        """Receive the scores `[N]` of `points` and breed the next generation."""
        order = np.argsort(-scores, kind="stable")
        spread = scores.std()
        fitness = np.exp(self.selectivity * (scores - scores.max()) / (spread if spread > 0 else 1.0))
        count = self.population - self.elite
        parents = self._random.choice(len(points), size=(count, 2), p=fitness / fitness.sum())
        first = self._random.random((count, self.dims)) < 0.5
        children = np.where(first, points[parents[:, 0]], points[parents[:, 1]])
        changed = self._random.random(children.shape) < self.mutated
        children = children + changed * self.mutation * self._random.standard_normal(children.shape)
        self._next = np.concatenate([points[order[: self.elite]], children])


FULL_UP_TO = 256
"""Dimensions up to which CMA-ES takes the full covariance by default."""
METHODS = ("cma", "sep-cma", "genetic")


def build_searcher(method: str, dims: int, population: int, seed: int) -> Searcher:
    """The optimiser named `method`, one of `METHODS`."""
    if method == "genetic":
        return GeneticSearch(dims, population, seed)
    return CovarianceSearch(dims, population, seed, diagonal=method == "sep-cma")
