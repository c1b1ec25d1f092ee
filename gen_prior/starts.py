"""Where an optimisation begins: at its seed's own code, or at the best of several for what no generator can aim at.

A hidden unit is often silent at a random code (no gradient leads anywhere from there), and the code reaches only what
lies near. Looking at a few dozen images first costs one forward pass each, no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gen_prior.batches import Item
from gen_prior.classifiers.base import Classifier
from gen_prior.devices import autocast
from gen_prior.generators.base import Generator
from gen_prior.randomness import derived_seed
from gen_prior.targets import Target

MOST_AT_A_TIME = 8


def wanted_class(target: Target | None, classifier: Classifier) -> str | None:
    """Key of the class that is maximised, where it is one: `Generator.initial_code` may begin nearer to it."""
    return classifier.class_key(target.unit) if target is not None and target.is_class else None


def begun_best(
    classifier: Classifier, generator: Generator, items: Sequence[Item], candidates: int, precision: str
) -> list[Item]:
    """Each item at the best of `candidates` starts by its own objective, its seed's own code the first of them.

    Items of classes that the generator aims at stay as they are. What is chosen depends on the item alone.
    """
    return [
        item
        if candidates == 1 or generator.aims_at(wanted_class(item.target, classifier))
        else replace(item, start=_best(classifier, generator, item, candidates, precision, len(items)))
        for item in items
    ]


def _best(
    classifier: Classifier, generator: Generator, item: Item, candidates: int, precision: str, batch: int
) -> Tensor:
    """The start with the highest score; the first of equal ones, so the seed's own where the unit is silent."""
    others = [generator.initial_code(derived_seed(item.seed, place)) for place in range(1, candidates)]
    codes = torch.stack([item.start, *others])
    scores = []
    for part in codes.split(min(batch, MOST_AT_A_TIME)):
        there = part.to(classifier.device)
        with torch.no_grad(), autocast(precision, classifier.device):
            images = generator(there).float()
            seen = classifier.activations(images, item.objective.layers)
            scores.append(item.objective(seen, images, there).float())
    found = torch.cat(scores).nan_to_num(nan=-torch.inf)
    return codes[int(found.argmax())]
