"""How a search without gradients is looked at: its best images, its scores, and what a notebook shows of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.util.html import cell, picture_tag, table
from gen_prior.util.image_io import to_pil
from gen_prior.util.mosaic import mosaic
from gen_prior.util.words import counted

SHOWN = 8
"""Most generations in a sheet."""


class EvolutionView:
    """The part of an `Evolution` that presents it."""

    generator: Generator
    settings: dict[str, Any]
    scores: list[NDArray[np.float64]]
    best_score: float
    best_code: Tensor | None

    @property
    def evaluations(self) -> int:
        """Images scored so far."""
        return sum(len(scores) for scores in self.scores)

    def codes(self) -> Tensor:
        """Codes `[N, *code_shape]` of all images that were scored."""
        raise NotImplementedError

    def image(self) -> Image.Image:
        """The image of the highest score so far, as a PIL picture. Raises `OptionError` before the first."""
        if self.best_code is None:
            raise OptionError("no image has a score yet", fix="call tell() first")
        return to_pil(self._drawn(self.best_code[None])[0])

    def sheet(self) -> Image.Image:
        """The best image of up to eight generations, evenly spaced, with their scores, as one PIL picture.

        Raises `OptionError` before the first generation has scores.
        """
        shown = self._best_of_generations()
        if not shown:
            raise OptionError("no generation has scores yet", fix="call tell() first")
        images = self._drawn(torch.stack([code for _, _, code in shown]))
        names = [f"generation {number}" for number, _, _ in shown]
        return to_pil(mosaic([list(images)], captions=[[f"{score:.4g}" for _, score, _ in shown]], column_names=names))

    def __repr__(self) -> str:
        best = f"best {self.best_score:.4g}" if math.isfinite(self.best_score) else "no scores yet"
        settings = self.settings
        generations = f"{counted(len(self.scores), 'generation')} of {settings['population']}"
        where = f"{settings['method']} in {settings['dims']} dims of {self.generator.name}"
        return f"<Evolution: {best}; {generations}, {where}>"

    def _repr_html_(self) -> str:
        """View in a notebook: the best image of up to eight generations, with best and mean score."""
        shown = self._best_of_generations()
        if not shown:
            return table(repr(self)[1:-1], [], [])
        images = self._drawn(torch.stack([code for _, _, code in shown]))
        means = [float(np.nanmean(self.scores[number])) for number, _, _ in shown]
        cells = [
            cell(f"best {score:.4g}", f"mean {mean:.4g}", image=picture_tag(image, f"generation {number}"))
            for (number, score, _), mean, image in zip(shown, means, images, strict=True)
        ]
        return table(repr(self)[1:-1], [f"generation {number}" for number, _, _ in shown], [("", cells)])

    def _best_of_generations(self) -> list[tuple[int, float, Tensor]]:
        """Number, best score and best code of up to `SHOWN` generations, with the first and the last."""
        if not self.scores:
            return []
        picks = np.unique(np.linspace(0, len(self.scores) - 1, min(SHOWN, len(self.scores))).round().astype(int))
        codes, population = self.codes(), self.settings["population"]
        best = [(int(number), int(np.nanargmax(self.scores[number]))) for number in picks]
        return [
            (number, float(self.scores[number][place]), codes[number * population + place]) for number, place in best
        ]

    def _drawn(self, codes: Tensor) -> Tensor:
        with torch.no_grad():
            return self.generator.final_images(codes.to(self.generator.device)).float().cpu()


class ExperimentView:
    """The part of an `Experiment` that presents it."""

    folder: Path
    neurons: list[str]

    @property
    def generation(self) -> int:
        """Number of the generation that waits for scores, or of the next one."""
        raise NotImplementedError

    @property
    def waits(self) -> bool:
        """True while a generation waits for scores."""
        raise NotImplementedError

    @property
    def views(self) -> Mapping[str, EvolutionView]:
        """Name of each neuron -> its search."""
        raise NotImplementedError

    def __repr__(self) -> str:
        state = f"generation {self.generation} {'waits for scores' if self.waits else 'is next'}"
        return f"<Experiment: {', '.join(self.neurons)}; {state}, in {self.folder}>"

    def _repr_html_(self) -> str:
        """View in a notebook: the search of each neuron."""
        return table(repr(self)[1:-1], [], []) + "".join(
            table(name, [], []) + search._repr_html_() for name, search in self.views.items()
        )
