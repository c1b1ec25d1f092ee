"""Objectives for the strongest activation of a unit, channel, several units, direction, or whole layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gen_prior.classifiers.hooks import Activations
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.errors import OptionError
from gen_prior.objectives.base import Objective, Score, made_by
from gen_prior.objectives.dictionary import Dictionary
from gen_prior.objectives.mixes import AnyTarget
from gen_prior.objectives.targets import Position, Target, units_first

CENTRE = "centre"


def activation(target: AnyTarget) -> Objective:
    """The target's activation, for a class the logit before the softmax (Simonyan et al. 2014, Nguyen et al. 2016).

    Of a mix, it is the weighted sum of its units' activations.
    """

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return target.score(activations)

    made_by(score, "activation", target=str(target))
    positions = tuple((unit.layer, unit.position) for _, unit in target.terms if unit.layer != LOGITS)
    return Objective(score, target.layers, str(target), positions=positions)


def capped(target: AnyTarget, limit: float) -> Objective:
    """Climb to the activation `limit` and stay there: typical of what excites the unit, not extreme.

    After arXiv 2605.17504. The score is `limit - |activation - limit|`, so that every step beyond the limit leads back.
    """

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return limit - (target.score(activations) - limit).abs()

    made_by(score, "capped", target=str(target), limit=limit)
    plain = activation(target)
    return replace(plain, function=score, description=f"{target} up to {limit:.4g}").reporting(plain)


def log_probability(target: Target) -> Objective:
    """Log-probability of a class after the softmax, at most 0 (as PPGN does, Nguyen et al. 2017).

    Raises `OptionError` for a target that is no class.
    """
    if not target.is_class:
        raise OptionError(f"{target} is a hidden unit, which has no probability", fix="use the score 'activation'")

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return target.at_position(torch.log_softmax(units_first(activations, LOGITS).float(), 1)[:, target.unit])

    made_by(score, "log_probability", target=str(target))
    return Objective(score, (LOGITS,), f"log p({target.label or target})")


def channel(layer: str, unit: int) -> Objective:
    """Mean of one unit of `layer` over all positions (Olah et al. 2017)."""

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return _one(units_at(activations, "mean", layer), unit, layer)

    made_by(score, "channel", layer=layer, unit=unit)
    return Objective(score, (layer,), f"channel {layer}:{unit}")


def neuron(layer: str, unit: int, position: Position = CENTRE) -> Objective:
    """One unit at one position: (y, x), (t, y, x), the number of a token, or the centre (Erhan et al. 2009).

    Raises `OptionError`, in the first forward pass, for a unit or position out of range.
    """

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return _one(units_at(activations, position, layer), unit, layer)

    made_by(score, "neuron", layer=layer, unit=unit, position=_json_position(position))
    return Objective(score, (layer,), f"neuron {layer}:{unit}@{_text(position)}", positions=((layer, position),))


def units(layer: str, weights: Mapping[int, float], position: Position = "mean") -> Objective:
    """Weighted sum of units of a layer, as `units("blocks.10", {3: 1.0, 40: -0.5})`; negative weights suppress a unit.

    Raises `OptionError` for no units and, in the first forward pass, for a unit or position out of range.
    """
    if not weights:
        raise OptionError("units needs at least one unit with a weight")

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        values = units_at(activations, position, layer)
        return torch.stack([weight * _one(values, unit, layer) for unit, weight in weights.items()], 1).sum(1)

    pairs = [[unit, weight] for unit, weight in weights.items()]
    made_by(score, "units", layer=layer, weights=pairs, position=_json_position(position))
    parts = " ".join(f"{weight:+g}*{unit}" for unit, weight in weights.items())
    return Objective(score, (layer,), f"units {layer}:[{parts}]@{_text(position)}", positions=((layer, position),))


def direction(layer: str, vector: Tensor, position: Position = "mean", cosine_power: float = 0.0) -> Objective:
    """Dot product of a layer's units with a direction: `vector` `[U]`, scaled to unit length (Olah et al. 2017).

    A positive `cosine_power` multiplies it by max(cosine, 0.1) ** cosine_power, so that a small angle counts more
    than a large activation (Carter et al. 2019, Activation Atlas). Raises `OptionError` for a vector that is zero,
    not finite, or, in the first forward pass, of another length than the layer has units.
    """
    vector = vector.detach().float()
    if vector.ndim != 1 or not torch.isfinite(vector).all() or not vector.any():
        raise OptionError(f"a direction must be a finite vector [units] other than zero, got {list(vector.shape)}")
    unit_vector = vector / vector.norm()

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        values = units_at(activations, position, layer)
        if values.shape[1] != len(unit_vector):
            raise OptionError(f"layer {layer!r} has {values.shape[1]} units, the direction {len(unit_vector)}")
        along = (values * unit_vector.to(values)).sum(1)
        if not cosine_power:
            return along
        cosine = along / values.norm(dim=1).clamp_min(1e-12)
        return along * cosine.clamp_min(0.1) ** cosine_power

    made_by(
        score, "direction", layer=layer, vector=vector, position=_json_position(position), cosine_power=cosine_power
    )
    return Objective(score, (layer,), f"direction in {layer}@{_text(position)}", positions=((layer, position),))


def latent(layer: str, dictionary: Dictionary, number: int, position: Position = "mean") -> Objective:
    """One latent of a sparse autoencoder of `layer` at one position, or its mean over all.

    What is maximised is the latent before its non-linearity, which has a gradient where the latent is silent; results
    report the latent. Raises `OptionError` for a number out of range and, in the first forward pass, another width.
    """
    readers = {"score": dictionary.drive(number), "read": dictionary.latent(number)}
    described = dictionary.describe_latent(number)

    def at(name: str) -> Score:
        def value(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
            if position == "mean":
                return readers[name](units_by_position(activations, layer).mT).mean(1)
            return readers[name](units_at(activations, position, layer))

        if described is not None:
            made_by(value, "latent", layer=layer, position=_json_position(position), value=name, **described)
        return value

    objective = Objective(
        at("score"), (layer,), f"latent {layer}:{number}@{_text(position)}", positions=((layer, position),)
    )
    return objective.reporting(replace(objective, function=at("read")))


def layer_l2(layer: str) -> Objective:
    """Half the mean square of a whole layer (DeepDream, Mordvintsev et al. 2015)."""

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return 0.5 * activations[layer].float().square().flatten(1).mean(1)

    made_by(score, "layer_l2", layer=layer)
    return Objective(score, (layer,), f"L2 of {layer}")


def units_by_position(activations: Mapping[str, Tensor], layer: str) -> Tensor:
    """A layer's activations, whatever its layout, as `[B, units, positions]` in float32."""
    values = units_first(activations, layer)
    return values.flatten(2).float() if values.ndim > 2 else values[..., None].float()


