"""Recipes: checked when made, exact through JSON."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest

from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.recipes import Recipe, schedule


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
    with pytest.raises(UnknownNameError, match="did you mean rate"):
        Recipe().with_options(ratee=1)


def test_the_rate_falls_linearly() -> None:
    recipe = Recipe(steps=4, rate=1.0, final_rate=0.2)
    assert [schedule(recipe, step) for step in range(4)] == pytest.approx([1.0, 0.8, 0.6, 0.4])
