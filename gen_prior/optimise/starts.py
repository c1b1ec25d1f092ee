"""Where an optimisation begins: at its seed's own code, or at the best of several.

A code reaches only what lies near: how an image is composed it keeps from its start, and at a random code a hidden unit
is often silent, so that no gradient leads anywhere. Looking at a few images first costs one forward pass each, no
gradient; what a start leads to is known better after a few steps from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.generators.base import Generator
from gen_prior.objectives.targets import Target
from gen_prior.optimise.batch import Item
from gen_prior.optimise.loop import Outcome
from gen_prior.recipe import Recipe
from gen_prior.util.devices import autocast
from gen_prior.util.random import derived_seed

MOST_AT_A_TIME = 8

Climb = Callable[[Sequence[Item], Recipe, int], Outcome]
"""Optimises items by a recipe, as the trial of that number."""


def wanted_class(target: Target | None, classifier: Classifier) -> str | None:
    """Key of the class that is maximised, where it is one: `Generator.initial_code` may begin nearer to it."""
    return classifier.class_key(target.unit) if target is not None and target.is_class else None


def begun_best(
    classifier: Classifier, generator: Generator, items: Sequence[Item], recipe: Recipe, precision: str, climb: Climb
) -> list[Item]:
    """Each item at the best of its recipe's candidates by its own objective, or at what the best trial made of one.

    The seed's own code is the first candidate; those of a class that the generator aims at are all aimed at it. What is
    chosen depends on the item alone. `climb` optimises the items of one trial.
    """
    if recipe.candidates == 1:
        return list(items)
    starts = [_starts(classifier, generator, item, recipe.candidates) for item in items]
    if recipe.ranks_starts:
        seen = zip(items, starts, strict=True)
        starts = [_ranked(classifier, generator, item, codes, precision, len(items)) for item, codes in seen]
    if recipe.trial_steps == 0:
        return [replace(item, start=codes[0]) for item, codes in zip(items, starts, strict=True)]
    short = replace(recipe, steps=recipe.trial_steps, final_rate=recipe.rate, keep="last")
    tried = []
    for place in range(min(recipe.trials, recipe.candidates)):
        begun = [
            replace(item, seed=derived_seed(item.seed, place), start=codes[place])
            for item, codes in zip(items, starts, strict=True)
        ]
        tried.append(climb(begun, short, place))
    best = torch.stack([trial.scores for trial in tried]).nan_to_num(nan=-torch.inf).argmax(0).tolist()
    return [replace(item, start=tried[best[index]].codes[index]) for index, item in enumerate(items)]


def _starts(classifier: Classifier, generator: Generator, item: Item, count: int) -> Tensor:
    """`[count, *code_shape]`, the item's own first."""
    wanted = wanted_class(item.target, classifier)
    others = [generator.initial_code(derived_seed(item.seed, place), wanted) for place in range(1, count)]
    return torch.stack([item.start, *others])


def _ranked(
    classifier: Classifier, generator: Generator, item: Item, codes: Tensor, precision: str, batch: int
) -> Tensor:
    """Starts from the highest score to the lowest; equal ones in their order: where all are silent, the seed's own."""
    scores = []
    for part in codes.split(min(batch, MOST_AT_A_TIME)):
        there = part.to(classifier.device)
        with torch.no_grad(), autocast(precision, classifier.device):
            images = generator(there).float()
            seen = classifier.activations(images, item.objective.layers)
            scores.append(item.objective(seen, images, there).float())
    found = torch.cat(scores).nan_to_num(nan=-torch.inf).cpu()
    return codes[found.argsort(descending=True, stable=True)]
