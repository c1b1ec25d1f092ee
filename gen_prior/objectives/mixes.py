"""`Mix`: several units with weights (`goldfish+monarch`), or one that is to respond least (`-blocks.10:42`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gen_prior.objectives.targets import Target

SIGNS = {"+": "plus-", "-": "minus-"}


@dataclass(frozen=True)
class Mix:
    """A weighted sum of units, made by `parse_targets`. A negative weight asks for little response.

    Attributes:
        terms: (weight, unit) pairs, at least one; weights are finite and not zero.
    """

    terms: tuple[tuple[float, Target], ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that `read` needs."""
        return tuple(dict.fromkeys(target.layer for _, target in self.terms))

    def read(self, activations: Mapping[str, Tensor]) -> Tensor:
        """Return the activation `[B]` that results report: of one unit its own, without the weight; else the sum."""
        if len(self.terms) == 1:
            return self.terms[0][1].read(activations)
        return torch.stack([weight * target.read(activations) for weight, target in self.terms], 1).sum(1)

    def score(self, activations: Mapping[str, Tensor]) -> Tensor:
        """Return what is maximised, `[B]`: the weighted sum."""
        return torch.stack([weight * target.score(activations) for weight, target in self.terms], 1).sum(1)

    @property
    def is_class(self) -> bool:
        """False: a mix is no class, even where its terms are."""
        return False

    @property
    def label(self) -> str:
        """The mix of the names of its classes; "" if a term is another unit."""
        return self.name if all(target.label for _, target in self.terms) else ""

    @property
    def name(self) -> str:
        """Name in reports, with the names of classes."""
        return self._written([target.name for _, target in self.terms])

    @property
    def slug(self) -> str:
        """Name for files, of letters, digits, dots and dashes."""
        parts = [
            f"{SIGNS[sign] if number or sign == '-' else ''}{factor.replace('*', '-')}{target.slug}"
            for number, (sign, factor, target) in enumerate(self._parts())
        ]
        return "-".join(parts)

    def __str__(self) -> str:
        return self._written([str(target) for _, target in self.terms])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        terms = [{"weight": weight, "name": target.name} | target.to_dict() for weight, target in self.terms]
        layer = self.layers[0] if len(self.layers) == 1 else None
        return {"target": str(self), "layer": layer, "unit": None, "label": self.label, "terms": terms}

    def _written(self, names: list[str]) -> str:
        text = ""
        for name, (sign, factor, _) in zip(names, self._parts(), strict=True):
            before = f" {sign} " if text else sign.replace("+", "")
            text += f"{before}{factor}{name}"
        return text

    def _parts(self) -> list[tuple[str, str, Target]]:
        """(sign, factor, unit) of each term; the factor is "0.7*", or "" for 1."""
        return [
            ("-" if weight < 0 else "+", "" if abs(weight) == 1 else f"{abs(weight):g}*", target)
            for weight, target in self.terms
        ]


AnyTarget = Target | Mix
"""A unit, or a mix of units: each is named by one expression."""
