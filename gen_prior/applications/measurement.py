"""Measure a finished result for a comparison: one dict per image, one summary per method.

The measures of image tensors are in `gen_prior.report.metrics`, `spectrum` and `distances`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import gen_prior.report.metrics as metrics
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.objectives.mixes import AnyTarget
from gen_prior.objectives.natural_statistics import ratio_to
from gen_prior.objectives.targets import Target
from gen_prior.optimise.result import Result
from gen_prior.optimise.result_folder import UNFINISHED, relative_to_photographs
from gen_prior.optimise.result_rows import faithfulness_row
from gen_prior.report.distances import bootstrap_interval, diversity
from gen_prior.report.measures import MEASURES, names_of
from gen_prior.report.spectrum import spectrum

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """Measures of one target: a dict per seed, the diversity of the seeds, the median activation at each step."""

    items: list[dict[str, Any]]
    diversity: float | None
    history: list[float | None]


def check_judge(judge: str | Classifier, classifier: Classifier) -> None:
    """Raise `OptionError` if the judge is the classifier that the images are made for.

    A judge given by name is compared by name, a loaded one by its network and weights: two classifiers of a user's own
    may share a name.
    """
    if isinstance(judge, str):
        same = judge == classifier.name
    else:
        hashes = judge.provenance.sha256
        same = judge.network is classifier.network or (bool(hashes) and hashes == classifier.provenance.sha256)
    if same:
        other = "efficientnet-lite2" if classifier.name == "efficientnet-lite0" else "efficientnet-lite0"
        raise OptionError(
            f"the judge must be another classifier than {classifier.name}, for which the images are made",
            fix=f"pass another judge, such as {other}, or none",
        )


def judged_class(
    target: AnyTarget | None, classifier: Classifier, judge: Classifier | None
) -> tuple[int | None, str | None]:
    """The judge's index of the target's class and None, or None and the reason why it cannot judge."""
    if judge is None:
        return None, "there is no judge"
    if not isinstance(target, Target) or not target.is_class:
        return None, "not a class: a judge knows classes only"
    index = metrics.matching_class(classifier, judge, target.unit)
    name = classifier.class_name(target.unit)
    return index, None if index is not None else f"{judge.name} has no class named {name!r}"


def measure(
    classifier: Classifier,
    judge: Classifier | None,
    target: AnyTarget | None,
    judge_index: int | None,
    result: Result,
    t: int,
    folder: str,
) -> Measured:
    """All measures of target `t` of `result`, whose files are in `folder`; None for those that do not apply.

    `target` is None for a user's own objective; `judge_index` is the judge's index of the class, if it has the class.
    """
    images = result.images_of(t)
    columns: dict[str, list[Any]] = {}
    if isinstance(target, Target) and target.is_class:
        verdict = metrics.verdict(metrics.logits_of(classifier, images), target.unit)
        columns |= {"probability": verdict.probability.tolist(), "rank": _ranks(verdict)}
    seed_diversity: float | None = None
    if judge is not None:
        judge_columns, seed_diversity = _judge_columns(judge, judge_index, images)
        columns |= judge_columns
    if target is not None:
        shown = result.inputs(t, classifier) if result.targets[t].get("field") else images
        kept = metrics.activation_kept(classifier, target, shown)
        columns |= {f"kept_{name}": values.tolist() for name, values in kept.items()}
    power = spectrum(classifier.resize(images.to(classifier.device)))
    columns |= {"high_frequency": power.high_frequency.tolist(), "slope": power.slope.tolist()}
    places = [relative_to_photographs(value, result.targets[t]) for value in result.activations[t]]
    columns |= {name: [place[name] for place in places] for name in places[0]} if all(places) else {}
    history = [_finite_or_none(round(value, 4)) for value in result.history[t].nanmedian(0).values.tolist()]
    return Measured([_item(result, t, s, folder, columns) for s in range(len(result.seeds))], seed_diversity, history)


def _judge_columns(
    judge: Classifier, judge_index: int | None, images: Tensor
) -> tuple[dict[str, list[Any]], float | None]:
    """The judge's measures of each image, and the images' diversity in its features (None if it has none)."""
    seed_diversity: float | None = None
    if metrics.has_features(judge):
        logits, features = metrics.logits_and_features(judge, images)
        seed_diversity = _finite_or_none(diversity(features))
    else:
        logits = metrics.logits_of(judge, images)
    verdict = metrics.verdict(logits, judge_index if judge_index is not None else 0)
    ranks, tops = _ranks(verdict), verdict.top_class.tolist()
    if failed := ranks.count(None):
        log.warning("%s gives logits that are not finite for %d of %d images", judge.name, failed, len(ranks))
    columns: dict[str, list[Any]] = {"judge_class": [judge.class_name(top) if top >= 0 else None for top in tops]}
    if judge_index is not None:
        columns |= {
            "judge_probability": verdict.probability.tolist(),
            "judge_rank": ranks,
            "judge_top1": [None if rank is None else rank == 1 for rank in ranks],
            "judge_top5": [None if rank is None else rank <= 5 for rank in ranks],
        }
    return columns, seed_diversity


def _ranks(verdict: metrics.Verdict) -> list[int | None]:
    """Rank of each image; None for logits that are not finite."""
    return [rank or None for rank in verdict.rank.tolist()]


def _item(result: Result, t: int, s: int, folder: str, columns: dict[str, list[Any]]) -> dict[str, Any]:
    """The record of the image of target `t` and seed `s`."""
    stem = f"{folder}/{result.slugs[t]}-seed{result.seeds[s]}"
    item = {
        "target": t,
        "seed": result.seeds[s],
        "image": f"{stem}.png",
        "data": f"{stem}.safetensors",
        "status": result.status[t][s],
        "activation": _finite_or_none(result.activations[t, s]),
        "start_activation": _finite_or_none(result.start_activations[t, s]),
    }
    names = [name for name in (*names_of("image"), "judge_class", "judge_rank") if name not in item]
    return item | {name: _finite_or_none(columns[name][s]) if name in columns else None for name in names}


def fill_ratios(items: Sequence[dict[str, Any]], panel: dict[str, Any] | None) -> None:
    """Give the images of a target their ratio to the panel's best photograph, where no table of photographs has one."""
    for item in items if panel is not None else ():
        if item["photograph_ratio"] is None:
            item["photograph_ratio"] = ratio_to(panel["best_photograph"], item["activation"])  # type: ignore[index]


