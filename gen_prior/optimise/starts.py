"""Random restarts: which code an optimisation starts from.

An optimisation keeps much of its start's composition, and at a random code a hidden unit is often silent, so that there
is no gradient. So several candidates are ranked by one forward pass each (unless all of them are tried), and the best
few (the trials) are optimised for a few steps; the optimisation goes on from the best of them (successive halving,
Jamieson & Talwalkar 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from gen_prior.optimise.batch import Item
from gen_prior.optimise.engine import Engine
from gen_prior.optimise.resolve import class_weights_of
from gen_prior.optimise.unit_scale import Placement
from gen_prior.optimise.workers import run_each
from gen_prior.recipe import Recipe
from gen_prior.util.devices import autocast, one_thread
from gen_prior.util.progress import ProgressCallback
from gen_prior.util.random import derived_seed

RANKED_AT_ONCE = 8
"""Most candidates per forward pass; fewer if the optimisation's own batch, which has to fit in memory, is smaller, and
one on a CPU."""


def select_start(
    engine: Engine, items: Sequence[Item], recipe: Recipe, progress: ProgressCallback | None = None
) -> list[Item]:
    """Each item with the best start of its recipe's candidates, judged by its own objective.

    The seed's own code is the first candidate. What is selected depends on the item alone. `progress` counts the
    steps of the trials.
    """
    if recipe.candidates == 1:
        return list(items)
    # 1. Candidates, ranked by their scores unless all of them are tried anyway.
    starts = [_candidates(engine, item, recipe) for item in items]
    if recipe.ranks_starts:
        ranked = [partial(_ranked, engine, *pair, len(items)) for pair in zip(items, starts, strict=True)]
        with one_thread(engine.classifier.device) as workers:
            starts = run_each(ranked, workers)
    if recipe.trial_steps == 0:
        return [replace(item, start=codes[0]) for item, codes in zip(items, starts, strict=True)]
    # 2. A few steps from each of the best candidates, each trial with random draws of its own.
    trial_recipe = replace(recipe, steps=recipe.trial_steps, final_rate=recipe.rate, keep="last")
    trials = []
    for rank in range(min(recipe.trials, recipe.candidates)):
        started = [
            replace(item, seed=derived_seed(item.seed, rank), start=codes[rank])
            for item, codes in zip(items, starts, strict=True)
        ]
        trials.append(
            engine.optimise(started, trial_recipe, progress=_trial_progress(progress, rank, recipe, len(items)))
        )
    # 3. Each item goes on from where its best trial ended.
    best = torch.stack([trial.scores for trial in trials]).nan_to_num(nan=-torch.inf).argmax(0).tolist()
    return [replace(item, start=trials[best[index]].codes[index]) for index, item in enumerate(items)]


def _trial_progress(
    progress: ProgressCallback | None, rank: int, recipe: Recipe, items: int
) -> ProgressCallback | None:
    if progress is None:
        return None
    return lambda report: progress(report.within(rank * recipe.trial_steps * items, recipe.all_trial_steps * items))


def _candidates(engine: Engine, item: Item, recipe: Recipe) -> Tensor:
    """`[candidates, *code_shape]`, the item's own start first."""
    wanted, draw = class_weights_of(item.target, engine.classifier), engine.generator.initial_code
    seeds = [derived_seed(item.seed, rank) for rank in range(1, recipe.candidates)]
    return torch.stack([item.start, *(draw(seed, wanted, hidden_unit=recipe.unit_start) for seed in seeds)])


def _ranked(engine: Engine, item: Item, codes: Tensor, batch: int) -> Tensor:
    """Codes from the highest score to the lowest; equal scores keep their order, so the seed's own comes first."""
    classifier, scores = engine.classifier, []
    for part in codes.split(1 if engine.one_by_one else min(batch, RANKED_AT_ONCE)):
        part = part.to(classifier.device)
        with torch.no_grad(), autocast(engine.precision, classifier.device):
            images = engine.generator(part).float()
            placed = Placement([item.field] * len(part), classifier.input_size, part.device)(classifier.resize(images))
            activations = classifier.activations(placed, item.objective.layers)
            scores.append(item.objective(activations, images, part).float())
    found = torch.cat(scores).nan_to_num(nan=-torch.inf).cpu()
    return codes[found.argsort(descending=True, stable=True)]
