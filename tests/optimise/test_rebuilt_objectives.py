"""Objectives in results: what our factories made replays from the file, the user's own with `objective=`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import torch

import gen_prior as gp
from gen_prior import objectives
from gen_prior.errors import OptionError, WeightsError
from gen_prior.objectives.expressions import parse_targets
from gen_prior.objectives.rebuild import FACTORIES
from gen_prior.objectives.targets import Target
from gen_prior.optimise.load_result import load_result
from gen_prior.optimise.synthesize import synthesize


def test_a_function_of_the_users_own_replays_from_python(
    tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    own = gp.Objective(lambda activations, image, code: image.mean((1, 2, 3)), description="bright")
    made = synthesize(tiny_classifier, ["ant", own + objectives.channel("conv2", 1)], tiny_generator, steps=2)
    loaded = load_result(made.save(tmp_path))
    with pytest.raises(OptionError, match=r"1 of 2 targets are functions .*bright.*replay\(objective="):
        loaded.replay(tiny_classifier, tiny_generator)
    with pytest.raises(OptionError, match="got 2 objectives"):
        loaded.replay(tiny_classifier, tiny_generator, objective=[own, own])
    again = loaded.replay(tiny_classifier, tiny_generator, objective=own + objectives.channel("conv2", 1))
    assert torch.equal(again.images, made.images)


def test_objectives_of_our_own_factories_replay_from_the_file(
    tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    units, source = tiny_classifier.layer_shape("conv2")[0], torch.Generator().manual_seed(3)
    dictionary = gp.Dictionary(torch.randn(units, 5, generator=source), torch.randn(5, generator=source))
    whole = gp.Dictionary(dictionary.encoder, dictionary.bias, decoder=dictionary.encoder.T)
    stored = gp.load_dictionary(whole.save(tmp_path / "sae"))
    target, mix, bee = parse_targets(["conv2:3", "ant-0.5*bee", "bee"], tiny_classifier)
    assert isinstance(bee, Target)
    listed = [
        objectives.direction("conv2", torch.randn(units, generator=source), (1, 2), cosine_power=2.0),
        objectives.neuron("conv2", 3, (1, 2)) + 0.3 * objectives.channel("conv1", 1),
        objectives.units("conv2", {0: 1.0, 4: -0.5}) - objectives.layer_l2("conv1"),
        objectives.latent("conv2", dictionary, 3),
        objectives.latent("conv2", stored, 4, (1, 2)),
        objectives.capped(target, 0.1),
        objectives.activation(mix),
        objectives.log_probability(bee),
        objectives.match("conv1", torch.rand(tiny_classifier.layer_shape("conv1"), generator=source)),
    ]
    assert {name for one in listed for name in _factories(one.origin)} == FACTORIES.keys() - {"seen_by"}
    made = synthesize(tiny_classifier, listed, tiny_generator, steps=2, out=tmp_path / "out")
    again = load_result(tmp_path / "out").replay(tiny_classifier, tiny_generator)
    assert torch.equal(again.images, made.images)
    assert torch.equal(again.activations, made.activations)
    assert again.targets == made.targets
    (tmp_path / "sae" / "cfg.json").write_text((tmp_path / "sae" / "cfg.json").read_text() + " ")
    with pytest.raises(WeightsError, match="has changed since"):
        load_result(tmp_path / "out").replay(tiny_classifier, tiny_generator)


def _factories(origin: Any) -> Iterator[str]:
    """Names of the factories of an objective and of its parts."""
    yield origin["factory"]
    for part in [*origin.get("parts", []), *(origin[key] for key in ("part", "reported") if key in origin)]:
        yield from _factories(part)


def test_a_factory_can_be_rebuilt_or_is_known_to_hold_photographs() -> None:
    """`seen_by` is rebuilt in tests/objectives/test_other_network.py, the rest above; `match_image` makes a `match`."""
    factories = {name for name in objectives.__all__ if isinstance(getattr(objectives, name), FunctionType)}
    hold_photographs = {"apart_from", "guide", "style"}
    assert factories - {"gram", "match_image"} - hold_photographs == FACTORIES.keys() - {"sum", "scaled", "reporting"}


def test_another_function_in_our_objective_is_the_users_own(tiny_classifier: gp.Classifier) -> None:
    ours = objectives.channel("conv2", 1)
    assert ours.origin == {"factory": "channel", "layer": "conv2", "unit": 1}
    assert replace(ours, function=lambda activations, image, code: image.mean((1, 2, 3))).origin is None
    assert (ours + objectives.style(tiny_classifier, torch.rand(3, 32, 32), ["conv1"])).origin is None
