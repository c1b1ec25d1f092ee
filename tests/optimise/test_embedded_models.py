"""Every capability once on the embedded models: the real classifier, the real prior, real photographs, a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

import gen_prior as gp
from gen_prior import objectives
from gen_prior.applications.evolve import activation_score
from gen_prior.applications.photographs import as_seen
from gen_prior.objectives import Objective
from gen_prior.util.image_io import read_image, write_png


def photograph(name: str) -> Tensor:
    """One of skimage's photographs, its middle, `[3, 256, 256]`."""
    picture = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1).float() / 255
    top, left = ((side - 256) // 2 for side in picture.shape[1:])
    return picture[:, top : top + 256, left : left + 256]


@pytest.fixture(scope="module")
def prior() -> gp.Generator:
    return gp.load_generator("dgn-lite0", device="cpu")


@pytest.fixture(scope="module")
def pixels() -> gp.Generator:
    return gp.load_generator("pixel", device="cpu")


@pytest.fixture(scope="module")
def cat_code(prior: gp.Generator) -> Tensor:
    """Near the code of a photograph of a cat."""
    return (
        gp.encode(prior, photograph("chelsea"))
        if prior.can_encode
        else gp.fit_code(prior, photograph("chelsea"), steps=30)
    )


KINDS: dict[str, Callable[[gp.Classifier], Objective | str]] = {
    "class": lambda c: "goldfish",
    "log_probability": lambda c: objectives.log_probability(gp.parse_target("goldfish", c)),
    "unit": lambda c: "blocks.10:42",
    "channel": lambda c: objectives.channel("blocks.5", 3),
    "neuron at a place": lambda c: objectives.neuron("blocks.8", 5, (3, 4)),
    "units": lambda c: objectives.units("blocks.10", {3: 1.0, 40: -0.5}),
    "direction": lambda c: objectives.direction("blocks.6", torch.linspace(-1, 1, c.layer_shape("blocks.6")[0])),
    "whole layer": lambda c: objectives.layer_l2("blocks.2"),
    "match": lambda c: objectives.match("blocks.5", torch.ones(c.layer_shape("blocks.5")[0]), "cosine"),
    "match_image": lambda c: objectives.match_image(c, as_seen(c, photograph("astronaut")), "blocks.4"),
    "style": lambda c: objectives.style(c, as_seen(c, photograph("coffee")), ["blocks.1", "blocks.3"]),
    "apart_from": lambda c: objectives.apart_from(c, as_seen(c, photograph("coffee")), "blocks.4"),
    "sum": lambda c: objectives.channel("blocks.4", 3) + 0.5 * objectives.neuron("blocks.8", 5),
}


@pytest.mark.parametrize("mode", ["prior", "pixels"])
def test_every_kind_of_objective_rises(mode: str, lite0: gp.Classifier, request: pytest.FixtureRequest) -> None:
    goals = [make(lite0) for make in KINDS.values()]
    result = gp.synthesize(lite0, goals, request.getfixturevalue(mode), steps=24, candidates=2, trials=1)
    risen = dict(zip(KINDS, (result.activations > result.start_activations)[:, 0].tolist(), strict=True))
    assert [kind for kind, rose in risen.items() if not rose] == []
    assert [status for row in result.status for status in row] == ["ok"] * len(KINDS)


def test_dreaming_through_the_prior_stays_near_the_photograph(
    lite0: gp.Classifier, prior: gp.Generator, cat_code: Tensor
) -> None:
    ways = []
    for strength in (0.1, 0.4):
        result = gp.dream_through(lite0, prior, cat_code, "blocks.9", strength=strength, steps=4)
        assert result.activations[0, 0] > 1.02 * result.start_activations[0, 0]
        away = (result.codes[0, 0] - cat_code) / prior.prior.std
        ways.append(float(away.square().mean().sqrt()))
    assert ways[0] <= 0.1001
    assert ways[0] < ways[1] <= 0.4001


def test_inversion_through_the_prior(lite0: gp.Classifier, prior: gp.Generator) -> None:
    errors = []
    for steps in (1, 12):
        found = gp.invert(lite0, photograph("chelsea"), ["blocks.10"], {"prior": prior}, steps=steps)
        errors.append(found.reconstructions["prior"]["blocks.10"].error)
    assert errors[1] < 0.95 * errors[0]


def test_a_logit_evolves_without_gradients(lite0: gp.Classifier, prior: gp.Generator) -> None:
    search = gp.Evolution(prior, dims=16, population=8, seed=0)
    gp.evolve(search, activation_score(lite0, "goldfish"), evaluations=48)
    assert search.evaluations == 48
    assert search.scores[-1].mean() > search.scores[0].mean() + 0.5
    assert search.best_code is not None
    assert lite0(prior(search.best_code[None]))[0, 1].item() == pytest.approx(search.best_score, abs=0.01)


def test_a_dataset_is_judged_by_another_network(lite0: gp.Classifier, prior: gp.Generator, tmp_path: Path) -> None:
    judge = gp.load_classifier("efficientnet-lite2", device="cpu")
    samples = gp.make_dataset(
        lite0, prior, tmp_path, classes=["goldfish", "monarch"], per_class=1, judge=judge, steps=8, shard_size=2
    )
    assert [sample.class_name for sample in samples] == [lite0.class_name(1), lite0.class_name(323)]
    for sample in samples:
        assert sample.kept
        image = read_image(tmp_path / sample.file)
        own, other = (network(image[None]).softmax(1)[0] for network in (lite0, judge))
        assert sample.probability == pytest.approx(float(own[sample.class_index]), abs=0.05)
        assert sample.judge_probability == pytest.approx(float(other[sample.class_index]), abs=0.05)
    assert (tmp_path / "shards" / "shard-000000.tar").is_file()


def test_films_and_transparency_of_one_synthesis(lite0: gp.Classifier, tmp_path: Path) -> None:
    maco, clear = gp.load_generator("maco", device="cpu"), gp.Transparency()
    with gp.Recorder(2, out=tmp_path, names=["goldfish"]) as film:

        def both(first: int, step: int, images: Tensor) -> None:
            film(first, step, images)
            clear(first, step, images)

        result = gp.synthesize(lite0, "goldfish", maco, steps=4, record=both)
    with Image.open(tmp_path / "goldfish.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 3
    assert read_image(tmp_path / "goldfish-strip.png").shape[2] > 3 * result.images.shape[-1]
    alpha = clear.rgba(result.images)[0, 0, 3]
    assert alpha.max() == 1
    assert alpha.min() < 0.7
    assert 0.05 < alpha.std() < 0.5


def test_natural_images_of_a_hidden_unit(lite0: gp.Classifier, tmp_path: Path) -> None:
    names = ("chelsea", "coffee", "astronaut", "rocket")
    for name in names:
        write_png(tmp_path / f"{name}.png", photograph(name))
    found = gp.find_exemplars(lite0, "blocks.4:7", tmp_path, count=4)
    scores = {}
    for name in names:
        seen = as_seen(lite0, read_image(tmp_path / f"{name}.png"))
        scores[name] = lite0.activations(seen[None], ["blocks.4"])["blocks.4"][0, 7].max().item()
    assert [exemplar.path.stem for exemplar in found] == sorted(names, key=scores.__getitem__, reverse=True)
    assert found[0].activation == pytest.approx(max(scores.values()), rel=1e-4)
    assert found[0].seen.shape[1] < lite0.input_size[0]


def test_two_presets_are_compared(lite0: gp.Classifier, tmp_path: Path) -> None:
    methods = ["preset:simonyan2014", "dgn-lite0+dgnam2016"]
    compared = gp.compare(lite0, "goldfish", methods, judge="efficientnet-lite2", evaluations=4, out=tmp_path)
    assert [method["name"] for method in compared.record["methods"]] == ["simonyan2014", "dgn-lite0+dgnam2016"]
    for method, own in zip(compared.record["methods"], ("simonyan2014", "dgnam2016"), strict=True):
        recipe = method["settings"]["recipe"]
        assert gp.Recipe.from_dict(recipe) == gp.preset(own).with_options(steps=4)
        assert method["items"][0]["judge_probability"] is not None
    assert (tmp_path / "contact-sheet.png").is_file()
