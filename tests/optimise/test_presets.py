"""Every published setting runs, cites its paper, survives JSON, and is refused where it is not meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.generators import NAMED, load_generator
from gen_prior.generators.base import Generator
from gen_prior.hub import registry
from gen_prior.optimise.presets import GENERATORS, PRESETS, fitting_presets, preset, preset_generator, preset_options
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe

CODE = [name for name, recipe in PRESETS.items() if recipe.domain == "code"]
IMAGE = [name for name, recipe in PRESETS.items() if recipe.domain == "image"]


def test_the_seed_documents_systems_are_all_there() -> None:
    rows = {f"yosinski2015-{row}" for row in range(1, 5)}
    pixels = {"simonyan2014", "mahendran2015", "deepdream2015", "lucid2017", "maco2023"} | rows
    assert set(IMAGE) == pixels
    assert set(CODE) == {"dgnam2016", "ppgn2017", "biggan-am", "reno2024", "tokenopt2025"}


def test_each_preset_names_its_generator() -> None:
    assert list(GENERATORS) == list(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_it_runs_and_every_item_stands_alone(name: str, tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    generator = tiny_generator
    if name in IMAGE:
        generator = load_generator(preset_generator(name), device="cpu", image_size=32)
    # With an edit of the caller's own, what ends below its start is returned as it ended.
    moved: dict[str, Any] = {"steps": 3, "edits": [lambda code, context: code]}
    together = synthesize(tiny_classifier, "bee", generator, seeds=3, recipe=preset(name), **moved)
    assert torch.isfinite(together.codes).all()
    assert not torch.equal(together.codes[0, 0], generator.initial_code(0))
    alone = synthesize(tiny_classifier, "bee", generator, seeds=[1], recipe=preset(name), **moved)
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
    assert any(year in recipe.source for year in ("2014", "2015", "2016", "2017", "2020", "2023", "2024", "2025"))
    text = json.dumps(recipe.to_dict())
    assert json.dumps(Recipe.from_dict(json.loads(text)).to_dict()) == text


@pytest.mark.parametrize("name", PRESETS)
def test_its_generator_exists_and_fits(name: str) -> None:
    wanted = preset_generator(name)
    if wanted in NAMED and name in IMAGE:
        assert load_generator(wanted, device="cpu", **preset_options(name)).domain == preset(name).domain
    else:
        assert registry.find(wanted).kind == "generator"


ASCENT = {"optimiser": "normalised"}
TO_PIXELS = {"domain": "image", "score": "activation", "keep": "last", "shrink": 1.0, "gradient_edits": ()}
TO_CODES = {"domain": "code", "transforms": (), "keep": "last", "shrink": 1.0}
FALLING = {"simonyan2014": 0.0, "mahendran2015": 0.0, "maco2023": 0.0, "dgnam2016": 0.0}
"""Presets whose rate falls, here to nothing; in all others it stays."""
NUMBERS: dict[str, dict[str, Any]] = {
    "simonyan2014": TO_PIXELS
    | ASCENT
    | {"steps": 128, "rate": 0.02, "regularisers": (("pixel_l2", {"weight": 10.0}),), "edits": (), "transforms": ()},
    "mahendran2015": TO_PIXELS
    | {
        "steps": 300,
        "optimiser": "sgd",
        "rate": 0.02,
        "momentum": 0.9,
        "transforms": (("jitter", {"pixels": 4}),),
        "regularisers": (
            ("alpha_norm", {"weight": 2.0, "alpha": 6.0}),
            ("total_variation", {"weight": 30.0, "beta": 2.0}),
        ),
        "edits": (("natural_range", {}),),
    },
    "yosinski2015-1": TO_PIXELS
    | ASCENT
    | {
        "steps": 500,
        "rate": 0.02,
        "edits": (("blur", {"every": 4, "deviation": 0.5}), ("clip_small_norm", {"percent": 50.0})),
    },
    "yosinski2015-2": TO_PIXELS
    | ASCENT
    | {
        "steps": 750,
        "rate": 0.06,
        "edits": (("l2_decay", {"decay": 0.3}), ("clip_small_norm", {"percent": 20.0})),
    },
    "yosinski2015-3": TO_PIXELS
    | ASCENT
    | {
        "steps": 1000,
        "rate": 0.02,
        "edits": (("l2_decay", {"decay": 1e-4}), ("blur", {"every": 4, "deviation": 1.0})),
    },
    "yosinski2015-4": TO_PIXELS
    | ASCENT
    | {
        "steps": 1000,
        "rate": 0.004,
        "edits": (("blur", {"every": 4, "deviation": 0.5}), ("clip_small_contribution", {"percent": 90.0})),
    },
    "deepdream2015": TO_PIXELS
    | ASCENT
    | {"steps": 40, "rate": 1.5 / 255, "transforms": (("jitter", {"pixels": 32}),), "edits": ()},
    "lucid2017": TO_PIXELS
    | {
        "steps": 512,
        "optimiser": "adam",
        "rate": 0.05,
        "transforms": (
            ("pad", {"pixels": 12, "value": 0.5}),
            ("jitter", {"pixels": 8}),
            ("affine", {"degrees": 10.0, "scale": (0.9, 1.1)}),
            ("jitter", {"pixels": 4}),
        ),
    },
    "maco2023": TO_PIXELS
    | {
        "steps": 256,
        "optimiser": "adam",
        "rate": 0.3,
        "transforms": (("affine", {"scale": (1.2, 2.0), "shift": 0.2}), ("noise", {"deviation": 0.1})),
    },
    "dgnam2016": TO_CODES | ASCENT | {"steps": 200, "rate": 2.0, "shrink": 0.99, "score": "activation", "edits": ()},
    "ppgn2017": TO_CODES
    | ASCENT
    | {
        "steps": 200,
        "rate": 1.0,
        "score": "log_probability",
        "gradient_edits": (("ppgn", {"prior_step": 1e-5, "gradient_step": 1.0, "noise": 1e-17}),),
    },
    "biggan-am": TO_CODES
    | {
        "steps": 200,
        "optimiser": "adam",
        "rate": 0.1,
        "score": "log_probability",
        "edits": (("fresh_noise", {"every": 20, "share": 0.5}),),
    },
    "reno2024": TO_CODES
    | {
        "steps": 50,
        "optimiser": "sgd",
        "rate": 5.0,
        "momentum": 0.9,
        "gradient_limit": 0.1,
        "regularisers": (("noise_length", {"weight": 0.01}),),
        "keep": "best",
        "score": "activation",
    },
    "tokenopt2025": TO_CODES | {"steps": 600, "optimiser": "adam", "rate": 0.1, "score": "activation", "edits": ()},
}
"""What the papers state, and, where they state nothing, what `source` says is ours."""


@pytest.mark.parametrize("name", PRESETS)
def test_its_numbers_are_the_published_ones(name: str) -> None:
    recipe, wanted = preset(name), NUMBERS[name]
    assert {key: getattr(recipe, key) for key in wanted} == wanted
    assert recipe.final_rate == FALLING.get(name, recipe.rate)


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
