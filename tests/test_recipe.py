"""Recipes: checked when made, exact through JSON."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest

from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.recipe import Recipe, schedule


def test_round_trip_through_json() -> None:
    recipe = Recipe(
        steps=7,
        optimiser="sgd",
        sigmas=2.5,
        transforms=(("affine", {"degrees": 3.0}), ("jitter", {})),
        regularisers=(("total_variation", {"weight": 2.0}),),
        keep="best",
    )
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert set(recipe.to_dict()) == {field.name for field in fields(Recipe)}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": 0}, "steps must be a whole number"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"trials": 0}, "trials must be a whole number"),
        ({"rate": 0.0}, "rate must be positive"),
        ({"rate": -1.0}, "rate must be a finite number"),
        ({"rate": math.nan}, "rate must be a finite number"),
        ({"rate": math.inf}, "rate must be a finite number"),
        ({"rate": "fast"}, "rate must be a finite number"),
        ({"prior_weight": math.nan}, "prior_weight must be"),
        ({"momentum": 1.0}, "momentum must be below 1"),
        ({"sigmas": -1.0}, "sigmas must be"),
        ({"optimiser": "lbfgs"}, "optimiser must be one of adam"),
        ({"score": "loss"}, "score must be one of"),
        ({"keep": "first"}, "keep must be one of last, best"),
        ({"domain": "audio"}, "domain must be one of"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], match: str) -> None:
    with pytest.raises(OptionError, match=match):
        Recipe(**options)


def test_options_replace_settings_and_unknown_ones_are_named() -> None:
    assert Recipe().with_options(steps=3).steps == 3
    assert Recipe().with_options(trials=4).candidates == 4, "else there would be nothing to try"
    assert Recipe(candidates=9).with_options(trials=4).candidates == 9
    assert Recipe().with_options(trials=4, candidates=2).candidates == 2
    with pytest.raises(UnknownNameError, match="did you mean rate"):
        Recipe().with_options(ratee=1)


@pytest.mark.parametrize(
    ("candidates", "trials", "evaluations", "looked", "steps"),
    [
        (1, 1, 128, 1, 128),
        (16, 1, 128, 16, 112),
        (40, 1, 128, 32, 96),
        (16, 1, 9, 2, 7),
        (16, 1, 7, 1, 7),
        (2, 1, 1, 1, 1),
        (8, 4, 128, 8, 80),
        (8, 8, 128, 8, 64),
        (8, 4, 256, 8, 167),
        (8, 4, 20, 5, 11),
        (8, 8, 6, 1, 6),
        (1, 4, 128, 1, 128),
    ],
)
def test_within_so_many_evaluations_looks_trials_and_steps_are_counted_alike(
    candidates: int, trials: int, evaluations: int, looked: int, steps: int
) -> None:
    found = Recipe(candidates=candidates, trials=trials, rate=0.3).within(evaluations)
    assert found == Recipe(candidates=looked, trials=trials, steps=steps, rate=0.3)
    assert found.evaluations <= evaluations < found.with_options(steps=steps + 1).evaluations


def test_evaluations_of_looks_trials_and_steps() -> None:
    recipe = Recipe(candidates=8, trials=4, steps=60)
    assert (recipe.trial_steps, recipe.evaluations) == (7, 8 + 4 * 7 + 60)
    assert recipe.with_options(candidates=3).evaluations == 3 * 7 + 60, "nothing to look at where all are tried"
    assert recipe.with_options(steps=3).evaluations == 8 + 3, "nor to try in so few steps"
    assert recipe.from_given_start() == Recipe(steps=96)


def test_the_rate_falls_linearly() -> None:
    recipe = Recipe(steps=4, rate=1.0, final_rate=0.2)
    assert [schedule(recipe, step) for step in range(4)] == pytest.approx([1.0, 0.8, 0.6, 0.4])


def test_old_names_of_properties_warn() -> None:
    recipe = Recipe(steps=64, candidates=4, trials=2)
    for old, new in (("looks", "ranks_starts"), ("tried_steps", "all_trial_steps")):
        with pytest.warns(DeprecationWarning, match=new):
            assert getattr(recipe, old) == getattr(recipe, new)
