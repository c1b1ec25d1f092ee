"""Counters of one pass over photographs: statistics of every unit, and the best photographs of every wanted target.

Memory does not grow with the number of photographs. Maximum and minimum are exact; quantiles are exact up to `SAMPLE`
photographs, and beyond that those of `SAMPLE` of them, drawn evenly (reservoir sampling, Vitter 1985).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.objectives import Activations, Objective
from gen_prior.objectives.dictionary import Dictionary
from gen_prior.objectives.features import dictionary_of, split_feature
from gen_prior.objectives.mixes import AnyTarget
from gen_prior.objectives.natural_statistics import KINDS, LEVELS
from gen_prior.objectives.targets import Target, parse_target
from gen_prior.objectives.units import units_by_position
from gen_prior.util.mapped import mapped_array

SAMPLE = 1024
MOST = torch.finfo(torch.float32).max
"""In place of infinity, which files of tensors must not hold."""
HALF = torch.finfo(torch.float16).max
UNITS_AT_ONCE = 4096


@dataclass(frozen=True)
class Layer:
    """A layer whose units are counted: `units` of them at `positions` positions, of which `centre` is the central.

    With a `dictionary`, its latents are counted instead, and `name` is `LAYER/sae:SOURCE`.
    """

    name: str
    units: int
    centre: int
    positions: int
    dictionary: Dictionary | None = None

    @property
    def recorded(self) -> str:
        """The layer of the network."""
        return self.name if self.dictionary is None else split_feature(self.name)[0]

    def read(self, activations: Activations) -> Tensor:
        """Return `[B, units, positions]` in float32."""
        values = units_by_position(activations, self.recorded)
        return values if self.dictionary is None else self.dictionary(values.mT).mT


def countable_layers(classifier: Classifier, names: Iterable[str]) -> list[Layer]:
    """Those of the layers `names`, or of the dictionaries `LAYER/sae:SOURCE`, whose unit axis is known."""
    layers = []
    for name in names:
        layer, dictionary = dictionary_of(name)
        layout = classifier.layout(layer)
        if layout.unit_axis is not None:
            centre = int(np.ravel_multi_index(layout.centre, layout.sides)) if layout.sides else 0
            if dictionary is not None:
                parse_target(f"{name}:0", classifier)  # raises for a dictionary of another width
            units = layout.units(layer) if dictionary is None else len(dictionary)
            layers.append(Layer(name, units, centre, math.prod(layout.sides), dictionary))
    return layers


class UnitCounter:
    """Statistics of the units of some layers, a photograph at a time; rows of the sample lie in a file in `folder`."""

    def __init__(self, layers: Sequence[Layer], folder: Path) -> None:
        self.layers = layers
        units = sum(layer.units for layer in layers)
        # Rows of an earlier, interrupted pass stay; those after its last state are written again, with the same values.
        self.sample = mapped_array(folder / f"sample-{units}.f16", np.float16, (SAMPLE, len(KINDS), units))
        self.count = torch.tensor(0)
        self.highest = torch.full((len(KINDS), units), -MOST)
        self.lowest = torch.full((len(KINDS), units), MOST)
        self.lowest_anywhere = torch.full((units,), MOST)

    @property
    def layer_names(self) -> list[str]:
        """The layers to record."""
        return [layer.recorded for layer in self.layers]

    def describe(self) -> list[Any]:
        """Return what the outcome depends on, as plain values."""
        return [
            [layer.name, layer.units, layer.centre]
            + ([dict(layer.dictionary.provenance.sha256)] if layer.dictionary is not None else [])
            for layer in self.layers
        ]

    def add(self, numbers: Sequence[int], activations: Activations, images: Tensor) -> None:
        """Count a batch of photographs."""
        parts = [layer.read(activations) for layer in self.layers]
        read = [
            torch.stack([part[..., layer.centre], part.amax(2), part.mean(2)], 1)
            for layer, part in zip(self.layers, parts, strict=True)
        ]
        values = torch.cat(read, 2).cpu().nan_to_num(nan=0.0)  # [B, KINDS, units]
        self.highest = torch.maximum(self.highest, values.amax(0))
        self.lowest = torch.minimum(self.lowest, values.amin(0))
        lowest = torch.cat([part.amin(2) for part in parts], 1).cpu().nan_to_num(nan=0.0)
        self.lowest_anywhere = torch.minimum(self.lowest_anywhere, lowest.amin(0))
        for row in values.clamp(-HALF, HALF).half():
            if (place := _place(int(self.count))) is not None:
                self.sample[place] = row.numpy()
            self.count += 1

    def state(self) -> dict[str, Tensor]:
        """All but the sample, which is in its file."""
        self.sample.flush()
        extremes = {"highest": self.highest, "lowest": self.lowest, "lowest_anywhere": self.lowest_anywhere}
        return extremes | {"count": self.count}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`."""
        self.highest, self.lowest = state["highest"], state["lowest"]
        self.lowest_anywhere, self.count = state["lowest_anywhere"], state["count"]

    def tables(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """{layer: quantiles `[KINDS, LEVELS, units]`} and {layer: the lowest at any position `[units]`}."""
        inner = torch.tensor(LEVELS[1:-1])
        parts = []
        for first in range(0, self.highest.shape[1], UNITS_AT_ONCE):
            rows = np.array(self.sample[: min(int(self.count), SAMPLE), :, first : first + UNITS_AT_ONCE])
            parts.append(torch.from_numpy(rows).float().quantile(inner, dim=0))  # [levels, KINDS, units]
        middle = torch.cat(parts, 2).clamp(self.lowest, self.highest)  # the sample is rounded to half precision
        whole = torch.cat([self.lowest[None], middle, self.highest[None]]).movedim(0, 1)
        sizes = [layer.units for layer in self.layers]
        names = [layer.name for layer in self.layers]
        tables = {name: part.clone() for name, part in zip(names, whole.split(sizes, 2), strict=True)}
        lowest = zip(names, self.lowest_anywhere.split(sizes), strict=True)
        return tables, {name: part.clone() for name, part in lowest}


def _place(number: int) -> int | None:
    """Row of the sample that photograph `number` takes, or None; the draw depends on the number alone."""
    if number < SAMPLE:
        return number
    drawn = int(torch.randint(number + 1, (), generator=torch.Generator().manual_seed(number)))
    return drawn if drawn < SAMPLE else None


@dataclass(frozen=True)
class Wanted:
    """One search of a pass: for the photographs that score highest for a target or a user's objective.

    Attributes:
        objective: the score; of a target that is to respond least, the negative activation.
        target: None for a user's objective.
        anywhere: True to look for a unit at any position of its layer.
    """

    objective: Objective
    target: AnyTarget | None
    anywhere: bool

    @property
    def unit(self) -> tuple[float, Target] | None:
        """Weight and unit of a target that is one unit; else None."""
        return self.target.terms[0] if self.target is not None and len(self.target.terms) == 1 else None

    @property
    def name(self) -> str:
        """Name in reports; of a unit that is looked for anywhere, without a position."""
        if self.target is None:
            return self.objective.description
        return self.target.name.rpartition("@")[0] if self.anywhere else self.target.name

    def read(self, activations: Activations, images: Tensor) -> tuple[Tensor, Tensor]:
        """Each photograph's score `[B]` and the flat position where it is taken, -1 for the target's own."""
        if self.anywhere and self.unit is not None:
            weight, unit = self.unit
            best = (weight * unit.everywhere(activations).float()).flatten(1).max(1)
            return best.values.cpu(), best.indices.cpu()
        score = self.objective(activations, images, images.new_zeros(len(images), 1)).float()
        return score.cpu(), torch.full((len(images),), -1)


class BestPhotographs:
    """The `count` photographs of each wanted target with the highest scores; of equal ones, the first."""

    def __init__(self, wanted: Sequence[Wanted], count: int) -> None:
        self.wanted = wanted
        self.seen, self.active = torch.tensor(0), torch.zeros(len(wanted), dtype=torch.long)
        """Photographs so far, and for each target how many of them activate it."""
        self.values = torch.full((len(wanted), count), -MOST)
        self.numbers = torch.full((len(wanted), count), -1)
        self.positions = torch.full((len(wanted), count), -1)

    @property
    def layer_names(self) -> list[str]:
        """The layers to record."""
        return [layer for one in self.wanted for layer in one.objective.layers]

    def describe(self) -> list[Any]:
        """Return what the outcome depends on, as plain values."""
        return [[one.objective.description, str(one.target), one.anywhere, self.values.shape[1]] for one in self.wanted]

    def add(self, numbers: Sequence[int], activations: Activations, images: Tensor) -> None:
        """Compare a batch of photographs with the best so far."""
        rows = [one.read(activations, images) for one in self.wanted]
        count, shape = self.values.shape[1], (len(rows), -1)
        self.seen = self.seen + len(numbers)
        self.active = self.active + torch.stack([(row[0] > 0).sum() for row in rows])
        values = torch.cat([self.values, torch.stack([row[0] for row in rows])], 1)
        order = values.nan_to_num(nan=-MOST).argsort(dim=1, descending=True, stable=True)[:, :count]
        places = torch.cat([self.positions, torch.stack([row[1] for row in rows])], 1)
        all_numbers = torch.cat([self.numbers, torch.tensor(numbers).expand(*shape)], 1)
        self.values, self.numbers = values.gather(1, order), all_numbers.gather(1, order)
        self.positions = places.gather(1, order)

    def state(self) -> dict[str, Tensor]:
        """Tensors that `restore` takes."""
        counts = {"seen": self.seen, "active": self.active}
        return counts | {"values": self.values, "numbers": self.numbers, "positions": self.positions}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`."""
        self.seen, self.active = state["seen"], state["active"]
        self.values, self.numbers, self.positions = state["values"], state["numbers"], state["positions"]
