"""Text -> `Target`: `goldfish`, `logits:1`, `blocks.10:42`, `...@y,x`, `...@centre`, `...@mean`, `...@token=3`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from unicodedata import category, normalize

from torch import Tensor

from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.hooks import Activations
from gen_prior.classifiers.layouts import Layout
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.errors import OptionError, TargetError
from gen_prior.objectives.features import DICTIONARIES, Feature, latent_of, split_feature
from gen_prior.objectives.texts import PREFIX, text_feature
from gen_prior.util.deprecation import deprecated_alias

Position = tuple[int, ...] | int | str | None
"""Position in a layer: (y, x), (t, y, x), the number of a token, "mean" over all, or None for one without positions."""


@dataclass(frozen=True)
class Target:
    """One unit of one layer at one position, made by `parse_target`.

    Attributes:
        layer: its name, "logits" for the output.
        unit: number of the unit, channel or class.
        position: see `Position`.
        label: name of the class, "" for other units.
        feature: the function of the layer's units that is read instead of one of them, and numbered `unit`.
    """

    layer: str
    unit: int
    position: Position = None
    label: str = ""
    feature: Feature | None = None

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
        """Return what is maximised, `[B]`: the activation, or what stands for that of a feature."""
        if self.feature is None:
            return self.read(activations)
        return self.at_position(self.feature.score(self._all_units(activations)))

    def everywhere(self, activations: Mapping[str, Tensor]) -> Tensor:
        """Return the unit's activation at every position: `[B]`, `[B, tokens]`, `[B, H, W]`, `[B, T, H, W]`."""
        if self.feature is not None:
            return self.feature.read(self._all_units(activations))
        return units_first(activations, self.layer)[:, self.unit]

    def _all_units(self, activations: Mapping[str, Tensor]) -> Tensor:
        """`[B, *positions, units]` in float32."""
        return units_first(activations, self.layer).movedim(1, -1).float()

    @property
    def any_unit(self) -> Target:
        """The layer's first unit at the same position, which sees the same part of the input."""
        return replace(self, unit=0, label="", feature=None)

    def at_position(self, values: Tensor) -> Tensor:
        """Return `[B]`, the values at the target's position, of those that `everywhere` returned."""
        if values.ndim == 1:
            return values
        if self.position == "mean":
            return values.flatten(1).mean(1)
        at = self.position if isinstance(self.position, tuple) else (self.position,)
        return values[(slice(None), *at)]

    at_place = deprecated_alias("Target.at_place", "Target.at_position", at_position)

    def with_position(self, position: tuple[int, ...]) -> Target:
        """Return the same channel at (y, x) or (t, y, x). Raises `OptionError` where the layer is no feature map."""
        if isinstance(self.position, int) or self.position is None:
            raise OptionError(f"{self} has no positions (y, x)")
        return replace(self, position=position)

    def __str__(self) -> str:
        return (self.feature.written if self.feature else f"{self.layer}:{self.unit}") + self._at()

    def _at(self) -> str:
        if isinstance(self.position, tuple):
            return f"@{','.join(map(str, self.position))}"
        if isinstance(self.position, int):
            return f"@token={self.position}"
        return f"@{self.position}" if self.position else ""

    @property
    def is_class(self) -> bool:
        """True if the unit is the logit of a class."""
        return self.layer == LOGITS and self.feature is None

    @property
    def name(self) -> str:
        """Name in reports, of the class or else as a target is written, without the source of a feature."""
        return self.label or (str(self) if self.feature is None else self.feature.name + self._at())

    @property
    def slug(self) -> str:
        """Name for files, of letters and digits of any script, dots and dashes."""
        return file_name(self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        described = {"target": str(self), "layer": self.layer, "unit": self.unit, "label": self.label}
        return described | ({"feature": dict(self.feature.origin)} if self.feature is not None else {})


def units_first(activations: Mapping[str, Tensor], layer: str) -> Tensor:
    """A layer's activations as `[B, units, *positions]`.

    A plain mapping tells no layout: `[B, tokens, units]` is taken to have its units last, all else to have them first.
    """
    if isinstance(activations, Activations):
        return activations.units_first(layer)
    values = activations[layer]
    return values.movedim(-1, 1) if values.ndim == 3 else values


def file_name(text: str) -> str:
    """`text` as a file name without ending: letters, marks and digits of any script, dots, and dashes for all else."""
    kept = (part if part == "." or category(part)[0] in "LMN" else "-" for part in normalize("NFC", text))
    return re.sub("-+", "-", "".join(kept)).strip("-.") or "target"


def check_digits(text: str) -> None:
    """Raise `TargetError` for a number of 100 digits or more: Python reads no more than 4300."""
    if re.search(r"\d{100}", text):
        raise TargetError(f"{text[:20]}... has a number of 100 digits or more")


def parse_target(text: str | int | Target, classifier: Classifier | str) -> Target:
    """Find the target that `text` names in `classifier`.

    Args:
        text: a class by name, synonym, WordNet id or number (`goldfish`, `1`), or a unit as `LAYER:UNIT`, optionally
            with a position, `@y,x`, `@t,y,x`, `@centre`, `@mean` or `@token=3`. A label wins over a number, and
            `logits:1` is always class 1. `LAYER#0` is the first run of a layer that runs several times.
            `LAYER/sae:SOURCE:LATENT` is a latent of the sparse autoencoder at SOURCE (see `load_dictionary`),
            `LAYER/direction:FILE:ROW` a direction in a file, `text:"a fox"` a text (CLIP). A `Target` is checked again.
        classifier: the classifier of the target.

    Without a position, a unit of a feature map is read at the centre, and a unit of tokens at the class token (number
    0), or at the central token where the tokens fill a square.

    Raises:
        TargetError: a unit or position out of range, or an ambiguous class; the message states the layer's shape.
        UnknownNameError: an unknown class or layer, with close matches.
    """
    classifier = as_classifier(classifier)
    if isinstance(text, int):
        return _checked(str(text), LOGITS, classifier.class_index(text), None, classifier)
    text = str(text).strip()
    if not text:
        raise TargetError("empty target", fix="name a class (goldfish) or a unit (LAYER:UNIT)")
    if text.startswith(PREFIX):
        return Target(LOGITS, 0, feature=text_feature(text, classifier))
    check_digits(text)
    path, at, rest = split_position(text)
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
    layer, kind, source = split_feature(layer)
    if kind and not re.fullmatch(r"\d+", unit):
        raise TargetError(f"{text!r}: LAYER/{kind}:SOURCE:NUMBER ends with a number, got {unit!r}")
    if kind:
        base = _checked(text, layer, 0, position, classifier)
        feature = latent_of(kind, source, int(unit), layer, classifier)
        return replace(base, unit=int(unit), label="", feature=feature)
    if layer == LOGITS and not re.fullmatch(r"\d+", unit):
        return _checked(text, LOGITS, classifier.class_index(unit), position, classifier)
    if not re.fullmatch(r"\d+", unit):
        raise TargetError(f"{text!r}: the unit must be a number, got {unit!r}; {_describe(layer, classifier)}")
    return _checked(text, layer, int(unit), position, classifier)


def split_position(text: str) -> tuple[str, str, str]:
    """`PATH@POSITION` -> PATH, "@", POSITION, or the text and "" twice; an "@" inside PATH is no position."""
    if "/" not in text:
        path, at, position = text.partition("@")
    else:
        match = re.fullmatch(r"(.*?)(@)([\w\s,=]*)", text)
        path, at, position = match.groups() if match else (text, "", "")
    return path.strip(), at, position.strip()


def unit_count(layer: str, classifier: Classifier) -> int:
    """Return how many units `layer`, or latents `LAYER/sae:SOURCE`, has.

    Raises `TargetError` for a layer that has none, `UnknownNameError` for an unknown one.
    """
    layer, kind, source = split_feature(layer)
    return len(DICTIONARIES[kind](source)) if kind else classifier.layout(layer).units(layer)


def _checked(text: str, layer: str, unit: int, position: str | None, classifier: Classifier) -> Target:
    """Make the target after checking unit and position against the layer's shape."""
    layout = classifier.layout(layer)
    where = f"{text!r}: {_describe(layer, classifier)}"
    if unit >= (units := layout.units(layer)):
        raise TargetError(f"{where}, units 0 to {units - 1}")
    label = classifier.class_name(unit) if layer == LOGITS else ""
    return Target(layer, unit, _position(position, layout, where), label)


def _position(text: str | None, layout: Layout, where: str) -> Position:
    """Parse the position `text`, None for the default, in a layer of this layout."""
    sides = layout.sides
    if not sides:
        if text is not None:
            raise TargetError(f"{where}, which has no positions")
        return None
    if text == "mean":
        return "mean"
    if text in (None, "centre", "center"):
        return layout.centre if len(sides) > 1 else layout.centre[0]
    if len(sides) == 1:
        match = re.fullmatch(r"(?:token\s*=\s*)?(\d+)", str(text))
        if not match or int(match[1]) >= sides[0]:
            raise TargetError(f"{where}; allowed: @mean, @centre, @token=0 to @token={sides[0] - 1}")
        return int(match[1])
    if re.fullmatch(r"\d+(\s*,\s*\d+)*", str(text)):
        numbers = tuple(map(int, str(text).split(",")))
        if len(numbers) == len(sides) and all(number < side for number, side in zip(numbers, sides, strict=True)):
            return numbers
    first, last = (",".join(map(str, at)) for at in ([0] * len(sides), [side - 1 for side in sides]))
    raise TargetError(f"{where}; allowed: @mean, @centre, @{first} to @{last}")


def _describe(layer: str, classifier: Classifier) -> str:
    return f"layer {layer!r} has {classifier.layout(layer)}"
