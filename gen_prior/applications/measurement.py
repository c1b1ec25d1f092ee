"""A finished result -> the numbers of a comparison: one dict per image, one summary per method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import gen_prior.report.metrics as metrics
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.objectives.targets import Target
from gen_prior.optimise.result import Result
from gen_prior.optimise.result_folder import UNFINISHED

MEDIANS = (
    "activation",
    "probability",
    "rank",
    "judge_probability",
    "kept_blur",
    "kept_jpeg",
    "kept_shift",
    "high_frequency",
    "slope",
)
RATES = ("judge_top1", "judge_top5")
"""Yes-or-no measures, for which the mean is reported instead of the median."""


@dataclass(frozen=True)
class Measured:
    """Of one target: a dict per seed, the diversity across seeds, the median activation at each step."""

    items: list[dict[str, Any]]
    diversity: float | None
    history: list[float | None]


def check_judge(judge: str | Classifier, classifier: Classifier) -> None:
    """Raises `OptionError` where the judge is the classifier that the images are made for: by name, object or weights.

    Two classifiers of your own may share a name, so a loaded judge is told by its weights alone.
    """
    if isinstance(judge, str):
        same = judge == classifier.name
    else:
        hashes = judge.provenance.sha256
        same = judge.network is classifier.network or (bool(hashes) and hashes == classifier.provenance.sha256)
    if same:
        raise OptionError(
            f"the judge must be another classifier than {classifier.name}, which the images are made for",
            fix="pass another judge, such as efficientnet-lite0, or none",
        )


def judged_class(
    target: Target | None, classifier: Classifier, judge: Classifier | None
) -> tuple[int | None, str | None]:
    """The judge's number of the target's class and None, or None and the reason why there is none."""
    if judge is None:
        return None, "no judge was asked"
    if target is None or not target.is_class:
        return None, "not a class: a judge knows classes only"
    index = metrics.matching_class(classifier, judge, target.unit)
    name = classifier.class_name(target.unit)
    return index, None if index is not None else f"{judge.name} has no class of the name {name!r}"


def measure(
    classifier: Classifier,
    judge: Classifier | None,
    target: Target | None,
    judged: int | None,
    result: Result,
    t: int,
    folder: str,
) -> Measured:
    """All measures of target `t` of `result`, whose files lie in `folder`; None where a measure does not apply.

    `target` is None for a user's own objective; `judged` is the judge's number of the class, if it has it.
    """
    images = result.images[t]
    columns: dict[str, list[Any]] = {}
    variety: float | None = None
    if target is not None and target.is_class:
        said = metrics.verdict(metrics.logits_of(classifier, images), target.unit)
        columns |= {"probability": said.probability.tolist(), "rank": said.rank.tolist()}
    if judge is not None:
        if metrics.has_features(judge):
            logits, features = metrics.logits_and_features(judge, images)
            variety = metrics.diversity(features)
        else:
            logits = metrics.logits_of(judge, images)
        said = metrics.verdict(logits, judged if judged is not None else 0)
        columns["judge_class"] = [judge.class_name(index) for index in said.top_class.tolist()]
        if judged is not None:
            columns |= {
                "judge_probability": said.probability.tolist(),
                "judge_rank": said.rank.tolist(),
                "judge_top1": (said.rank == 1).tolist(),
                "judge_top5": (said.rank <= 5).tolist(),
            }
    if target is not None:
        kept = metrics.activation_kept(classifier, target, images)
        columns |= {f"kept_{name}": values.tolist() for name, values in kept.items()}
    shape = metrics.spectrum(classifier.resize(images.to(classifier.device)))
    columns |= {"high_frequency": shape.high_frequency.tolist(), "slope": shape.slope.tolist()}
    names = (*MEDIANS[1:], "judge_class", "judge_rank", *RATES)
    items = []
    for s, seed in enumerate(result.seeds):
        stem = f"{folder}/{result.slugs[t]}-seed{seed}"
        item = {
            "target": t,
            "seed": seed,
            "image": f"{stem}.png",
            "data": f"{stem}.safetensors",
            "status": result.status[t][s],
            "activation": _number(result.activations[t, s]),
            "start_activation": _number(result.start_activations[t, s]),
        }
        items.append(item | {name: _number(columns[name][s]) if name in columns else None for name in names})
    history = [_number(round(value, 4)) for value in result.history[t].nanmedian(0).values.tolist()]
    return Measured(items, variety, history)


def summarise(items: Sequence[dict[str, Any]], variety: Sequence[float | None]) -> dict[str, Any]:
    """Median (mean, of yes-or-no measures) over the images with its 95 % bootstrap interval; None where unmeasured.

    Diversity has one number per target, so its interval is over targets; every other one is over images.
    """
    finished = [item for item in items if item["status"] != UNFINISHED]
    columns: dict[str, list[float]] = {
        name: [float(item[name]) for item in finished if item[name] is not None] for name in (*MEDIANS, *RATES)
    }
    columns["diversity"] = [value for value in variety if value is not None]
    summary: dict[str, Any] = {}
    for name, values in columns.items():
        if not values:
            summary[name] = None
            continue
        statistic = "mean" if name in RATES else "median"
        data = torch.tensor(values, dtype=torch.float64)
        middle = float(data.mean() if statistic == "mean" else data.quantile(0.5))
        low, high = metrics.bootstrap_interval(values, statistic=statistic)
        summary[name] = {"statistic": statistic, "value": middle, "low": low, "high": high, "count": len(values)}
    return summary


def _number(value: Any) -> Any:
    """For JSON: tensors become floats, numbers that are not finite None; words and booleans stay."""
    if isinstance(value, Tensor):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
