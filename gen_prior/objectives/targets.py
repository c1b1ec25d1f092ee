"""Text -> `Target`: `goldfish`, `logits:1`, `blocks.10:42`, `...@y,x`, `...@centre`, `...@mean`, `...@token=3`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.hooks import LOGITS, units_come_last
from gen_prior.errors import OptionError, TargetError
from gen_prior.util.deprecation import deprecated_alias

Position = tuple[int, int] | int | str | None
"""Position in a layer: (y, x), the number of a token, "mean" over all, or None for a layer without positions."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """One unit of one layer at one position, made by `parse_target`.

    Attributes:
        layer: its name, "logits" for the output.
        unit: number of the unit, channel or class.
        position: see `Position`.
        label: name of the class, "" for other units.
        units_last: True for a layer whose units are its last axis, `[B, H, W, units]`.
    """

    layer: str
    unit: int
    position: Position = None
    label: str = ""
    units_last: bool = False

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that `read` needs: one."""
        return (self.layer,)

    @property
    def terms(self) -> tuple[tuple[float, Target], ...]:
        """(weight, unit) pairs, as a `Mix` has them: this unit."""
        return ((1.0, self),)

    def read(self, activations: Mapping[str, Tensor]) -> Tensor:
        """Return the unit's activation `[B]` in float32, from `{layer: [B, ...]}`."""
        return self.at_position(self.everywhere(activations).float())

    def score(self, activations: Mapping[str, Tensor]) -> Tensor:
        """Return what is maximised, `[B]`: the activation."""
        return self.read(activations)

    def everywhere(self, activations: Mapping[str, Tensor]) -> Tensor:
        """Return the unit's activation at every position: `[B]`, `[B, tokens]` or `[B, H, W]`."""
        values = activations[self.layer]
        last = self.units_last or values.ndim == 3  # [B, tokens, units], as vision transformers have it
        return values[..., self.unit] if last else values[:, self.unit]

    def at_position(self, values: Tensor) -> Tensor:
        """Return `[B]`, the values at the target's position, of those that `everywhere` returned."""
        if values.ndim == 1:
            return values
        if self.position == "mean":
            return values.flatten(1).mean(1)
        if isinstance(self.position, tuple):
            return values[:, self.position[0], self.position[1]]
        return values[:, self.position]  # type: ignore[index]

    at_place = deprecated_alias("Target.at_place", "Target.at_position", at_position)

    def with_position(self, position: tuple[int, int]) -> Target:
        """Return the same channel at (y, x). Raises `OptionError` for a unit of a layer that is no feature map."""
        if isinstance(self.position, int) or self.position is None:
            raise OptionError(f"{self} has no positions (y, x)")
        return replace(self, position=position)

    def __str__(self) -> str:
        if isinstance(self.position, tuple):
            return f"{self.layer}:{self.unit}@{self.position[0]},{self.position[1]}"
        if isinstance(self.position, int):
            return f"{self.layer}:{self.unit}@token={self.position}"
        return f"{self.layer}:{self.unit}" + (f"@{self.position}" if self.position else "")

    @property
    def is_class(self) -> bool:
        """True if the unit is the logit of a class."""
        return self.layer == LOGITS

    @property
    def name(self) -> str:
        """Name in reports: of the class, or `LAYER:UNIT@POSITION`."""
        return self.label or str(self)

    @property
    def slug(self) -> str:
        """Name for files, of letters, digits, dots and dashes."""
        return file_name(self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"target": str(self), "layer": self.layer, "unit": self.unit, "label": self.label}


