"""Search the recipe of a generator: variants of its default, judged by a classifier that none of them optimises.

    python benchmarks/recipe_search.py dgn-lite0 --vary rate=0.1,0.2,0.4 --vary score=activation,log_probability

Every combination of the varied settings is tried on the same classes (drawn with a fixed seed, unlike those of
`prior_quality.py`), with equal classifier evaluations; source lite0, judge lite1, so that lite2 stays unseen.
A setting's value is read as JSON where it is JSON. `norm_sphere=RADIUS`, `blur=DEVIATION` and
`affine={"degrees": 8, ...}` replace that edit or transform of the recipe, or remove it where the value is 0.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import torch

import gen_prior as gp
from gen_prior.report.metrics import logits_of
from gen_prior.util.files import write_json

SELECTION_SEED = 2
EVALUATIONS = 128
SHORTHANDS = {"norm_sphere": ("edits", "radius"), "blur": ("transforms", "deviation"), "affine": ("transforms", "")}
"""Name of an edit or transform -> the recipe's field, and the option that a single number sets."""


def parse(setting: str) -> tuple[str, list[Any]]:
    """("rate", [0.1, 0.2]) for `rate=0.1,0.2`; a JSON list is the list of values."""
    name, _, text = setting.partition("=")

    def value(part: str) -> Any:
        try:
            return json.loads(part)
        except ValueError:
            return part

    whole = value(text)
    return name, whole if isinstance(whole, list) else [value(part) for part in text.split(",")]


def replaced(recipe: gp.Recipe, name: str, value: Any) -> gp.Recipe:
    """The recipe with `value` for a setting, or for the edit or transform that the name stands for."""
    if name not in SHORTHANDS:
        return recipe.with_options(**{name: value})
    field, option = SHORTHANDS[name]
    own = dict(getattr(recipe, field))
    own[name] = value if isinstance(value, dict) or not value else {option: value}
    return recipe.with_options(**{field: tuple((kind, options) for kind, options in own.items() if options)})


def main() -> None:
    """Run every combination and print it with the judge's measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator")
    parser.add_argument("--vary", action="append", default=[], metavar="SETTING=VALUE,VALUE")
    parser.add_argument("--classes", type=int, default=24)
    parser.add_argument("--judge", default="efficientnet-lite1")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--out", type=Path, default=None, help="folder for the images and the table")
    options = parser.parse_args()
    source, judge = gp.load_classifier("efficientnet-lite0"), gp.load_classifier(options.judge)
    generator = gp.load_generator(options.generator)
    drawn = torch.randperm(1000, generator=torch.Generator().manual_seed(SELECTION_SEED))[: options.classes]
    varied = [parse(setting) for setting in options.vary]
    rows = []
    for values in itertools.product(*(choices for _, choices in varied)):
        settings = dict(zip((name for name, _ in varied), values, strict=True))
        tried = generator.recipe
        for name, value in settings.items():
            tried = replaced(tried, name, value)
        tried = tried.within(EVALUATIONS)
        result = gp.synthesize(source, drawn.tolist(), generator, recipe=tried, precision=options.precision)
        logits = logits_of(judge, result.images.flatten(0, 1))
        top = logits.topk(5, 1).indices
        row = settings | {
            "judge_top1": float((top[:, 0] == drawn).double().mean()),
            "judge_top5": float((top == drawn[:, None]).any(1).double().mean()),
            "judge_log_probability": float(logits.log_softmax(1).gather(1, drawn[:, None]).mean()),
            "source_activation": float(result.activations.mean()),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
        if options.out is not None:
            result.save(options.out / f"variant-{len(rows) - 1}")
            write_json(options.out / "table.json", rows)


if __name__ == "__main__":
    main()
