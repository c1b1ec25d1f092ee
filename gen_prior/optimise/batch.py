"""Items of the loop, the scores of a batch of them, and its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gen_prior.objectives import Activations, Objective
from gen_prior.objectives.mixes import AnyTarget
from gen_prior.optimise.unit_scale import Field

OK, NO_GRADIENT, NON_FINITE, FLAT = "ok", "no gradient at the start", "non-finite gradient", "did not rise"


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


@dataclass(frozen=True)
class BatchResult:
    """Results of one batch: codes `[B, *code_shape]`, images `[B, 3, H, W]` and `[B]` values, all on the CPU."""

    codes: Tensor
    images: Tensor
    scores: Tensor
    activations: Tensor
    start_activations: Tensor
    history: Tensor
    """`[B, steps]`: the activation in each forward pass, under that step's transforms."""
    status: list[str]
    terms: list[list[float]]
    """The activation of each unit of an item's mix; none for an item whose target is a single unit."""

    @classmethod
    def joined(cls, parts: Sequence[BatchResult]) -> BatchResult:
        """The results of items that follow each other."""
        tensors = {
            part.name: torch.cat([getattr(one, part.name) for one in parts])
            for part in fields(cls)
            if part.name not in ("status", "terms")
        }
        return cls(
            **tensors,
            status=[status for one in parts for status in one.status],
            terms=[terms for one in parts for terms in one.terms],
        )


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


def status_of(no_gradient: bool, failed: bool, rose: bool) -> str:
    """Status of an item in results."""
    if failed:
        return NON_FINITE
    if rose:
        return OK
    return NO_GRADIENT if no_gradient else FLAT
