"""Preferred inputs without gradients: codes evolve under any black-box score (Ponce 2019; Wang & Ponce 2022).

Ask and tell: the images of a generation can be shown to an animal or a remote service, and their scores passed in
hours later by another process. A file holds settings, scores, the last points and the best code only: loading repeats
the search from its seed.
"""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_prior.applications.black_boxes import BlackBox, activation_score, source_words
from gen_prior.applications.searchers import FULL_UP_TO, METHODS, Points, build_searcher
from gen_prior.errors import MissingExtraError, OptionError, OutputError, UnknownNameError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.util.files import write_bytes
from gen_prior.util.progress import Progress, ProgressOption, progress_callback
from gen_prior.util.reading import first_line, read_arrays

FORMAT = "gen-prior/evolution-2"
LARGEST = 2**31
"""Bytes of a saved search, and of a generation of points."""
IN_FILE = {"dims": "numbers"}
"""Settings that have another name in files."""


@dataclass(frozen=True)
class Generation:
    """Codes `[N, *code_shape]` that wait for scores; generations are numbered from 0."""

    number: int
    codes: Tensor


class Evolution:
    """A search over a generator's codes, one generation at a time (Ponce et al. 2019; Wang & Ponce 2022).

        evolution = Evolution(generator, seed=0)
        generation = evolution.ask()
        evolution.save("run.npz")               # ... hours later: Evolution.load("run.npz", generator)
        evolution.tell(scores_of(generator(generation.codes)))

    Args:
        generator: the prior; the search starts at its code prior's mean, with the prior's standard deviations.
        method: "cma", "sep-cma" (diagonal covariance, for many dimensions), "genetic" (the baseline); None for "cma"
            up to 256 dimensions and "sep-cma" above.
        dims: search only the first `dims` dimensions of the code, the others stay at the mean; all if None. Codes of
            `dgn-lite0-gaussian` are principal components of photographs' codes, sorted by variance, then the fine
            code; those of the default `dgn-lite0` are components of classifier features, noise, then the fine code.
        population: images per generation; 4 + 3 ln(dims) if None, as is usual for CMA-ES.
        sigmas: codes are clipped to this many standard deviations from the mean, besides the prior's own bounds.
        seed: seed of all random draws.
        source: identity of the score (`ActivationScore.source`); None for externally supplied scores.
        numbers: old name of `dims`.

    Raises:
        UnknownNameError: no such method. OptionError: `dims` or `population` out of range.
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
        if not 4 <= population <= LARGEST // (8 * dims):
            raise OptionError(f"population must be from 4 to {LARGEST // (8 * dims)}, got {population}")
        self.generator = generator
        self.settings: dict[str, Any] = {
            "method": method,
            "dims": dims,
            "population": population,
            "sigmas": sigmas,
            "seed": seed,
            "source": dict(source) if source is not None else None,
            "generator": _identity(generator),
        }
        self._searcher = build_searcher(method, dims, population, seed)
        self._asked: Points | None = None
        self._scored: Points = np.zeros((0, dims))
        self.scores: list[Points] = []
        """Scores `[N]` of each finished generation."""
        self.best_score = -math.inf
        self.best_code: Tensor | None = None

    @property
    def evaluations(self) -> int:
        """Images scored so far."""
        return sum(len(scores) for scores in self.scores)

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

    def tell(self, scores: Tensor | Sequence[float] | Points) -> None:
        """Receive the scores `[N]` of the generation returned by `ask`; higher is better.

        Raises `OptionError` if no generation waits for scores, or the scores are not N finite numbers.
        """
        if self._asked is None:
            raise OptionError("no generation waits for scores", fix="call ask() first")
        values = (
            scores.detach().cpu().double().numpy() if isinstance(scores, Tensor) else np.asarray(scores, np.float64)
        )
        if values.shape != (len(self._asked),) or not np.isfinite(values).all():
            raise OptionError(
                f"{len(self._asked)} finite scores are needed, one for each image, got {values.tolist()!s:.80}"
            )
        best = int(values.argmax())
        if values[best] > self.best_score:
            self.best_score = float(values[best])
            self.best_code = self._codes(self._asked[best : best + 1])[0]
        self._searcher.tell(self._asked, values)
        self.scores.append(values)
        self._scored, self._asked = self._asked, None

    def save(self, path: str | Path) -> None:
        """Write the search to one `.npz` of numbers and text, atomically. Raises `OutputError` if that fails."""
        buffer = io.BytesIO()
        waiting = self._asked if self._asked is not None else np.zeros((0, self.settings["dims"]))
        history = np.stack(self.scores) if self.scores else np.zeros((0, self.settings["population"]))
        settings = {"format": FORMAT} | {IN_FILE.get(name, name): value for name, value in self.settings.items()}
        text = np.frombuffer(json.dumps(settings).encode(), np.uint8)
        best = self.best_code.cpu().numpy() if self.best_code is not None else np.zeros(0)
        np.savez_compressed(buffer, settings=text, scores=history, waiting=waiting, told=self._scored, best=best)
        write_bytes(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path, generator: Generator | str) -> Evolution:
        """Load the search saved at `path` by repeating it from its seed with the saved scores.

        Raises `OutputError` if the file is missing, damaged or of another generator, or if the search no longer
        proposes the same points (another version of `cmaes`).
        """
        generator = as_generator(generator)
        try:
            arrays = read_arrays(path, limit=LARGEST)
            settings = json.loads(arrays["settings"].tobytes())
            history, waiting = arrays["scores"].astype(np.float64), arrays["waiting"]
            points, best = arrays["told"], arrays["best"]
            if settings.pop("format") != FORMAT:
                raise OutputError(f"{path} is not an evolution of format {FORMAT}", fix="save to another file")
            _check_same_generator(path, settings.pop("generator"), _identity(generator))
            names = {old: name for name, old in IN_FILE.items()}
            evolution = cls(generator, **{names.get(name, name): value for name, value in settings.items()})
            for scores in history:
                evolution.ask()
                evolution.tell(scores)
            if len(waiting):
                evolution.ask()
            asked = evolution._asked if evolution._asked is not None else waiting[:0]
            code = evolution.best_code.cpu().numpy() if evolution.best_code is not None else best[:0]
            # Codes are float32, maybe of another device; points are the search's own, in double precision.
            if not (_near(points, evolution._scored) and _near(waiting, asked) and _near(best, code, 1e-4)):
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
        """Codes `[N, *code_shape]`, on the generator's device, of points in standard deviations."""
        prior, shape = self.generator.prior, self.generator.code_shape
        whole = np.zeros((len(points), math.prod(shape)))
        whole[:, : points.shape[1]] = points
        steps = torch.from_numpy(whole).float().to(self.generator.device).view(-1, *shape)
        return prior.project(prior.mean + prior.std * steps, self.settings["sigmas"])


