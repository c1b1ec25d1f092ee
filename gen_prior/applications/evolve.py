"""Preferred inputs without gradients: codes evolve under any black-box score (Ponce 2019; Wang & Ponce 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gen_prior.applications.black_boxes import BlackBox, activation_score
from gen_prior.applications.evolution import Evolution, Generation
from gen_prior.applications.evolution_file import FORMAT
from gen_prior.applications.evolution_resume import load_or_create
from gen_prior.generators.shared.checks import whole_number
from gen_prior.recipe import MOST
from gen_prior.util.progress import Progress, ProgressOption, progress_callback


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
        OptionError: an impossible number, or earlier scores of the search came from another score. OutputError: `save`
            cannot be written.
    """
    whole_number("evaluations", evaluations, least=0, most=MOST["steps"])
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
            record(0, generation.number + 1, images[int(scores.nan_to_num(-math.inf).argmax())][None])
    return evolution


__all__ = ["FORMAT", "BlackBox", "Evolution", "Generation", "activation_score", "evolve", "load_or_create"]
