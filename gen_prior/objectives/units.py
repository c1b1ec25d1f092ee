"""Objectives that ask for much activation: of a unit, a channel, several units, a direction, a whole layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gen_prior.classifiers.hooks import LOGITS, Activations, units_come_last
from gen_prior.errors import OptionError
from gen_prior.objectives.base import Objective
from gen_prior.objectives.targets import Position, Target

CENTRE = "centre"


def activation(target: Target) -> Objective:
    """The target's raw activation: for a class, the logit before any softmax (Simonyan 2014, Nguyen 2016)."""
    return Objective(lambda activations, image, code: target.read(activations), (target.layer,), str(target))


def log_probability(target: Target) -> Objective:
    """Log of the target's softmax probability (the class gradient of PPGN, Nguyen 2017); class targets only."""
    if not target.is_class:
        raise OptionError(f"{target} is a hidden unit: it has no probability", fix="use the score 'activation'")

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return torch.log_softmax(activations[LOGITS].float(), 1)[:, target.unit]

    return Objective(score, (LOGITS,), f"log p({target.label or target})")


def channel(layer: str, unit: int) -> Objective:
    """Mean over all places of one unit of `layer` (Olah et al. 2017)."""

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return _one(_units_at(activations, "mean", layer), unit, layer)

    return Objective(score, (layer,), f"channel {layer}:{unit}")


def neuron(layer: str, unit: int, position: Position = CENTRE) -> Objective:
    """One unit at one place: (y, x), a token's number, or the centre (Erhan et al. 2009, Nguyen et al. 2016).

    Raises `OptionError`, in the first forward pass, for a unit or place that the layer does not have.
    """

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return _one(_units_at(activations, position, layer), unit, layer)

    return Objective(score, (layer,), f"neuron {layer}:{unit}@{_words(position)}")


def units(layer: str, weights: Mapping[int, float], position: Position = "mean") -> Objective:
    """Weighted sum of several units of a layer: `units("blocks.10", {3: 1.0, 40: -0.5})`; a negative one is avoided."""
    if not weights:
        raise OptionError("units needs at least one unit with its weight")

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        values = _units_at(activations, position, layer)
        return torch.stack([weight * _one(values, unit, layer) for unit, weight in weights.items()], 1).sum(1)

    parts = " ".join(f"{weight:+g}*{unit}" for unit, weight in weights.items())
    return Objective(score, (layer,), f"units {layer}:[{parts}]@{_words(position)}")


def direction(layer: str, vector: Tensor, position: Position = "mean", cosine_power: float = 0.0) -> Objective:
    """How far a layer's units point along `vector` `[U]`: their dot product with it at unit length.

    `cosine_power` multiplies by max(cosine, 0.1) to that power, which turns away from vectors that are merely
    long (Carter et al. 2019, Activation Atlas). Raises `OptionError` for a vector that is no direction or of
    another length than the layer has units.
    """
    vector = vector.detach().float()
    if vector.ndim != 1 or not torch.isfinite(vector).all() or not vector.any():
        raise OptionError(f"a direction must be a finite vector [units] that is not zero, got {list(vector.shape)}")
    unit_vector = vector / vector.norm()

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        values = _units_at(activations, position, layer)
        if values.shape[1] != len(unit_vector):
            raise OptionError(f"layer {layer!r} has {values.shape[1]} units, the direction {len(unit_vector)}")
        along = (values * unit_vector.to(values)).sum(1)
        if not cosine_power:
            return along
        cosine = along / values.norm(dim=1).clamp_min(1e-12)
        return along * cosine.clamp_min(0.1) ** cosine_power

    return Objective(score, (layer,), f"direction in {layer}@{_words(position)}")


def layer_l2(layer: str) -> Objective:
    """Half the mean square of a whole layer: whatever is there, more of it (DeepDream, Mordvintsev et al. 2015)."""

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return 0.5 * activations[layer].float().square().flatten(1).mean(1)

    return Objective(score, (layer,), f"L2 of {layer}")


def units_by_position(activations: Mapping[str, Tensor], layer: str) -> Tensor:
    """A layer's activations, whatever its layout -> `[B, units, places]` in float32."""
    return _units_first(activations, layer).flatten(2).float()


def _units_first(activations: Mapping[str, Tensor], layer: str) -> Tensor:
    """`[B, units, *places]`; one place where the layer has none."""
    values = activations[layer]
    if values.ndim == 2:
        return values[..., None]
    if isinstance(activations, Activations):
        last = layer in activations.units_last
    else:  # a plain dict tells no more than shapes
        last = units_come_last(values.shape[1:])
    return values.movedim(-1, 1) if last else values


def _units_at(activations: Mapping[str, Tensor], position: Position, layer: str) -> Tensor:
    """The units `[B, U]` at a place; "mean": over all places. A layer without places gives its units."""
    values = _units_first(activations, layer)
    if activations[layer].ndim == 2 or position == "mean":
        return values.flatten(2).float().mean(2)
    if values.ndim == 3:
        token = 0 if position in (None, CENTRE) else position
        if not isinstance(token, int) or not 0 <= token < values.shape[2]:
            raise OptionError(f"layer {layer!r} has tokens 0 to {values.shape[2] - 1}, got {position!r}")
        return values[:, :, token].float()
    height, width = values.shape[2:]
    place = (height // 2, width // 2) if position in (None, CENTRE) else position
    if not isinstance(place, tuple) or not (0 <= place[0] < height and 0 <= place[1] < width):
        raise OptionError(f"layer {layer!r} has places (y, x) up to ({height - 1}, {width - 1}), got {position!r}")
    return values[:, :, place[0], place[1]].float()


def _one(units: Tensor, unit: int, layer: str) -> Tensor:
    if not 0 <= unit < units.shape[1]:
        raise OptionError(f"layer {layer!r} has units 0 to {units.shape[1] - 1}, got {unit}")
    return units[:, unit]


def _words(position: Position) -> str:
    if isinstance(position, tuple):
        return ",".join(map(str, position))
    return str(CENTRE if position is None else position)
