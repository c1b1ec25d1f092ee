"""The photographs that excite each of many units most and least, counted for all units at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gen_prior.applications.photograph_counters import MOST, Layer
from gen_prior.objectives import Activations
from gen_prior.objectives.units import units_by_position


class UnitExemplars:
    """For each chosen unit, the `count` photographs with its highest activation at any position, and the lowest.

    Of equal photographs, the first counts. `Wanted` and `BestPhotographs` do the same for any targets, one by one.

    Args:
        chosen: the layers, and numbers of their units.
        count: photographs of each kind.
    """

    def __init__(self, chosen: Sequence[tuple[Layer, Sequence[int]]], count: int) -> None:
        self.chosen = [(layer, torch.tensor(units)) for layer, units in chosen]
        total = sum(len(units) for _, units in self.chosen)
        # Row 0: most exciting; row 1: least exciting, as negative activations.
        self.values = torch.full((2, total, count), -MOST)
        self.numbers = torch.full((2, total, count), -1)
        self.positions = torch.full((2, total, count), -1)
        self.active = torch.zeros(total, dtype=torch.long)
        """Photographs with a positive activation anywhere."""

    @property
    def layer_names(self) -> list[str]:
        """The layers to record."""
        return [layer.name for layer, _ in self.chosen]

    def describe(self) -> list[object]:
        """Return what the outcome depends on, as plain values."""
        return [self.values.shape[2], [[layer.name, units.tolist()] for layer, units in self.chosen]]

    def add(self, numbers: Sequence[int], activations: Activations, images: Tensor) -> None:
        """Count a batch of photographs."""
        signed: tuple[list[Tensor], list[Tensor]] = ([], [])
        placed: tuple[list[Tensor], list[Tensor]] = ([], [])
        for layer, units in self.chosen:
            values = units_by_position(activations, layer.name)[:, units.to(images.device)].nan_to_num(nan=0.0)
            for kind, part in enumerate((values, -values)):
                best = part.max(2)
                signed[kind].append(best.values)
                placed[kind].append(best.indices)
        values = torch.stack([torch.cat(parts, 1).T for parts in signed]).cpu()  # [2, units, B]
        places = torch.stack([torch.cat(parts, 1).T for parts in placed]).cpu()
        self.active += (values[0] > 0).sum(1)
        every = torch.tensor(numbers).expand(values.shape)
        joined = torch.cat([self.values, values.clamp(-MOST, MOST)], 2)
        order = joined.argsort(dim=2, descending=True, stable=True)[..., : self.values.shape[2]]
        self.values = joined.gather(2, order)
        self.numbers = torch.cat([self.numbers, every], 2).gather(2, order)
        self.positions = torch.cat([self.positions, places], 2).gather(2, order)

    def state(self) -> dict[str, Tensor]:
        """Tensors that `restore` takes."""
        return {"values": self.values, "numbers": self.numbers, "positions": self.positions, "active": self.active}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`."""
        self.values, self.numbers = state["values"], state["numbers"]
        self.positions, self.active = state["positions"], state["active"]
