"""add_class_exemplars: seeds of a class start at codes of the photographs in which the classifier is surest of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from training_runs import add_class_exemplars, train_flow

import gen_prior as gp
from gen_prior.errors import ImageError, OptionError, WeightsError
from gen_prior.generators.dgn.flow import EXEMPLAR_GAIN, EXEMPLAR_STEPS, quantise_exemplars
from gen_prior.generators.dgn.generator import EXEMPLAR_RECIPE
from gen_prior.hub.tensors import file_sha256, read_tensors, save_safetensors
from gen_prior.training.stages.class_exemplars import ExemplarSettings, chosen_codes, ranked
from gen_prior.training.stages.flow import FlowSettings

SMALL = FlowSettings(steps=4, batch=8, features=4, width=32, depth=2, view=64, held_out=4)
LABELS = ("ant", "bee", "crane", "cup", "crane", "dog")
SETTINGS = ExemplarSettings(layouts=3, alike=0.0)


@pytest.fixture
def named(make_convolutional: Callable[..., nn.Module]) -> gp.Classifier:
    """The small classifier, its classes named; two of them the same."""
    return gp.Classifier(make_convolutional(), input_size=64, labels=LABELS, name="named")


@pytest.fixture
def flowing(named: gp.Classifier, photographs: Path, prior: Path, tmp_path: Path) -> Path:
    """The folder of a prior with a flow."""
    return train_flow(named, prior, photographs, tmp_path / "flow", SMALL).parent


def test_each_seed_begins_at_another_photograph(
    named: gp.Classifier, flowing: Path, photographs: Path, tmp_path: Path
) -> None:
    reports: list[gp.Progress] = []
    file = add_class_exemplars(named, flowing, photographs, tmp_path / "out", SETTINGS, progress=reports.append)
    for label in ("reading photographs", "encoding photographs"):
        assert gp.Progress(40, 40, label) in reports

    # The file is the prior with layouts, and says how they were made.
    before, after = load_file(flowing / file.name), load_file(file)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert set(after) - set(before) == {"flow.layouts"}
    layouts = after["flow.layouts"]
    directions = before["basis"].shape[1]
    assert (layouts.dtype, layouts.shape) == (torch.int8, (6, 3, directions))
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert json.loads(metadata["config"])["flow"]["layouts"] == 3
    assert json.loads(metadata["layouts"])["parent_sha256"] == file_sha256(flowing / file.name)
    assert json.loads(metadata["layouts"])["view"] == SMALL.view
    assert json.loads(metadata["layouts_data"])["images"] == 40
    assert json.loads(metadata["flow"])["steps_done"] == 4

    # They are the codes of the photographs that the classifier is surest of, every second mirrored.
    codes = read_tensors(tmp_path / "out" / "cache" / "codes.safetensors")
    head = cast(nn.Sequential, named.network)[-1]
    assert isinstance(head, nn.Linear)
    sure = head(codes["features"].float()).log_softmax(1)
    best = sure[:, 1].topk(3).indices
    assert torch.equal(ranked(codes["features"], head, 3)[1], best)
    expected = codes["white"][best, torch.tensor([0, 1, 0])]
    assert torch.equal(layouts[1], quantise_exemplars(expected))
    assert (layouts[1].float() / EXEMPLAR_STEPS - expected.float()).abs().max() < 0.6 / EXEMPLAR_STEPS

    # Seeds take them in turn, with features of their own; a class of no name of its own begins at noise.
    generator = gp.load_generator(f"local-dir:{tmp_path / 'out'}", device="cpu")
    begun = [generator.initial_code(seed, "bee") for seed in range(3)]
    for seed, code in enumerate(begun):
        torch.testing.assert_close(code[4:], layouts[1, seed].float() * EXEMPLAR_GAIN / EXEMPLAR_STEPS)
    assert not torch.equal(begun[0][:4], begun[1][:4])
    assert torch.equal(generator.initial_code(0, "crane"), generator.initial_code(0))
    assert generator.recipe == EXEMPLAR_RECIPE
    assert gp.synthesize(named, ["bee", "dog"], generator, steps=3).images.isfinite().all()

    # Noise alone chooses one too, as trainings that go on from here draw codes.
    network: Any = generator.module
    noise = torch.randn(64, network.dims)
    starts = network.start(torch.full((64,), 1), noise)[:, 4:]
    places = [(starts[:, None] - layouts[1].float() * EXEMPLAR_GAIN / EXEMPLAR_STEPS).abs().sum(-1).argmin(1).tolist()]
    assert set(places[0]) == {0, 1, 2}

    # Learning a flow anew lets go of them.
    again = train_flow(named, tmp_path / "out", photographs, tmp_path / "again", SMALL)
    assert "flow.layouts" not in load_file(again)
    assert json.loads(metadata_of(again)["config"])["flow"]["layouts"] == 0
    assert not {"layouts", "layouts_data"} & metadata_of(again).keys()


def metadata_of(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as opened:
        return dict(opened.metadata())


def test_photographs_that_are_too_alike_are_left_out() -> None:
    torch.manual_seed(0)
    white = torch.randn(60, 2, 5)
    white[1] = white[0] + 0.01  # the second surest is nearly the surest
    white[3] = white[2].flip(0)  # and the fourth the third, mirrored
    order = torch.arange(60).expand(2, 60)
    variances = torch.ones(5)

    def chosen(alike: float, layouts: int = 3) -> list[int]:
        codes = chosen_codes(white, order, variances, layouts, alike)
        assert codes.shape == (2, layouts, 5)
        assert torch.equal(codes[0], codes[1])
        return [int((white[:, place % 2] - code).abs().sum(1).argmin()) for place, code in enumerate(codes[0])]

    assert chosen(0.0) == [0, 1, 2]
    taken = chosen(0.4)
    assert taken[0] == 0
    assert 1 not in taken
    assert len({2, 3} & set(taken)) < 2
    assert len(set(chosen(1.0, layouts=40))) == 40, "where too few differ, alike ones fill the places"
    few = chosen_codes(white[:2], order[:, :2], variances, 3, 0.0)
    assert torch.equal(few[0, 2], white[0, 0]), "where there are too few photographs, the surest fills the places"


def test_early_refusals(named: gp.Classifier, flowing: Path, prior: Path, photographs: Path, tmp_path: Path) -> None:
    def refused(settings: ExemplarSettings = SETTINGS, folder: Path = flowing) -> None:
        add_class_exemplars(named, folder, photographs, tmp_path / "out", settings)

    with pytest.raises(OptionError, match="layouts must lie in 1 to 256, got 0"):
        refused(replace(SETTINGS, layouts=0))
    with pytest.raises(OptionError, match=r"alike must lie in 0 to 1, got 1\.5"):
        refused(replace(SETTINGS, alike=1.5))
    with pytest.raises(OptionError, match="no flow") as caught:
        refused(folder=prior)
    assert "stage flow" in str(caught.value)
    with pytest.raises(WeightsError, match=r"generator\.safetensors"):
        refused(folder=tmp_path / "none")
    assert not (tmp_path / "out").exists()
    for other in (flowing, prior):
        with pytest.raises(OptionError, match="holds a"):
            add_class_exemplars(named, flowing, photographs, other, SETTINGS)
    with pytest.raises(ImageError, match="40 readable images are too few for 41 layouts"):
        refused(replace(SETTINGS, layouts=41))


def test_classes_without_names_would_never_find_theirs(
    small_classifier: gp.Classifier, photographs: Path, prior: Path, tmp_path: Path
) -> None:
    flowing = train_flow(small_classifier, prior, photographs, tmp_path / "flow", SMALL).parent
    with pytest.raises(OptionError, match="have no names"):
        add_class_exemplars(small_classifier, flowing, photographs, tmp_path / "out", SETTINGS)


def test_a_flow_without_a_record_was_seen_at_the_usual_side(
    named: gp.Classifier, flowing: Path, photographs: Path, tmp_path: Path
) -> None:
    file = flowing / "generator.safetensors"
    metadata = {key: value for key, value in metadata_of(file).items() if key != "flow"}
    save_safetensors(file, load_file(file), metadata)
    made = add_class_exemplars(named, flowing, photographs, tmp_path / "out", SETTINGS)
    assert json.loads(metadata_of(made)["layouts"])["view"] == FlowSettings.view


def test_the_surest_are_told_apart_where_all_are_sure() -> None:
    head = nn.Linear(2, 2, bias=False)
    head.weight.data.copy_(torch.eye(2))
    features = torch.stack([torch.linspace(0, 30, 50), torch.zeros(50)], 1)[torch.randperm(50)]
    found = ranked(features, head, 5)
    assert found.shape == (2, 5)
    assert features[found[0], 0].tolist() == sorted(features[:, 0].tolist(), reverse=True)[:5]
    assert features[found[1], 0].tolist() == sorted(features[:, 0].tolist())[:5]
    assert ranked(features, head, 99).shape == (2, 50)
