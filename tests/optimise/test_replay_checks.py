"""Replays of objectives that hold activations or photographs, and by networks that see images otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import gen_prior as gp
from gen_prior import objectives
from gen_prior.errors import OptionError
from gen_prior.objectives import matching
from gen_prior.optimise.load_result import load_result

PHOTO = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
Make = Callable[[gp.Classifier], gp.Objective]
BY_VALUES: dict[str, Make] = {
    "match": lambda c: objectives.match("conv2", torch.linspace(-1, 2, 12), "cosine"),
    "match_image": lambda c: objectives.match_image(c, PHOTO, "conv2"),
    "mixed": lambda c: objectives.channel("conv2", 3) + 0.5 * objectives.match("logits", torch.ones(5)),
}
HOLDING: dict[str, tuple[str, Make]] = {
    "style": ("photographs", lambda c: objectives.style(c, PHOTO, ["conv1"])),
    "guide": ("photographs", lambda c: -objectives.guide(c, PHOTO, "conv1")),
    "apart": ("photographs", lambda c: objectives.apart_from(c, PHOTO, "conv1")),
    "mixed": ("photographs", lambda c: objectives.channel("conv2", 3) + 2 * objectives.style(c, PHOTO, ["conv1"])),
    "match": ("activations", lambda c: objectives.match_image(c, PHOTO, "conv1")),
}


@pytest.mark.parametrize("name", BY_VALUES)
def test_an_activation_is_kept_and_replays(
    name: str, tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    made = gp.synthesize(tiny_classifier, BY_VALUES[name](tiny_classifier), tiny_generator, steps=2, out=tmp_path)
    again = load_result(tmp_path).replay(tiny_classifier, tiny_generator)
    assert torch.equal(again.images, made.images)
    assert torch.equal(again.activations, made.activations)
    assert again.targets[0]["objective"] == made.targets[0]["objective"]


@pytest.mark.parametrize("name", HOLDING)
def test_what_holds_photographs_says_so(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_classifier: gp.Classifier,
    tiny_generator: gp.Generator,
) -> None:
    monkeypatch.setattr(matching, "MAX_KEPT", 100)
    held, make = HOLDING[name]
    objective = make(tiny_classifier)
    made = gp.synthesize(tiny_classifier, ["bee", objective], tiny_generator, steps=2, out=tmp_path)
    loaded = load_result(tmp_path)
    with pytest.raises(OptionError, match=f"^1 of 2 targets are compared with {held}, which no file holds") as caught:
        loaded.replay(tiny_classifier, tiny_generator)
    assert "replay(objective=[...])" in str(caught.value)
    again = loaded.replay(tiny_classifier, tiny_generator, objective=objective)
    assert torch.equal(again.images, made.images)


def test_both_kinds_are_counted(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    own = gp.Objective(lambda activations, image, code: image.mean((1, 2, 3)))
    listed: list[str | gp.Objective] = ["bee", own, objectives.style(tiny_classifier, PHOTO, ["conv1"])]
    made = gp.synthesize(tiny_classifier, listed, tiny_generator, steps=1)
    says = "^1 of 3 targets are functions of your own and 1 of 3 targets are compared with photographs, .*got 1 obj"
    with pytest.raises(OptionError, match=says):
        made.replay(objective=own)
    with pytest.raises(OptionError, match=r"^0 of 1 targets are functions of your own, which no file holds, got 1 obj"):
        gp.synthesize(tiny_classifier, "bee", tiny_generator, steps=1).replay(objective=own)


def test_a_network_that_sees_images_otherwise_is_refused(
    tmp_path: Path, make_tiny_network: Callable[..., nn.Module], tiny_generator: gp.Generator
) -> None:
    def classifier(**options: tuple[float, ...]) -> gp.Classifier:
        return gp.Classifier(make_tiny_network(), input_size=32, name="mine", **options)  # type: ignore[arg-type]

    given = classifier(mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.25))
    made = gp.synthesize(given, "logits:1", tiny_generator, steps=2, out=tmp_path)
    loaded = load_result(tmp_path)
    assert loaded.settings["normalisation"]["std"] == [0.5, 0.5, 0.25]
    says = r"made with mean 0\.1,0\.2,0\.3, and mine has 0\.485,0\.456,0\.406\. Fix: .*--mean 0\.1,0\.2,0\.3, or gp\.Cl"
    with pytest.raises(OptionError, match=says):
        loaded.replay(classifier(), tiny_generator)
    with pytest.raises(OptionError, match=r"made with std 0\.5,0\.5,0\.25, and mine has 0\.229"):
        loaded.replay(classifier(mean=(0.1, 0.2, 0.3)), tiny_generator)
    assert torch.equal(loaded.replay(given, tiny_generator).images, made.images)


def test_a_result_without_a_normalisation_replays_and_goes_on(
    tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    made = gp.synthesize(tiny_classifier, "bee", tiny_generator, steps=2, out=tmp_path)
    record = json.loads((tmp_path / "result.json").read_text())
    del record["settings"]["normalisation"]
    (tmp_path / "result.json").write_text(json.dumps(record))
    assert torch.equal(load_result(tmp_path).replay(tiny_classifier, tiny_generator).images, made.images)
    again = gp.synthesize(tiny_classifier, "bee", tiny_generator, steps=2, out=tmp_path)
    assert torch.equal(again.images, made.images)
