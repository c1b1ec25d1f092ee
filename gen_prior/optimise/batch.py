"""Items of the loop, and the scores of a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gen_prior.objectives import Activations, Objective
from gen_prior.objectives.mixes import AnyTarget
from gen_prior.optimise.unit_scale import Field


@dataclass(frozen=True)
class Item:
    """One (target, seed) pair: the objective to maximise, the seed of its random draws, and the code it starts from."""

    objective: Objective
    seed: int
    start: Tensor
    target: AnyTarget | None = None
    field: Field | None = None
    """Part of the input that the image is drawn into; None for all of it."""

    def reported_activation(self, activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        """The target's raw activation `[B]`; for a user's objective `objective.reported`, by default itself."""
        if self.target is not None:
            return self.target.read(activations)
        return (self.objective.reported or self.objective)(activations, image, code)


class Batch:
    """Scores of a batch whose items may have different objectives: equal ones are evaluated together."""

    def __init__(self, items: Sequence[Item], device: torch.device) -> None:
        self.items = items
        groups: dict[tuple[int, int], list[int]] = {}
        for index, item in enumerate(items):
            groups.setdefault((id(item.objective), id(item.target)), []).append(index)
        self.groups = [(items[members[0]], _selector(members, device)) for members in groups.values()]
        grouped = [index for members in groups.values() for index in members]
        self.order = None if grouped == sorted(grouped) else torch.tensor(grouped).argsort().to(device)
        layers = [layer for item in items for layer in item.objective.layers]
        layers += [layer for item in items if item.target is not None for layer in item.target.layers]
        self.layers = tuple(dict.fromkeys(layers))

    def evaluate(self, activations: Activations, images: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and reported activations, `[B]` each."""
        scores, reported = [], []
        whole = len(self.groups) == 1
        for first, members in self.groups:
            part = activations if whole else activations.select(members)
            image, code = (images, codes) if whole else (images[members], codes[members])
            scores.append(first.objective(part, image, code).float())
            reported.append(first.reported_activation(part, image, code).float())
        score, activation = torch.cat(scores), torch.cat(reported)
        return (score, activation) if self.order is None else (score[self.order], activation[self.order])

    def terms(self, activations: Activations) -> list[list[float]]:
        """For each item, the activation of each unit of its mix; none where the target is a single unit."""
        return [_terms(item.target, activations.select(slice(n, n + 1))) for n, item in enumerate(self.items)]


def _terms(target: AnyTarget | None, activations: Activations) -> list[float]:
    if target is None or len(target.terms) == 1:
        return []
    return torch.stack([unit.read(activations) for _, unit in target.terms]).flatten().tolist()


def _selector(members: list[int], device: torch.device) -> slice | Tensor:
    """An index that selects these items of a batch: a slice, and so a view, where they follow each other."""
    if members == list(range(members[0], members[-1] + 1)):
        return slice(members[0], members[-1] + 1)
    return torch.tensor(members, device=device)
