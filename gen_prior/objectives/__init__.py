"""Objectives, (activations, image, code) -> score `[B]`, and the targets they name; imports `classifiers` and below.

Higher scores are better. Objectives add and scale: `objectives.channel("blocks.5", 3) + 0.1 *
objectives.layer_l2("blocks.2")`. Any function of that type is one: `Objective(function, layers=["blocks.5"])`.

To add one: a function in `units.py` for what a unit or layer does, or in `matching.py` for activations of a given image
or vector; a line here; and `made_by` in it with its line in `rebuild.FACTORIES`, or `holding` for photographs.
"""

from gen_prior.classifiers.hooks import Activations
from gen_prior.objectives.base import Objective, Score
from gen_prior.objectives.matching import apart_from, gram, guide, match, match_image, style
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

__all__ = [
    "Activations",
    "Objective",
    "Score",
    "activation",
    "apart_from",
    "capped",
    "channel",
    "direction",
    "gram",
    "guide",
    "latent",
    "layer_l2",
    "log_probability",
    "match",
    "match_image",
    "neuron",
    "seen_by",
    "style",
    "units",
]
