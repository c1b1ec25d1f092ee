"""What is asked for: an objective with the target it came from, and the file names of what is made for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gen_prior.objectives import Objective
from gen_prior.targets import Target


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
