"""Gradient-free optimisers with an ask-and-tell interface; scores are maximised.

Points are `[N, D]`, float64, in standard deviations of the code's prior from where the search starts. Scores are `[N]`,
NaN where an image was not measured, with at least two numbers.
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


MEASURED_AT_LEAST = 2
"""Scores that a search needs of each generation: of a single one it could learn nothing."""


class CovarianceSearch:
    """CMA-ES (Hansen & Ostermeier 2001), or sep-CMA with a diagonal covariance (Ros & Hansen 2008), by `cmaes`.

    The full covariance takes D^2 memory and at times D^3 time: use the diagonal beyond a few hundred dimensions.

    The method looks at ranks only: the upper half of a generation attracts, the lower half repels, and what lies in the
    middle has hardly any weight. A point without a score therefore counts as the median of those with one; ranked last
    it would repel, although nothing is known of it.
    """

    def __init__(self, dims: int, population: int, seed: int, *, diagonal: bool, spread: float = 1.0) -> None:
        try:
            import cmaes
        except ImportError as error:
            raise MissingExtraError(
                "evolution needs cmaes, which is not installed", fix="pip install 'gen-prior[evolution]'"
            ) from error
        kind = cmaes.SepCMA if diagonal else cmaes.CMA
        self._search = kind(mean=np.zeros(dims), sigma=spread, seed=seed, population_size=population)
        self.population = population

    def ask(self) -> Points:
        """The next generation, `[N, D]`."""
        return np.stack([self._search.ask() for _ in range(self.population)])

    def tell(self, points: Points, scores: Points) -> None:
        """Receive the scores `[N]` of `points`, negated for the library, which minimises."""
        scores = np.where(np.isnan(scores), np.nanmedian(scores), scores)
        self._search.tell([(point, -float(score)) for point, score in zip(points, scores, strict=True)])


class GeneticSearch:
    """A genetic algorithm after XDREAM (Ponce et al. 2019), the baseline.

    The best `elite` codes are kept. The others are children of two parents, drawn with probability proportional
    to exp(`selectivity` * standardised score): each dimension comes from one of the parents. `mutated` is the share
    of dimensions that mutate, `mutation` the std of the Gaussian noise added to them. A code without a score is not
    kept and has no children.
    """

    def __init__(
        self, dims: int, population: int, seed: int, *, elite: int | None = None, mutated: float = 0.25,
        mutation: float = 0.75, selectivity: float = 2.0, spread: float = 1.0,
    ) -> None:  # fmt: skip
        self._random = np.random.default_rng(seed)
        self.dims, self.population = dims, population
        self.elite = max(1, population // 4) if elite is None else elite
        self.mutated, self.mutation, self.selectivity = mutated, mutation * spread, selectivity
        self._next = spread * self._random.standard_normal((population, dims))

    def ask(self) -> Points:
        """The next generation, `[N, D]`."""
        return self._next

    def tell(self, points: Points, scores: Points) -> None:
        """Receive the scores `[N]` of `points` and breed the next generation."""
        measured = ~np.isnan(scores)
        order = np.argsort(-scores, kind="stable")  # NaN comes last
        kept = order[: min(self.elite, int(measured.sum()))]
        spread = scores[measured].std()
        fitness = np.exp(self.selectivity * (scores - scores[measured].max()) / (spread if spread > 0 else 1.0))
        fitness = np.where(measured, fitness, 0.0)
        count = self.population - len(kept)
        parents = self._random.choice(len(points), size=(count, 2), p=fitness / fitness.sum())
        first = self._random.random((count, self.dims)) < 0.5
        children = np.where(first, points[parents[:, 0]], points[parents[:, 1]])
        changed = self._random.random(children.shape) < self.mutated
        children = children + changed * self.mutation * self._random.standard_normal(children.shape)
        self._next = np.concatenate([points[kept], children])


FULL_UP_TO = 256
"""Dimensions up to which CMA-ES takes the full covariance by default."""
METHODS = ("cma", "sep-cma", "genetic")


def build_searcher(method: str, dims: int, population: int, seed: int, *, spread: float = 1.0) -> Searcher:
    """The optimiser named `method`, one of `METHODS`; `spread` is the std of the first generation's points."""
    if method == "genetic":
        return GeneticSearch(dims, population, seed, spread=spread)
    return CovarianceSearch(dims, population, seed, diagonal=method == "sep-cma", spread=spread)
