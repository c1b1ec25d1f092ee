"""What the loop works on: items, and the scores of a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gen_prior.objectives import Activations, Objective
from gen_prior.objectives.targets import Target


@dataclass(frozen=True)
class Item:
    """One synthesis of a batch: what to maximise, the seed of all its draws, and the code it starts from."""

    objective: Objective
    seed: int
    start: Tensor
    target: Target | None = None

    def measure(self, activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        """The number that results report: the target's raw activation, or what the objective says."""
        if self.target is not None:
            return self.target.read(activations)
        return (self.objective.reported or self.objective)(activations, image, code)


class Batch:
    """Scores of a batch whose items may have different objectives: equal ones are evaluated together."""

    def __init__(self, items: Sequence[Item], device: torch.device) -> None:
        groups: dict[tuple[int, int], list[int]] = {}
        for index, item in enumerate(items):
            groups.setdefault((id(item.objective), id(item.target)), []).append(index)
        self.groups = [(items[places[0]], _taken(places, device)) for places in groups.values()]
        grouped = [index for places in groups.values() for index in places]
        self.order = None if grouped == sorted(grouped) else torch.tensor(grouped).argsort().to(device)
        layers = [layer for item in items for layer in item.objective.layers]
        layers += [item.target.layer for item in items if item.target is not None]
        self.layers = tuple(dict.fromkeys(layers))

    def evaluate(self, activations: Activations, images: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and reported activations, `[B]` each."""
        scores, measures = [], []
        whole = len(self.groups) == 1
        for first, places in self.groups:
            part = activations if whole else activations.select(places)
            image, code = (images, codes) if whole else (images[places], codes[places])
            scores.append(first.objective(part, image, code).float())
            measures.append(first.measure(part, image, code).float())
        score, measure = torch.cat(scores), torch.cat(measures)
        return (score, measure) if self.order is None else (score[self.order], measure[self.order])


def _taken(places: list[int], device: torch.device) -> slice | Tensor:
    """What takes these places out of a batch: a view where they follow each other."""
    if places == list(range(places[0], places[-1] + 1)):
        return slice(places[0], places[-1] + 1)
    return torch.tensor(places, device=device)


@dataclass(frozen=True)
class Goal:
    """What was maximised, and the target it came from (None for a user's own objective)."""

    objective: Objective
    target: Target | None

    @property
    def name(self) -> str:
        """As reports print it: the class name, `LAYER:UNIT`, or the objective's description."""
        if self.target is None:
            return self.objective.description
        return self.target.label or str(self.target)

    @property
    def slug(self) -> str:
        """As files are named."""
        return self.target.slug if self.target is not None else Target("objective", 0, None, "").slug

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        described = {"name": self.name, "objective": self.objective.description}
        return described | (self.target.to_dict() if self.target is not None else {"target": None})


def unique_slugs(goals: Sequence[Goal]) -> list[str]:
    """One file name per goal; goals of the same name are numbered."""
    slugs: list[str] = []
    for goal in goals:
        name, count = goal.slug[:80].rstrip("-."), 2
        slug = name
        while slug in slugs:
            slug, count = f"{name}-{count}", count + 1
        slugs.append(slug)
    return slugs


def item_names(slugs: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """File names of the items without their endings, targets outermost."""
    return [f"{slug}-seed{seed}" for slug in slugs for seed in seeds]
