"""A target in a second network, beside one in the first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import gen_prior as gp
from gen_prior import classifiers, objectives
from gen_prior.errors import UnknownNameError
from gen_prior.objectives.expressions import parse_targets


@pytest.fixture
def second(make_tiny_network: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch) -> gp.Classifier:
    made = gp.Classifier(make_tiny_network(1), input_size=24, labels=["cat", "dog", "fox", "hen", "owl"], name="second")
    monkeypatch.setitem(classifiers.NAMED, "second", lambda name: made)
    return made


def test_both_networks_see_the_image(
    tiny_classifier: gp.Classifier, tiny_generator: gp.Generator, second: gp.Classifier, tmp_path: Path
) -> None:
    unit, fox = parse_targets("bee", tiny_classifier)[0], parse_targets("fox-0.5*conv1:2", second)[0]
    both = objectives.activation(unit) + 2 * objectives.seen_by("second", "fox-0.5*conv1:2")
    made = gp.synthesize(tiny_classifier, both, tiny_generator, seeds=3, steps=4, out=tmp_path / "out")
    images = made.images[0]
    alone = unit.read(tiny_classifier.activations(images, unit.layers))
    beside = fox.read(second.activations(images, fox.layers))
    torch.testing.assert_close(made.activations[0], alone + 2 * beside, atol=1e-4, rtol=1e-4)
    assert "in second)" in made.targets[0]["name"]
    assert torch.equal(gp.load_result(tmp_path / "out").replay(tiny_classifier, tiny_generator).images, made.images)
    plain = gp.synthesize(tiny_classifier, objectives.activation(unit), tiny_generator, seeds=3, steps=4)
    assert (fox.read(second.activations(plain.images[0], fox.layers)) < beside).all(), "the second network counts"


def test_unknown_targets_are_refused_at_once(second: gp.Classifier) -> None:
    with pytest.raises(UnknownNameError, match="wolf"):
        objectives.seen_by(second, "wolf")
