"""Activations of one layer at random positions of photographs: what an activation map is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.hooks import Activations
from gen_prior.objectives.units import units_by_position
from gen_prior.util.mapped import mapped_array
from gen_prior.util.random import derived_seed

INNER = 5
"""From so many positions along an axis on, its first and last, which padding disturbs, are not drawn."""


class SampledActivations:
    """A counter for `run_pass` that keeps the activations of one layer at random positions of each photograph.

    The positions follow from `seed` and the photograph's number alone. The rows lie in a file in `folder`, so that
    memory does not grow with the number of photographs.

    Args:
        photographs: how many there are.
        positions: how many positions of each are kept; of a layer without positions, one.

    Attributes:
        rows: `[photographs * positions, units]`, float32; only the first `count` are filled, since photographs that
            cannot be read have none.

    Raises:
        TargetError: a layer whose unit axis is not known.
    """

    def __init__(
        self, classifier: Classifier, layer: str, folder: Path, photographs: int, positions: int = 1, seed: int = 0
    ) -> None:
        layout = classifier.layout(layer)
        units = layout.units(layer)
        self.layer, self.seed = layer, seed
        self.positions = positions if layout.sides else 1
        self._inner = inner_positions(layout.sides)
        shape = (photographs * self.positions, units)
        # Rows of an earlier, interrupted pass stay; those after its last state are written again, with the same values.
        self.rows = mapped_array(folder / f"activations-{shape[0]}x{units}.f32", np.float32, shape)
        self.count = torch.tensor(0)

    @property
    def layer_names(self) -> list[str]:
        """The layers to record."""
        return [self.layer]

    def describe(self) -> list[Any]:
        """Return what the outcome depends on, as plain values."""
        return [self.layer, self.positions, self.seed]

    def add(self, numbers: Sequence[int], activations: Activations, images: Tensor) -> None:
        """Keep the activations of a batch of photographs."""
        values = units_by_position(activations, self.layer)  # [B, units, positions]
        drawn = torch.tensor([self.drawn(number) for number in numbers], device=values.device)  # [B, P]
        picked = values.gather(2, drawn[:, None].expand(-1, values.shape[1], -1)).mT  # [B, P, units]
        first, count = int(self.count), drawn.numel()
        self.rows[first : first + count] = picked.flatten(0, 1).cpu().nan_to_num(nan=0.0).numpy()
        self.count += count

    def drawn(self, number: int) -> list[int]:
        """The flat positions at which photograph `number` is read."""
        source = torch.Generator().manual_seed(derived_seed(self.seed, number))
        return [self._inner[i] for i in torch.randint(len(self._inner), (self.positions,), generator=source)]

    def state(self) -> dict[str, Tensor]:
        """The number of rows; the rows themselves are in their file."""
        self.rows.flush()
        return {"count": self.count}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`."""
        self.count = state["count"]


def inner_positions(sides: Sequence[int]) -> list[int]:
    """Flat numbers of the positions that may be drawn; [0] for a layer without positions."""
    if not sides:
        return [0]
    margins = [1 if side >= INNER else 0 for side in sides]
    ranges = [range(margin, side - margin) for margin, side in zip(margins, sides, strict=True)]
    grid = np.meshgrid(*ranges, indexing="ij")
    return [int(flat) for flat in np.ravel_multi_index([axis.ravel() for axis in grid], tuple(sides))]
