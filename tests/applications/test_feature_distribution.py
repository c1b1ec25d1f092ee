"""Features distributed as in a unit's best photographs (VITAL)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import gen_prior as gp
from gen_prior.applications.exemplars import Exemplar
from gen_prior.applications.feature_distribution import match_photographs
from gen_prior.errors import OptionError, TargetError
from gen_prior.objectives.receptive_field import Box
from gen_prior.util.image_io import write_png


def exemplar(image: torch.Tensor) -> Exemplar:
    whole = Box(0, 0, 32, 32, 32, 32)
    return Exemplar(Path("a.png"), 1.0, image, whole, whole)


def test_the_photograph_itself_scores_zero_and_others_less(tiny_classifier: gp.Classifier) -> None:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    objective = match_photographs(tiny_classifier, "bee", [exemplar(images[0])])
    activations = tiny_classifier.activations(images, objective.layers)
    scores = objective(activations, images, images)
    assert scores[0].item() == pytest.approx(0, abs=1e-6)
    assert (scores[1:] < -1e-3).all()


def test_positions_may_change_places_but_values_may_not(tiny_classifier: gp.Classifier) -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    objective = match_photographs(tiny_classifier, "conv1:3@mean", [exemplar(image)], layers=["conv1"], scale="image")
    values = tiny_classifier.activations(image[None], ["conv1"])
    moved = values.__class__({"conv1": values["conv1"].flip(2, 3)}, values.layouts)
    larger = values.__class__({"conv1": values["conv1"] * 1.5}, values.layouts)
    at = [float(objective(one, image[None], image[None])) for one in (moved, larger)]
    assert at == pytest.approx([0, -0.25], abs=1e-5)


def test_only_what_is_relevant_for_the_unit_counts(tiny_classifier: gp.Classifier) -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    values = tiny_classifier.activations(image[None], ["conv1"])
    unit = int(values["conv1"][0].mean((1, 2)).argmax())
    exemplars = [exemplar(image)]
    objective = match_photographs(tiny_classifier, f"conv1:{unit}@mean", exemplars, layers=["conv1"], scale="image")
    assert values["conv1"][0, unit].mean() > 0  # a silent unit would have no relevant features
    others = values["conv1"] + 10.0
    others[:, unit] -= 10.0
    moved = values.__class__({"conv1": others}, values.layouts)
    assert float(objective(moved, image[None], image[None])) == pytest.approx(0, abs=1e-9)


def test_an_image_approaches_the_photographs(
    tiny_classifier: gp.Classifier, tiny_generator: gp.Generator, tmp_path: Path
) -> None:
    for number in range(6):
        image = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(number))
        write_png(tmp_path / f"{number}.png", image)
    found = gp.find_exemplars(tiny_classifier, "conv2:3", tmp_path, count=3)
    objective = gp.match_photographs(tiny_classifier, "conv2:3", found)
    result = gp.synthesize(tiny_classifier, objective, tiny_generator, steps=20, rate=0.05)
    start = gp.synthesize(tiny_classifier, objective, tiny_generator, steps=1, rate=1e-9)

    def score(made: gp.Result) -> float:
        inputs = made.inputs(0, tiny_classifier)
        return float(objective(tiny_classifier.activations(inputs, objective.layers), inputs, inputs))

    assert score(start) < score(result) < 0
    assert result.targets[0]["name"] == "conv2:3@8,8 like 3 photographs"
    inputs = result.inputs(0, tiny_classifier)
    reported = tiny_classifier.activations(inputs, ["conv2"])["conv2"][0, 3, 8, 8]
    assert result.activations[0, 0].item() == pytest.approx(reported.item(), abs=1e-4)


def test_nothing_to_match_is_refused(tiny_classifier: gp.Classifier) -> None:
    with pytest.raises(OptionError, match="at least one exemplar"):
        match_photographs(tiny_classifier, "bee", [])
    with pytest.raises(TargetError):
        match_photographs(tiny_classifier, "conv2:*", [exemplar(torch.rand(3, 32, 32))])
