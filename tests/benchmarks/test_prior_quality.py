"""The quality protocol at reduced size: 8 of its targets, four fifths of what the shipped prior was measured at."""

from __future__ import annotations

import json
from pathlib import Path

import torch

import gen_prior as gp
from gen_prior.report.metrics import logits_of

MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "prior_quality.json"
TARGETS = 8
FLOOR = 0.8


def test_the_shipped_prior_is_what_was_measured(lite0: gp.Classifier) -> None:
    report = json.loads(MEASURED.read_text(encoding="utf-8"))
    measured, generator = report["methods"]["dgn-lite0"], gp.load_generator("dgn-lite0", device="cpu")
    assert measured["generator"]["sha256"] == generator.describe()["sha256"], "the numbers are of another file"
    recipe = generator.recipe.within(report["evaluations"])
    followed, now = (json.dumps(one.to_dict()) for one in (gp.Recipe.from_dict(measured["recipe"]), recipe))
    assert followed == now, "the numbers are of another recipe"
    groups = report["classes"].values()
    targets = [members[place * len(members) // (TARGETS // 2)] for members in groups for place in range(TARGETS // 2)]
    result = gp.synthesize(lite0, targets, generator, recipe=recipe)
    rise = result.activations - result.start_activations
    assert (rise > 5).all()
    assert rise.mean() > 12
    named = logits_of(gp.load_classifier("efficientnet-lite2", device="cpu"), result.images[:, 0]).argmax(1)
    share = float((named == torch.tensor(targets)).double().mean())
    assert share >= FLOOR * sum(measured[group]["judge_top1"] for group in report["classes"]) / len(groups)
