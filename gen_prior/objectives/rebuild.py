"""Plain values that a result holds of an objective -> the same objective, so that the result replays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gen_prior.classifiers import load_described
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OutputError, WeightsError
from gen_prior.objectives.base import Objective
from gen_prior.objectives.dictionary import Dictionary
from gen_prior.objectives.dictionary_formats import load_dictionary, load_directions
from gen_prior.objectives.expressions import single_target
from gen_prior.objectives.matching import match
from gen_prior.objectives.other_network import seen_by
from gen_prior.objectives.units import (
    activation,
    capped,
    channel,
    direction,
    latent,
    layer_l2,
    log_probability,
    neuron,
    units,
)
from gen_prior.util.files import is_file

Origin = Mapping[str, Any]


def rebuild(origin: Origin, classifier: Classifier) -> Objective:
    """Make the objective again whose `Objective.origin` was `origin`, with the classifier of the result.

    Raises `OutputError` for an unknown factory, `WeightsError` for a dictionary that has changed.
    """
    factory = str(origin.get("factory"))
    if factory not in FACTORIES:
        raise OutputError(f"unknown objective {factory!r} in this result", fix="install the version that wrote it")
    return FACTORIES[factory](origin, classifier)


def _activation(origin: Origin, classifier: Classifier) -> Objective:
    return activation(single_target(origin["target"], classifier))


def _capped(origin: Origin, classifier: Classifier) -> Objective:
    return capped(single_target(origin["target"], classifier), origin["limit"])


def _log_probability(origin: Origin, classifier: Classifier) -> Objective:
    return log_probability(single_target(origin["target"], classifier))  # type: ignore[arg-type]


def _of_values(origin: Origin, classifier: Classifier) -> Objective:
    """An objective whose factory takes only numbers and lists."""
    values = {name: value for name, value in origin.items() if name != "factory"}
    if "position" in values:
        values["position"] = _position(values["position"])
    if "weights" in values:
        values["weights"] = dict(values["weights"])
    for name in ("vector", "wanted"):
        if name in values:
            values[name] = torch.tensor(values[name])
    return BY_VALUES[origin["factory"]](**values)


def _latent(origin: Origin, classifier: Classifier) -> Objective:
    dictionary = _dictionary(origin["dictionary"])
    made = latent(origin["layer"], dictionary, origin["number"], _position(origin["position"]))
    assert made.reported is not None
    return replace(made, reported=None) if origin["value"] == "score" else made.reported


def _dictionary(described: Mapping[str, Any]) -> Dictionary:
    if "source" not in described:
        tensors = ("encoder", "bias", "centre", "threshold")
        given = {name: None if described[name] is None else torch.tensor(described[name]) for name in tensors}
        return Dictionary(**given, rectified=described["rectified"], normalise=described["normalise"])  # type: ignore[arg-type]
    source, revision = described["source"], described["revision"]
    where = f"{source}@{revision}" if source.startswith("hf-hub:") and revision else source
    file = Path(source.removeprefix("local-dir:"))
    found = load_directions(file) if is_file(file) else load_dictionary(where)
    if dict(found.provenance.sha256) != described["sha256"]:
        raise WeightsError(f"{source} has changed since this result was made")
    return found


def _position(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _seen_by(origin: Origin, classifier: Classifier) -> Objective:
    return seen_by(load_described(origin["classifier"], device=classifier.device), origin["target"])


def _sum(origin: Origin, classifier: Classifier) -> Objective:
    first, second = (rebuild(part, classifier) for part in origin["parts"])
    return first + second


def _scaled(origin: Origin, classifier: Classifier) -> Objective:
    return rebuild(origin["part"], classifier) * origin["factor"]


def _reporting(origin: Origin, classifier: Classifier) -> Objective:
    return rebuild(origin["part"], classifier).reporting(rebuild(origin["reported"], classifier))


BY_VALUES: dict[str, Callable[..., Objective]] = {
    factory.__name__: factory for factory in (channel, neuron, units, direction, layer_l2, match)
}
FACTORIES: dict[str, Callable[[Origin, Classifier], Objective]] = {
    "activation": _activation,
    "capped": _capped,
    "log_probability": _log_probability,
    **dict.fromkeys(BY_VALUES, _of_values),
    "latent": _latent,
    "seen_by": _seen_by,
    "sum": _sum,
    "scaled": _scaled,
    "reporting": _reporting,
}
"""Name that a factory gave `made_by` -> how its objective is made again."""

__all__ = ["rebuild"]
