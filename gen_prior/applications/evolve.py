"""Neurons without gradients: the code evolves under any black-box score (Ponce 2019; Wang & Ponce 2022).

Ask and tell: the images of a generation can be shown to an animal or a remote service, and the scores told
hours later, by another process. A saved evolution holds no objects, only what was asked and told: loading
runs the search again from its seed.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_prior.applications.black_boxes import BlackBox, activation_score, source_words
from gen_prior.applications.searchers import FULL_UP_TO, METHODS, Points, build_searcher
from gen_prior.errors import OptionError, OutputError, UnknownNameError
from gen_prior.generators.base import Generator
from gen_prior.util.files import write_bytes

FORMAT = "gen-prior/evolution-2"


@dataclass(frozen=True)
class Generation:
    """Codes `[N, *code_shape]` that wait for their scores, numbered from 0."""

    number: int
    codes: Tensor


class Evolution:
    """The search over a generator's codes.

        evolution = Evolution(generator, seed=0)
        generation = evolution.ask()
        evolution.save("run.npz")               # ... hours later: Evolution.load("run.npz", generator)
        evolution.tell(scores_of(generator(generation.codes)))

    Args:
        generator: the prior; codes are drawn around its prior's mean, in its deviations.
        method: "cma", "sep-cma" (diagonal; for many numbers), "genetic" (the baseline), or None for the first
            that suits the number of numbers.
        numbers: search only the first so many of the code's numbers, the rest at the mean. For the priors
            trained here these are the principal directions of largest variance. All where None.
        population: images per generation; 4 + 3 ln(numbers) where None, as is usual for CMA-ES.
        sigmas: codes are clipped to so many deviations from the mean (beside the prior's own bounds).
        seed: of everything random.
        source: what gives the scores, as `ActivationScore.source` has it; None for scores of your own.

    Raises:
        UnknownNameError, OptionError: settings that make no sense. MissingExtraError: `cmaes` is not installed.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        method: str | None = None,
        numbers: int | None = None,
        population: int | None = None,
        sigmas: float | None = None,
        seed: int = 0,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        whole = math.prod(generator.code_shape)
        numbers = whole if numbers is None else numbers
        if not 2 <= numbers <= whole:
            raise OptionError(f"numbers must lie in 2 to {whole} for {generator.name}, got {numbers}")
        method = method if method is not None else ("cma" if numbers <= FULL_UP_TO else "sep-cma")
        if method not in METHODS:
            raise UnknownNameError("search method", method, METHODS)
        population = 4 + int(3 * math.log(numbers)) if population is None else population
        if population < 4:
            raise OptionError(f"population must be at least 4, got {population}")
        self.generator = generator
        self.settings: dict[str, Any] = {
            "method": method,
            "numbers": numbers,
            "population": population,
            "sigmas": sigmas,
            "seed": seed,
            "source": dict(source) if source is not None else None,
            "generator": _identity(generator),
        }
        self._searcher = build_searcher(method, numbers, population, seed)
        self._asked: Points | None = None
        self._told: Points = np.zeros((0, numbers))
        self.scores: list[Points] = []
        """Of each finished generation, `[N]`."""
        self.best_score = -math.inf
        self.best_code: Tensor | None = None

    @property
    def evaluations(self) -> int:
        """Images scored so far."""
        return sum(len(scores) for scores in self.scores)

    def scored_by(self, source: Mapping[str, Any] | None) -> None:
        """Take note of what gives the scores. Raises `OptionError` where others were told before."""
        before = self.settings["source"]
        if self.scores and before != source:
            raise OptionError(
                f"this search goes by {source_words(before)}, not by {source_words(source, unlike=before)}",
                fix="begin another Evolution",
            )
        self.settings["source"] = dict(source) if source is not None else None

    def ask(self) -> Generation:
        """The generation that waits for scores; the same one until they are told."""
        if self._asked is None:
            self._asked = self._searcher.ask()
        return Generation(len(self.scores), self._codes(self._asked))

    def tell(self, scores: Tensor | Sequence[float] | Points) -> None:
        """The scores `[N]` of the generation asked for last.

        Raises `OptionError` where none was asked for, or the scores are not N finite numbers.
        """
        if self._asked is None:
            raise OptionError("no generation waits for scores", fix="call ask() first")
        values = (
            scores.detach().cpu().double().numpy() if isinstance(scores, Tensor) else np.asarray(scores, np.float64)
        )
        if values.shape != (len(self._asked),) or not np.isfinite(values).all():
            raise OptionError(
                f"{len(self._asked)} finite scores are needed, one per image, got {values.tolist()!s:.80}"
            )
        place = int(values.argmax())
        if values[place] > self.best_score:
            self.best_score = float(values[place])
            self.best_code = self._codes(self._asked[place : place + 1])[0]
        self._searcher.tell(self._asked, values)
        self.scores.append(values)
        self._told, self._asked = self._asked, None

    def save(self, path: str | Path) -> None:
        """Write everything to one `.npz`, atomically; it holds numbers and text only."""
        buffer = io.BytesIO()
        waiting = self._asked if self._asked is not None else np.zeros((0, self.settings["numbers"]))
        history = np.stack(self.scores) if self.scores else np.zeros((0, self.settings["population"]))
        text = np.frombuffer(json.dumps({"format": FORMAT} | self.settings).encode(), np.uint8)
        best = self.best_code.cpu().numpy() if self.best_code is not None else np.zeros(0)
        np.savez_compressed(buffer, settings=text, scores=history, waiting=waiting, told=self._told, best=best)
        write_bytes(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path, generator: Generator) -> Evolution:
        """The evolution saved at `path`, at the same point, by running its search again with the scores it was told.

        Raises `OutputError` where the file is missing, damaged, of another generator, or where the search
        no longer proposes what it did (another version of the library behind it).
        """
        try:
            with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
                settings = json.loads(file["settings"].tobytes())
                history, waiting = file["scores"].astype(np.float64), file["waiting"]
                told, best = file["told"], file["best"]
            if settings.pop("format") != FORMAT:
                raise OutputError(f"{path} is not an evolution of format {FORMAT}", fix="begin anew in another folder")
            _same_generator(path, settings.pop("generator"), _identity(generator))
            evolution = cls(generator, **settings)
            for scores in history:
                evolution.ask()
                evolution.tell(scores)
            if len(waiting):
                evolution.ask()
            now = evolution._asked if evolution._asked is not None else waiting[:0]
            code = evolution.best_code.cpu().numpy() if evolution.best_code is not None else best[:0]
            # The codes are float32 and may come from another device; the points are the search's own, in double.
            if not (_near(told, evolution._told) and _near(waiting, now) and _near(best, code, 1e-4)):
                raise OutputError(
                    f"{path} was made by another version of its search, or on another machine, and went another way",
                    fix="go on with the cmaes version and machine that began it, or begin anew in another folder",
                )
        except FileNotFoundError as error:
            raise OutputError(f"no evolution at {path}") from error
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise OutputError(f"the evolution at {path} is damaged: {str(error).splitlines()[0]}") from error
        return evolution

    def _codes(self, points: Points) -> Tensor:
        """Points in deviations -> codes `[N, *code_shape]` on the generator's device."""
        prior, shape = self.generator.prior, self.generator.code_shape
        whole = np.zeros((len(points), math.prod(shape)))
        whole[:, : points.shape[1]] = points
        deviations = torch.from_numpy(whole).float().to(self.generator.device).view(-1, *shape)
        return prior.project(prior.mean + prior.std * deviations, self.settings["sigmas"])


def evolve(
    evolution: Evolution,
    score: BlackBox,
    *,
    evaluations: int,
    save: str | Path | None = None,
    progress: Callable[[int, int, Tensor], None] | None = None,
    record: Callable[[int, int, Tensor], None] | None = None,
) -> Evolution:
    """Ask, show and tell until `evaluations` images have been scored; saved to `save` after every generation.

    `progress` is called as (evaluations done, evaluations, scores `[N]`); `record`, such as a
    `gen_prior.Recorder`, as (0, generation, its best image `[1, 3, H, W]`). Raises `OptionError` where the search
    went by a unit of a classifier, or by scores of your own, and `score` is another.
    """
    evolution.scored_by(getattr(score, "source", None))
    while evolution.evaluations < evaluations:
        generation = evolution.ask()
        with torch.no_grad():
            images = evolution.generator(generation.codes)
            scores = torch.as_tensor(score(images), dtype=torch.float64)
        evolution.tell(scores)
        if save is not None:
            evolution.save(save)
        if progress is not None:
            progress(evolution.evaluations, evaluations, scores)
        if record is not None:
            record(0, generation.number + 1, images[int(scores.argmax())][None])
    return evolution


def _identity(generator: Generator) -> dict[str, Any]:
    """What must be the same for a code to mean the same image, as plain values."""
    described = generator.describe()
    identity: dict[str, Any] = json.loads(
        json.dumps({name: described[name] for name in ("name", "options", "code_shape", "sha256")}, default=str)
    )
    return identity


def _same_generator(path: str | Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if changed := [name for name in now if before[name] != now[name]]:
        words = {"name": "", "options": " with other options", "sha256": " with other weights"}.get(
            changed[0], f" with codes of shape {before['code_shape']}"
        )
        raise OutputError(
            f"{path} belongs to {before['name']}{words}, not to this {now['name']}", fix="begin anew in another folder"
        )


def _near(first: Points, second: Points, tolerance: float = 1e-6) -> bool:
    return first.shape == second.shape and np.allclose(first, second, rtol=tolerance, atol=tolerance / 1000)


__all__ = ["FORMAT", "BlackBox", "Evolution", "Generation", "activation_score", "evolve"]
