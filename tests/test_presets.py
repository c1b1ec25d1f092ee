"""Every published setting runs, cites its paper, survives JSON, and is refused where it is not meant."""

from __future__ import annotations

import json

import pytest
import torch

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.generators import NAMED, load_generator
from gen_prior.generators.base import Generator
from gen_prior.presets import GENERATORS, PRESETS, fitting_presets, preset, preset_generator, preset_options
from gen_prior.recipes import Recipe
from gen_prior.synthesis import synthesize
from gen_prior.weights import registry

CODE = [name for name, recipe in PRESETS.items() if recipe.domain == "code"]
IMAGE = [name for name, recipe in PRESETS.items() if recipe.domain == "image"]


def test_the_seed_documents_systems_are_all_there() -> None:
    rows = {f"yosinski2015-{row}" for row in range(1, 5)}
    pixels = {"simonyan2014", "mahendran2015", "deepdream2015", "lucid2017", "maco2023"} | rows
    assert set(IMAGE) == pixels
    assert set(CODE) == {"dgnam2016", "ppgn2017", "biggan-am", "reno2024"}
    assert set(GENERATORS) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_it_runs_and_every_item_stands_alone(name: str, tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    generator = tiny_generator
    if name in IMAGE:
        generator = load_generator(preset_generator(name), device="cpu", image_size=32)
    together = synthesize(tiny_classifier, "bee", generator, seeds=3, recipe=preset(name), steps=3)
    assert torch.isfinite(together.codes).all()
    assert not torch.equal(together.codes[0, 0], generator.initial_code(0))
    alone = synthesize(tiny_classifier, "bee", generator, seeds=[1], recipe=preset(name), steps=3)
    torch.testing.assert_close(together.codes[:, 1:2], alone.codes, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_without_random_views_it_climbs(name: str, tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    generator = tiny_generator
    if name in IMAGE:
        generator = load_generator(preset_generator(name), device="cpu", image_size=32)
    recipe = preset(name).with_options(transforms=(), steps=20)
    result = synthesize(tiny_classifier, "bee", generator, recipe=recipe)
    before, after = generator(generator.initial_code(0)[None]), result.images[0]
    logits = tiny_classifier(torch.cat([before, after]))
    score = torch.log_softmax(logits, 1) if recipe.score == "log_probability" else logits
    assert score[1, 1] > score[0, 1]


@pytest.mark.parametrize("name", PRESETS)
def test_it_cites_its_source_and_survives_json(name: str) -> None:
    recipe = preset(name)
    assert any(year in recipe.source for year in ("2014", "2015", "2016", "2017", "2020", "2023", "2024"))
    text = json.dumps(recipe.to_dict())
    assert json.dumps(Recipe.from_dict(json.loads(text)).to_dict()) == text


@pytest.mark.parametrize("name", PRESETS)
def test_its_generator_exists_and_fits(name: str) -> None:
    wanted = preset_generator(name)
    if wanted in NAMED and name in IMAGE:
        assert load_generator(wanted, device="cpu", **preset_options(name)).domain == preset(name).domain
    else:
        assert registry.find(wanted).kind == "generator"


def test_published_numbers() -> None:
    dgnam = preset("dgnam2016")
    assert (dgnam.steps, dgnam.rate, dgnam.final_rate, dgnam.shrink) == (200, 2.0, 0, 0.99)
    assert (dgnam.optimiser, dgnam.score, dgnam.keep, dgnam.transforms) == ("normalised", "activation", "last", ())
    ppgn = preset("ppgn2017")
    assert ppgn.gradient_edits == (("ppgn", {"prior_step": 1e-5, "gradient_step": 1.0, "noise": 1e-17}),)
    assert (ppgn.steps, ppgn.rate, ppgn.final_rate, ppgn.score) == (200, 1.0, 1.0, "log_probability")
    reno = preset("reno2024")
    assert (reno.steps, reno.rate, reno.gradient_limit, reno.keep) == (50, 5.0, 0.1, "best")
    assert preset("yosinski2015-4").edits[1] == ("clip_small_contribution", {"percent": 90.0})


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_for_other_generators_names_those_that_fit(
    name: str, tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    other = tiny_generator if name in IMAGE else load_generator("pixel", device="cpu", image_size=32)
    with pytest.raises(OptionError) as error:
        synthesize(tiny_classifier, "bee", other, recipe=preset(name), steps=1)
    fitting = fitting_presets(other.domain)
    assert name not in fitting
    assert all(fit in str(error.value) for fit in fitting)


def test_unknown_presets_list_close_ones() -> None:
    for look_up in (preset, preset_generator, preset_options):
        with pytest.raises(UnknownNameError, match="yosinski2015-1"):
            look_up("yosinski2015")
