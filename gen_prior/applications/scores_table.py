"""A file of scores -> the scores of one generation of an experiment, refused if it is of another one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from gen_prior.applications.experiment_record import RECORD, Table, generation_name
from gen_prior.applications.scores_file import Scores, read_scores, score_of
from gen_prior.applications.searchers import MEASURED_AT_LEAST
from gen_prior.errors import OptionError

GENERATION = re.compile(r"gen-\d{4,}")


@dataclass(frozen=True)
class Waiting:
    """The generation that waits for scores.

    Attributes:
        folder: of the experiment.
        number: of the generation.
        neurons: names of the score columns.
        own: names of the searches' images, with their generation, in order.
        all: the same and the reference images.
        before: the scores of the generation before, of a single search; None for the first.
    """

    folder: Path
    number: int
    neurons: list[str]
    own: list[str]
    all: list[str]
    before: list[float] | None

    @property
    def name(self) -> str:
        """Name of the generation's folder."""
        return generation_name(self.number)


def read_table(path: Path, waiting: Waiting) -> Table:
    """The scores in a file, of images of the waiting generation; several rows of one image count as their mean.

    Raises `OptionError` for a file that cannot be read, of another generation or experiment, with an unknown image,
    without the column of a neuron, or with text or infinity in it; further columns may hold anything.
    """
    scores = read_scores(path)
    if not scores.columns:
        return _from_numbers(scores, path, waiting)
    columns = _columns(scores, path, waiting.neurons)
    _check_place(path, waiting)
    found: dict[str, dict[str, list[float]]] = {}
    for written, values in zip(scores.images, scores.values, strict=True):
        image = _with_generation(written, path, waiting)
        if image not in waiting.all:
            raise OptionError(f"{path} names {image}, which {waiting.name} does not have")
        for neuron, column in columns.items():
            if not math.isnan(score := score_of(values[column], written, path)):
                found.setdefault(image, {}).setdefault(neuron, []).append(score)
    return {
        image: {neuron: float(np.mean(values)) for neuron, values in found[image].items()}
        for image in waiting.all
        if image in found
    }


def check_measured(path: Path, scores: Mapping[str, Tensor]) -> None:
    """Raise `OptionError` where the scores `[N]` of a neuron, NaN for none, are too few for its search."""
    for neuron, values in scores.items():
        measured = int((~values.isnan()).sum())
        if measured < MEASURED_AT_LEAST:
            whose = f" of {neuron}" if len(scores) > 1 else ""
            raise OptionError(
                f"{measured} of {len(values)} images{whose} have a score in {path}, "
                f"and at least {MEASURED_AT_LEAST} images need one",
                fix="fill in its empty cells, and tell it again: the same generation waits",
            )


def _from_numbers(scores: Scores, path: Path, waiting: Waiting) -> Table:
    """Numbers alone, which are those of the images in order, as far as can be seen."""
    if len(waiting.neurons) > 1:
        raise OptionError(f"{path} does not say which score is whose", fix=f"fill in {waiting.name}/scores.csv")
    if len(scores.values) != len(waiting.own):
        raise OptionError(
            f"{len(waiting.own)} finite scores are needed, one for each image, got {len(scores.values)}",
            fix=f"fill in {waiting.name}/scores.csv, whose rows name their images",
        )
    values = [score_of(row[0], "", path) for row in scores.values]
    if values == waiting.before and len(set(values)) > 1:
        raise OptionError(
            f"the numbers in {path} are those of {generation_name(waiting.number - 1)}, which was told before",
            fix=f"fill in {waiting.name}/scores.csv, whose rows name their images",
        )
    named = zip(waiting.own, values, strict=True)
    return {image: {waiting.neurons[0]: value} for image, value in named if not math.isnan(value)}


def _columns(scores: Scores, path: Path, neurons: list[str]) -> dict[str, int]:
    """Neuron -> number of its column. The column of the only neuron may have any name if there is no other."""
    lowered = [name.lower() for name in scores.columns]
    if len(neurons) == len(lowered) == 1:
        return {neurons[0]: 0}
    if missing := [name for name in neurons if name.lower() not in lowered]:
        raise OptionError(f"{path} has no column {missing[0]!r}; besides image it has {', '.join(scores.columns)}")
    return {name: lowered.index(name.lower()) for name in neurons}


def _check_place(path: Path, waiting: Waiting) -> None:
    """Raise `OptionError` for a file in a generation of another experiment."""
    folder = path.resolve().parent
    is_ours = folder.parent == waiting.folder.resolve()
    if GENERATION.fullmatch(folder.name) and not is_ours and (folder.parent / RECORD).exists():
        raise OptionError(f"{path} belongs to the experiment in {folder.parent}, not to {waiting.folder}")


def _with_generation(image: str, path: Path, waiting: Waiting) -> str:
    """The name of an image with its generation. Raises `OptionError` for another generation's, or none."""
    generation, slash, _ = image.rpartition("/")
    if GENERATION.fullmatch(generation) and generation != waiting.name:
        told = " (told before)" if generation < waiting.name else ""
        raise OptionError(f"{path} holds scores of {generation}{told}, but {waiting.name} waits for scores")
    if slash:
        return image
    if path.resolve().parent != (waiting.folder / waiting.name).resolve():
        raise OptionError(f"{path} names {image} without its generation", fix=f"write {waiting.name}/{image}")
    return f"{waiting.name}/{image}"


__all__ = ["Waiting", "check_measured", "read_table"]