def file_name(text: str) -> str:
    """Turn any text into letters, digits, dots and dashes; "target" where nothing is left."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "target"


def parse_target(text: str | int | Target, classifier: Classifier) -> Target:
    """Find the target that `text` names in `classifier`.

    Args:
        text: a class by name, synonym, WordNet id or number (`goldfish`, `1`), or a unit as `LAYER:UNIT`, optionally
            with a position, `@y,x`, `@centre`, `@mean` or `@token=3`. A `Target` is checked again.
        classifier: the classifier of the target.

    Without a position, a unit of a feature map is read at the centre, and a unit of tokens at the class token (number
    0), or at the central token where the tokens fill a square.

    Raises:
        TargetError: a unit or position out of range, or an ambiguous class; the message states the layer's shape.
        UnknownNameError: an unknown class or layer, with close matches.
    """
    text = str(text).strip()
    if not text:
        raise TargetError("empty target", fix="name a class (goldfish) or a unit (LAYER:UNIT)")
    path, at, rest = (part.strip() for part in text.partition("@"))
    position = rest if at else None
    layer, colon, unit = (part.strip() for part in path.rpartition(":"))
    named = classifier.labels is not None and text in classifier.labels  # the name of a class may contain ":" or "@"
    if named or not colon:
        if at and not named:
            raise TargetError(f"{text!r}: a class has no position; positions belong to LAYER:UNIT@...")
        if not named and text != LOGITS and text in classifier.layers():
            raise TargetError(
                f"{text!r} is a layer, not a unit: {_describe(text, classifier)}",
                fix=f"name a unit, {text}:0, or maximise the whole layer: gen-prior dream IMAGE --layer {text}, "
                f"in Python objectives.layer_l2({text!r})",
            )
        if text[0] in "+-" and not named and not text[1:].isdecimal():
            raise TargetError(f"{text!r} has a sign, which is no part of a unit", fix="read it by gp.parse_targets")
        return _checked(text, LOGITS, classifier.class_index(text), None, classifier)
    if layer == LOGITS and not re.fullmatch(r"\d+", unit):
        return _checked(text, LOGITS, classifier.class_index(unit), position, classifier)
    described = _describe(layer, classifier)
    if not re.fullmatch(r"\d+", unit):
        raise TargetError(f"{text!r}: the unit must be a number, got {unit!r}; {described}")
    return _checked(text, layer, int(unit), position, classifier)


def unit_count(layer: str, classifier: Classifier) -> int:
    """Return how many units `layer` has. Raises `TargetError` for one that has none, `UnknownNameError`."""
    shape = classifier.layer_shape(layer)
    if len(shape) not in (1, 2, 3):
        raise TargetError(f"{_describe(layer, classifier)}, which has no units")
    return shape[-1] if _units_last(layer, classifier) else shape[0]


def _checked(text: str, layer: str, unit: int, position: str | None, classifier: Classifier) -> Target:
    """Make the target after checking unit and position against the layer's shape."""
    shape, units_last = classifier.layer_shape(layer), _units_last(layer, classifier)
    where = f"{text!r}: {_describe(layer, classifier)}"
    units = unit_count(layer, classifier)
    if unit >= units:
        raise TargetError(f"{where}, units 0 to {units - 1}")
    label = classifier.class_name(unit) if layer == LOGITS else ""
    sides = shape[:-1] if units_last else shape[1:]
    return Target(layer, unit, _position(position, sides, where), label, units_last and len(shape) == 3)


def _position(text: str | None, sides: Shape, where: str) -> Position:
    """Parse the position `text`, None for the default, in a layer of as many positions along each side."""
    if not sides:
        if text is not None:
            raise TargetError(f"{where}, which has no positions")
        return None
    if text == "mean":
        return "mean"
    if len(sides) == 1:
        match = re.fullmatch(r"token\s*=\s*(\d+)", text or f"token={_central_token(sides[0])}")
        if not match or int(match[1]) >= sides[0]:
            raise TargetError(f"{where}; allowed: @mean, @token=0 to @token={sides[0] - 1}")
        return int(match[1])
    height, width = sides
    if text in (None, "centre", "center"):
        return height // 2, width // 2
    match = re.fullmatch(r"(\d+)\s*,\s*(\d+)", str(text))
    if not match or int(match[1]) >= height or int(match[2]) >= width:
        raise TargetError(f"{where}; allowed: @mean, @centre, @0,0 to @{height - 1},{width - 1}")
    return int(match[1]), int(match[2])


def _central_token(tokens: int) -> int:
    side = math.isqrt(tokens)
    return side // 2 * side + side // 2 if side * side == tokens else 0


def _units_last(layer: str, classifier: Classifier) -> bool:
    """True if the layer's units are its last axis: tokens, and feature maps with channels last (Swin)."""
    module = classifier.network.get_submodule(layer) if layer != LOGITS else None
    square = classifier.input_size[0] == classifier.input_size[1]
    return units_come_last(classifier.layer_shape(layer), module=module, square=square)


def _describe(layer: str, classifier: Classifier) -> str:
    shape = classifier.layer_shape(layer)
    if not shape:
        return f"layer {layer!r} has one value per image"
    order = "height x width x units" if _units_last(layer, classifier) else "units x height x width"
    kind = {1: "units", 2: "tokens x units", 3: order}.get(len(shape), "values")
    return f"layer {layer!r} has {' x '.join(map(str, shape))} {kind}"