def evolve(
    evolution: Evolution,
    score: BlackBox,
    *,
    evaluations: int,
    save: str | Path | None = None,
    progress: ProgressOption = None,
    record: Callable[[int, int, Tensor], None] | None = None,
) -> Evolution:
    """Run the search until `evaluations` images have been scored, and return it.

    Args:
        evolution: a new search, or one to continue.
        score: images `[N, 3, H, W]` in [0, 1] -> N scores, such as `activation_score(classifier, target)`.
        evaluations: images in all, with those of earlier calls.
        save: a file that the search is saved to after every generation.
        progress: as `synthesize` takes it, after every generation, in images; `activations` are the scores `[N]`.
        record: called as (0, number of the generation from 1, its best image `[1, 3, H, W]`), for a `Recorder`.

    Raises:
        OptionError: earlier scores of the search came from another score. OutputError: `save` cannot be written.
    """
    report = progress_callback(progress, lambda p: (p.done, p.total, p.activations))
    evolution.scored_by(getattr(score, "source", None))
    while evolution.evaluations < evaluations:
        generation = evolution.ask()
        with torch.no_grad():
            images = evolution.generator(generation.codes)
            scores = torch.as_tensor(score(images), dtype=torch.float64)
        evolution.tell(scores)
        if save is not None:
            evolution.save(save)
        if report is not None:
            report(Progress(evolution.evaluations, evaluations, f"generation {generation.number + 1}", scores))
        if record is not None:
            record(0, generation.number + 1, images[int(scores.argmax())][None])
    return evolution


def _identity(generator: Generator) -> dict[str, Any]:
    """Values that must be equal for a code to give the same image."""
    described = generator.describe()
    identity: dict[str, Any] = json.loads(
        json.dumps({name: described[name] for name in ("name", "options", "code_shape", "sha256")}, default=str)
    )
    return identity


def _check_same_generator(path: str | Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if changed := [name for name in now if before[name] != now[name]]:
        words = {"name": "", "options": " with other options", "sha256": " with other weights"}.get(
            changed[0], f" with codes of shape {before['code_shape']}"
        )
        raise OutputError(
            f"{path} belongs to {before['name']}{words}, not to this {now['name']}", fix="save to another file"
        )


def _near(first: Points, second: Points, tolerance: float = 1e-6) -> bool:
    return first.shape == second.shape and np.allclose(first, second, rtol=tolerance, atol=tolerance / 1000)


__all__ = ["FORMAT", "BlackBox", "Evolution", "Generation", "activation_score", "evolve"]