def units_at(activations: Mapping[str, Tensor], position: Position, layer: str) -> Tensor:
    """The units `[B, U]` at a position, or their mean over all; those of a layer without positions as they are."""
    values = units_first(activations, layer)
    sides = values.shape[2:]
    if not sides:
        return values.float()
    if position == "mean":
        return values.flatten(2).float().mean(2)
    at = position if isinstance(position, tuple) else (position,)
    if position in (None, CENTRE):
        layouts = activations.layouts if isinstance(activations, Activations) else {}
        middle = (0,) if len(sides) == 1 else tuple(side // 2 for side in sides)
        at = layouts[layer].centre if layer in layouts else middle
    if len(at) != len(sides) or not all(isinstance(p, int) and p in range(n) for p, n in zip(at, sides, strict=True)):
        names = ", ".join({1: ("tokens",), 2: ("y", "x"), 3: ("t", "y", "x")}.get(len(sides), ("...",)))
        last = ", ".join(str(side - 1) for side in sides)
        allowed = f"tokens 0 to {last}" if len(sides) == 1 else f"positions ({names}) up to ({last})"
        raise OptionError(f"layer {layer!r} has {allowed}, got {position!r}")
    return values[(slice(None), slice(None), *at)].float()


def _one(units: Tensor, unit: int, layer: str) -> Tensor:
    if not 0 <= unit < units.shape[1]:
        raise OptionError(f"layer {layer!r} has units 0 to {units.shape[1] - 1}, got {unit}")
    return units[:, unit]


def _json_position(position: Position) -> Any:
    """A position as JSON has it."""
    return list(position) if isinstance(position, tuple) else position


def _text(position: Position) -> str:
    if isinstance(position, tuple):
        return ",".join(map(str, position))
    return str(CENTRE if position is None else position)
