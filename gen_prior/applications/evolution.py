"""`Evolution`: a search over codes without gradients, one generation at a time (Ponce 2019; Wang & Ponce 2022).

Ask and tell: the images of a generation can be shown to an animal or a remote service, and their scores passed in
hours later by another process (`experiment.py` keeps the folder of such an experiment). Loading a saved search repeats
it from its seed.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen_prior.applications.black_boxes import source_words
from gen_prior.applications.evolution_file import (
    FORMAT,
    MAX_BYTES,
    check_same_generator,
    generator_identity,
    read_evolution,
    write_evolution,
)
from gen_prior.applications.evolution_view import EvolutionView
from gen_prior.applications.searchers import FULL_UP_TO, MEASURED_AT_LEAST, METHODS, Points, build_searcher
from gen_prior.errors import MissingExtraError, OptionError, OutputError, UnknownNameError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.util.random import check_seed
from gen_prior.util.reading import first_line

START_SPREAD = 0.3
"""Std of the first generation about a given start: at 1, hardly anything of it would be left."""


@dataclass(frozen=True)
class Generation:
    """Codes `[N, *code_shape]` that wait for scores; generations are numbered from 0."""

    number: int
    codes: Tensor


class Evolution(EvolutionView):
    """A search over a generator's codes, one generation at a time (Ponce et al. 2019; Wang & Ponce 2022).

        evolution = Evolution(generator, seed=0)
        generation = evolution.ask()
        evolution.save("run.npz")               # ... hours later: Evolution.load("run.npz", generator)
        evolution.tell(scores_of(generator(generation.codes)))

    Args:
        generator: the prior; the search starts at its code prior's mean, with the prior's standard deviations, unless
            `start` and `spread` say otherwise.
        method: "cma", "sep-cma" (diagonal covariance, for many dimensions), "genetic" (the baseline); None for "cma"
            up to 256 dimensions and "sep-cma" above.
        dims: search only the first `dims` dimensions of the code, the others stay at the mean; all if None. Codes of
            `dgn-lite0-gaussian` are principal components of photographs' codes, sorted by variance, then the fine
            code; those of the default `dgn-lite0` are components of classifier features, noise, then the fine code.
        population: images per generation; 4 + 3 ln(dims) if None, as is usual for CMA-ES.
        sigmas: codes are clipped to this many standard deviations from the mean, besides the prior's own bounds.
        seed: seed of all random draws.
        start: a code `[*code_shape]` to start at, such as that of a photograph (`encode`). Dimensions beyond `dims`
            stay as they are in it.
        spread: standard deviation of the first generation about its start, in the prior's: 1, or 0.3 with a `start`.
        start_source: what the start was made from, as plain values for the record; a hash of the code if None.
        source: identity of the score (`ActivationScore.source`); None for externally supplied scores.
        numbers: old name of `dims`.

    Raises:
        UnknownNameError: no such method. OptionError: `dims`, `population` or `spread` out of range, or a start of
            another shape.
        MissingExtraError: `cmaes` is not installed.
    """

    def __init__(
        self,
        generator: Generator | str,
        *,
        method: str | None = None,
        dims: int | None = None,
        population: int | None = None,
        sigmas: float | None = None,
        seed: int = 0,
        start: Tensor | None = None,
        spread: float | None = None,
        start_source: Mapping[str, Any] | None = None,
        source: Mapping[str, Any] | None = None,
        numbers: int | None = None,
    ) -> None:
        generator = as_generator(generator)
        if numbers is not None:
            warnings.warn("Evolution(numbers=...) is now dims=...", DeprecationWarning, stacklevel=2)
            dims = numbers
        whole = math.prod(generator.code_shape)
        dims = whole if dims is None else dims
        if not 2 <= dims <= whole:
            raise OptionError(f"dims must be from 2 to {whole} for {generator.name}, got {dims}")
        method = method if method is not None else ("cma" if dims <= FULL_UP_TO else "sep-cma")
        if method not in METHODS:
            raise UnknownNameError("search method", method, METHODS)
        population = 4 + int(3 * math.log(dims)) if population is None else population
        if not 4 <= population <= MAX_BYTES // (8 * dims):
            raise OptionError(f"population must be from 4 to {MAX_BYTES // (8 * dims)}, got {population}")
        spread = (1.0 if start is None else START_SPREAD) if spread is None else spread
        if not 0 < spread < math.inf:
            raise OptionError(f"spread must be positive, got {spread}")
        seed = check_seed(seed, most=2**32 - 1)  # as many as CMA-ES takes
        self.generator = generator
        self._start = _checked_start(start, generator)
        self.settings: dict[str, Any] = {
            "method": method,
            "dims": dims,
            "population": population,
            "sigmas": sigmas,
            "seed": seed,
            "spread": spread,
            "start": start_identity(self._start, start_source),
            "source": dict(source) if source is not None else None,
            "generator": generator_identity(generator),
        }
        self._searcher = build_searcher(method, dims, population, seed, spread=spread)
        self._asked: Points | None = None
        self._scored: Points = np.zeros((0, dims))
        self._history: list[NDArray[np.float32]] = []
        self.scores: list[Points] = []
        """Scores `[N]` of each finished generation, NaN where an image was not measured."""
        self.best_score = -math.inf
        self.best_code: Tensor | None = None

    def scored_by(self, source: Mapping[str, Any] | None) -> None:
        """Set the identity of the score. Raises `OptionError` if earlier scores came from another one."""
        before = self.settings["source"]
        if self.scores and before != source:
            raise OptionError(
                f"this search maximises {source_words(before)}, not {source_words(source, unlike=before)}",
                fix="create another Evolution",
            )
        self.settings["source"] = dict(source) if source is not None else None

    def ask(self) -> Generation:
        """The generation that waits for scores; the same one until `tell` is called."""
        if self._asked is None:
            self._asked = self._searcher.ask()
        return Generation(len(self.scores), self._codes(self._asked))

    @property
    def waits(self) -> bool:
        """True from `ask` to `tell`."""
        return self._asked is not None

    def checked_scores(self, scores: Tensor | Sequence[float] | Points) -> Points:
        """`scores` as an array `[N]`. Raises `OptionError` where `tell` would refuse them."""
        if self._asked is None:
            raise OptionError("no generation waits for scores", fix="call ask() first")
        values = (
            scores.detach().cpu().double().numpy() if isinstance(scores, Tensor) else np.asarray(scores, np.float64)
        )
        if values.shape != (len(self._asked),) or np.isinf(values).any():
            raise OptionError(
                f"{len(self._asked)} finite scores are needed, one for each image, got {values.tolist()!s:.80}"
            )
        if (~np.isnan(values)).sum() < MEASURED_AT_LEAST:
            raise OptionError(
                f"at least {MEASURED_AT_LEAST} images of a generation need a score",
                fix="show its images again: the same generation waits",
            )
        return values

    def tell(self, scores: Tensor | Sequence[float] | Points) -> None:
        """Receive the scores `[N]` of the generation returned by `ask`; higher is better, NaN is not measured.

        For CMA-ES, which goes by ranks, an image without a score counts as the median of its generation; the genetic
        algorithm breeds from measured images only. Raises `OptionError` if no generation waits for scores, fewer than
        two are numbers, or the scores are not N numbers.
        """
        values = self.checked_scores(scores)
        assert self._asked is not None
        best = int(np.nanargmax(values))
        if values[best] > self.best_score:
            self.best_score = float(values[best])
            self.best_code = self._codes(self._asked[best : best + 1])[0]
        self._searcher.tell(self._asked, values)
        self.scores.append(values)
        self._history.append(self._asked.astype(np.float32))
        self._scored, self._asked = self._asked, None

    def codes(self) -> Tensor:
        """Codes `[N, *code_shape]` of all images that were told of, generation by generation, on the CPU."""
        parts = [self._codes(points.astype(np.float64)).cpu() for points in self._history]
        return torch.cat(parts) if parts else torch.zeros(0, *self.generator.code_shape)

    def save(self, path: str | Path) -> None:
        """Write the search to one `.npz` of numbers and text, atomically. Raises `OutputError` if that fails."""
        arrays = {
            "scores": np.stack(self.scores) if self.scores else np.zeros((0, self.settings["population"])),
            "waiting": self._asked if self._asked is not None else np.zeros((0, self.settings["dims"])),
            "told": self._scored,
            "best": self.best_code.cpu().numpy() if self.best_code is not None else np.zeros(0),
        }
        if self._start is not None:
            arrays["start"] = self._start.numpy()
        write_evolution(Path(path), self.settings, arrays)

    @classmethod
    def load(cls, path: str | Path, generator: Generator | str) -> Evolution:
        """Load the search saved at `path` by repeating it from its seed with the saved scores.

        Raises `OutputError` if the file is missing, damaged or of another generator, or if the search no longer
        proposes the same points (another version of `cmaes`).
        """
        generator = as_generator(generator)
        try:
            settings, arrays = read_evolution(path)
            check_same_generator(path, settings.pop("generator"), generator_identity(generator))
            start = torch.from_numpy(arrays["start"].copy()) if "start" in arrays else None
            evolution = cls(generator, start=start, start_source=settings.pop("start", None), **settings)
            for scores in arrays["scores"].astype(np.float64):
                evolution.ask()
                evolution.tell(scores)
            waiting, told, best = arrays["waiting"], arrays["told"], arrays["best"]
            if len(waiting):
                evolution.ask()
            asked = evolution._asked if evolution._asked is not None else waiting[:0]
            code = evolution.best_code.cpu().numpy() if evolution.best_code is not None else best[:0]
            # Codes are float32, maybe of another device; points are the search's own, in double precision.
            if not (_near(told, evolution._scored) and _near(waiting, asked) and _near(best, code, 1e-4)):
                raise OutputError(
                    f"{path} cannot be repeated here: another version of cmaes or another machine made it",
                    fix="continue with that version and machine, or save to another file",
                )
        except FileNotFoundError as error:
            raise OutputError(f"no evolution at {path}") from error
        except (MissingExtraError, OutputError):
            raise
        except Exception as error:  # damaged archives and impossible settings fail in any way
            raise OutputError(f"the evolution at {path} is damaged: {first_line(error)}") from error
        return evolution

    def _codes(self, points: Points) -> Tensor:
        """Codes `[N, *code_shape]`, on the generator's device, of points in standard deviations from the start."""
        prior, shape = self.generator.prior, self.generator.code_shape
        centre = prior.mean if self._start is None else self._start.to(self.generator.device)
        whole = np.zeros((len(points), math.prod(shape)))
        whole[:, : points.shape[1]] = points
        steps = torch.from_numpy(whole).float().to(self.generator.device).view(-1, *shape)
        return prior.project(centre + prior.std * steps, self.settings["sigmas"])


def _checked_start(start: Tensor | None, generator: Generator) -> Tensor | None:
    """`start` in float32 on the CPU. Raises `OptionError` for another shape than that of codes."""
    if start is None:
        return None
    if tuple(start.shape) != generator.code_shape:
        raise OptionError(f"{generator.name} has codes of {list(generator.code_shape)}, got {list(start.shape)}")
    return start.detach().float().cpu()


def start_identity(start: Tensor | None, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """`given`, the source of the code `start`, or else the hash of the code; None without a start."""
    if start is None:
        return None
    return dict(given) if given is not None else {"sha256": hashlib.sha256(start.numpy().tobytes()).hexdigest()}


def _near(first: Points, second: Points, tolerance: float = 1e-6) -> bool:
    return first.shape == second.shape and np.allclose(first, second, rtol=tolerance, atol=tolerance / 1000)


__all__ = ["FORMAT", "Evolution", "Generation", "start_identity"]
