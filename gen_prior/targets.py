"""Targets as people write them: `goldfish`, `logits:1`, `blocks.10:42`, `blocks.10:42@y,x`, `...@mean`, `...@token=3`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gen_prior.activations import LOGITS
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import TargetError

Position = tuple[int, int] | int | str | None
"""A place in the layer: (y, x), a token's number, "mean" over all places, or None for a layer without places."""


@dataclass(frozen=True)
class Target:
    """One unit of one layer, at one place. `read` picks its activation out of a forward pass."""

    layer: str
    unit: int
    position: Position = None
    label: str = ""

    def read(self, activations: dict[str, Tensor]) -> Tensor:
        """`{layer: [B, ...]}` -> the unit's activation, `[B]`, in float32."""
        values = activations[self.layer].float()
        if values.ndim == 2:
            return values[:, self.unit]
        if values.ndim == 3:  # [B, tokens, units], as vision transformers have it
            if self.position == "mean":
                return values[:, :, self.unit].mean(1)
            return values[:, self.position, self.unit]  # type: ignore[index]
        channel = values[:, self.unit]
        if self.position == "mean":
            return channel.flatten(1).mean(1)
        y, x = self.position  # type: ignore[misc]
        return channel[:, y, x]

    def __str__(self) -> str:
        if isinstance(self.position, tuple):
            return f"{self.layer}:{self.unit}@{self.position[0]},{self.position[1]}"
        if isinstance(self.position, int):
            return f"{self.layer}:{self.unit}@token={self.position}"
        return f"{self.layer}:{self.unit}" + (f"@{self.position}" if self.position else "")

    @property
    def is_class(self) -> bool:
        """Whether the unit is a class logit."""
        return self.layer == LOGITS

    @property
    def slug(self) -> str:
        """A name for files: letters, digits, dots and dashes only."""
        name = self.label if self.is_class and self.label else str(self)
        return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "target"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"target": str(self), "layer": self.layer, "unit": self.unit, "label": self.label}


def parse_target(text: str | int | Target, classifier: Classifier) -> Target:
    """The target that `text` names in `classifier`.

    Raises `TargetError` or `UnknownNameError`: unknown class or layer, unit or position out of range; the
    message states the layer's true shape.
    """
    if isinstance(text, Target):
        return text
    text = str(text).strip()
    if not text:
        raise TargetError("empty target", fix="name a class (goldfish) or a unit (LAYER:UNIT)")
    place, at, position = text.partition("@")
    layer, colon, unit = place.rpartition(":")
    if not colon:
        if at:
            raise TargetError(f"{text!r}: a class has no position; positions belong to LAYER:UNIT@...")
        index = classifier.class_index(text)
        return Target(LOGITS, index, None, classifier.class_name(index))
    if layer == LOGITS and not unit.strip().isdigit():
        index = classifier.class_index(unit)
        return Target(LOGITS, index, None, classifier.class_name(index))
    shape = classifier.layer_shape(layer)
    if not re.fullmatch(r"\d+", unit):
        raise TargetError(f"{text!r}: the unit must be a number, got {unit!r}; {_shape(layer, shape)}")
    return _checked(text, layer, int(unit), position if at else None, shape, classifier)


def _checked(
    text: str, layer: str, unit: int, position: str | None, shape: tuple[int, ...], classifier: Classifier
) -> Target:
    """Unit and position held against the layer's true shape; without a position, the centre."""
    if len(shape) not in (1, 2, 3):
        raise TargetError(f"{text!r}: {_shape(layer, shape)}, which has no units to name")
    units = shape[-1] if len(shape) == 2 else shape[0]
    if unit >= units:
        raise TargetError(f"{text!r}: {_shape(layer, shape)}, units 0 to {units - 1}")
    if len(shape) == 1:
        if position is not None:
            raise TargetError(f"{text!r}: {_shape(layer, shape)}, which has no positions")
        label = classifier.class_name(unit) if layer == LOGITS else ""
        return Target(layer, unit, None, label)
    if position == "mean":
        return Target(layer, unit, "mean")
    if len(shape) == 2:
        if position is None:
            return Target(layer, unit, 0)
        match = re.fullmatch(r"token=(\d+)", position)
        if not match or int(match[1]) >= shape[0]:
            raise TargetError(f"{text!r}: {_shape(layer, shape)}; allowed: @mean, @token=0 to @token={shape[0] - 1}")
        return Target(layer, unit, int(match[1]))
    height, width = shape[1:]
    if position in (None, "centre", "center"):
        return Target(layer, unit, (height // 2, width // 2))
    match = re.fullmatch(r"(\d+),\s*(\d+)", str(position))
    if not match or int(match[1]) >= height or int(match[2]) >= width:
        raise TargetError(f"{text!r}: {_shape(layer, shape)}; allowed: @mean, @y,x up to @{height - 1},{width - 1}")
    return Target(layer, unit, (int(match[1]), int(match[2])))


def _shape(layer: str, shape: tuple[int, ...]) -> str:
    kind = {1: "units", 2: "tokens x units", 3: "units x height x width"}.get(len(shape), "values")
    return f"layer {layer!r} has {' x '.join(map(str, shape)) or math.prod(shape)} {kind}"