def summarise(
    items: Sequence[dict[str, Any]],
    diversities: Sequence[float | None],
    panels: Sequence[dict[str, Any] | None] = (),
) -> dict[str, Any]:
    """Median (mean for yes-or-no measures) of each measure with its 95 % bootstrap interval; None if not measured.

    The intervals of the diversity and of the faithfulness (`panels`), one value per target, are over targets; all
    others are over images.
    """
    finished = [item for item in items if item["status"] != UNFINISHED]
    columns: dict[str, list[float]] = {
        name: [float(item[name]) for item in finished if item[name] is not None] for name in names_of("image")
    }
    columns["diversity"] = [value for value in diversities if value is not None]
    rows = [faithfulness_row(panel) for panel in panels]
    columns |= {
        name: [value for row in rows if (value := row.get(f"target_{name}")) is not None] for name in names_of("panel")
    }
    summary: dict[str, Any] = {}
    for measure in MEASURES:
        name, statistic, values = measure.name, measure.statistic, columns[measure.name]
        if not values:
            summary[name] = None
            continue
        data = torch.tensor(values, dtype=torch.float64)
        value = float(data.mean() if statistic == "mean" else data.quantile(0.5))
        low, high = bootstrap_interval(values, statistic=statistic)
        summary[name] = {"statistic": statistic, "value": value, "low": low, "high": high, "count": len(values)}
    return summary


def _finite_or_none(value: Any) -> Any:
    """`value` for JSON: a tensor as a float, a number that is not finite as None, anything else unchanged."""
    if isinstance(value, Tensor):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
