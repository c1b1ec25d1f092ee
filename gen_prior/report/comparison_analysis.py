"""Statistics of a comparison's methods: means over targets, and paired differences between methods.

The unit of analysis is the target: values of its images are averaged over the seeds first, because the seeds of a
target are not independent evidence about targets.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gen_prior.classifiers.outputs import LOGITS
from gen_prior.optimise.result_rows import faithfulness_row
from gen_prior.optimise.stored_result import UNFINISHED
from gen_prior.report.measures import MEASURES, RELATIVE, Measure
from gen_prior.report.paired import FEWEST, Difference, holm, mean_interval, paired_difference

Values = dict[str, dict[int, float]]
"""Name of a method -> number of a target -> its value."""


@dataclass(frozen=True)
class Mean:
    """The mean over `count` targets of their means over seeds; its 95 % interval, None below `FEWEST` targets."""

    value: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Pair:
    """The difference of `first` minus `second` in a measure; `p` is corrected for the number of all tests."""

    measure: Measure
    first: str
    second: str
    difference: Difference
    p: float | None = None


@dataclass(frozen=True)
class Analysis:
    """The measures that a comparison has, the values of each target, their means, and all pairs of methods."""

    methods: list[str]
    measures: list[Measure]
    values: dict[str, Values]
    means: dict[str, dict[str, Mean]]
    pairs: list[Pair]

    @property
    def tests(self) -> int:
        """Number of tests, for which p values are corrected."""
        return sum(pair.p is not None for pair in self.pairs)


def analyse(record: Mapping[str, Any]) -> Analysis:
    """The analysis of what `comparison.json` holds; the same for the same record."""
    methods = [method["name"] for method in record["methods"]]
    values = {measure.name: _values(record, measure.name) for measure in MEASURES}
    shown = sorted((measure for measure in MEASURES if measure.words), key=lambda measure: not measure.tested)
    measures = [measure for measure in shown if any(values[measure.name].values())]
    if not all(_is_class(target) for target in record["targets"]):
        values["activation"] = _relative(values["activation"])
        measures = [RELATIVE if measure.name == "activation" else measure for measure in measures]
    means = {
        measure.name: {
            method: _mean(own, measure) for method in methods if (own := list(values[measure.name][method].values()))
        }
        for measure in measures
    }
    pairs = [pair for measure in measures if measure.tested for pair in _pairs(measure, values[measure.name])]
    return Analysis(methods, measures, values, means, _corrected(pairs))


def _mean(values: list[float], measure: Measure) -> Mean:
    value, count = sum(values) / len(values), len(values)
    if count < FEWEST:
        return Mean(value, None, None, count)
    low, high = (min(max(end, measure.bounds[0]), measure.bounds[1]) for end in mean_interval(values))
    return Mean(value, low, high, count)


def _values(record: Mapping[str, Any], name: str) -> Values:
    """The value of each target by each method; targets without one are left out."""
    found: Values = {}
    for method in record["methods"]:
        own: dict[int, float] = {}
        for t, target in enumerate(record["targets"]):
            items = [item for item in method["items"] if item["target"] == t and item["status"] != UNFINISHED]
            seeds = _of_target(method, t, name) or [item[name] for item in items if item.get(name) is not None]
            if seeds:
                own[t] = _direction(target, name) * sum(map(float, seeds)) / len(seeds)
        found[method["name"]] = own
    return found


def _of_target(method: Mapping[str, Any], t: int, name: str) -> list[float]:
    """The value that a target's images share, if the measure is such a one."""
    panel = (method.get("faithfulness") or {t: None})[t]
    shared = {"target_diversity": method["diversity"][t]} | faithfulness_row(panel)
    value = shared.get(f"target_{name}")
    return [value] if value is not None else []


def _is_class(target: Mapping[str, Any]) -> bool:
    terms = target.get("terms", [])
    return len(terms) < 2 and (terms[0] if terms else target).get("layer") == LOGITS


def _direction(target: Mapping[str, Any], name: str) -> int:
    """-1 for the activation of a unit that is to respond least, so that more is better for all targets."""
    terms = target.get("terms", [])
    return -1 if name == "activation" and len(terms) == 1 and terms[0]["weight"] < 0 else 1


def _relative(values: Values) -> Values:
    """Each target's values divided by the largest magnitude that any method has there; in [-1, 1]."""
    targets = {t for own in values.values() for t in own}
    largest = {t: max(abs(own[t]) for own in values.values() if t in own) for t in targets}
    return {method: {t: value / largest[t] for t, value in own.items() if largest[t]} for method, own in values.items()}


def _pairs(measure: Measure, values: Values) -> list[Pair]:
    """The differences of every two methods over the targets for which both have a value, where they are several."""
    pairs = []
    for first, second in itertools.combinations(values, 2):
        both = [t for t in values[first] if t in values[second]]
        difference = paired_difference([values[first][t] - values[second][t] for t in both])
        if difference is not None and difference.count > 1:
            pairs.append(Pair(measure, first, second, difference))
    return pairs


def _corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with their p values corrected for the number of all of them."""
    tested = [pair.difference.p for pair in pairs if pair.difference.p is not None]
    corrected = iter(holm(tested))
    return [replace(pair, p=next(corrected)) if pair.difference.p is not None else pair for pair in pairs]
