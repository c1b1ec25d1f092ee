"""The measures of a comparison, in one table that its record, terminal, gallery and report read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gen_prior.util.words import best_in_words

SHARE = (0.0, 1.0)
JUDGED = (
    "Named by the judge: share of classes that are the first of another classifier, which no method optimises; top "
    "five and probability likewise."
)
KEPT = (
    "Activation kept: after halving and enlarging, after JPEG of quality 50, after a shift by 8 pixels, divided by the "
    "activation before."
)
SPECTRUM = (
    "High-frequency power: share above half the Nyquist frequency. Slope: of the power spectrum over frequency, both "
    "logarithmic. Neither is tested, because more is not better."
)


@dataclass(frozen=True)
class Measure:
    """A measure of a comparison: its name in the record, and how it is summarised and shown.

    Attributes:
        label: in the terminal and the gallery, which do not show it where empty.
        words: in the report, which does not show it where empty.
        percent: whether it is shown in percent.
        decimals: in the report.
        of: what has one value: an image, the seeds of a target together, or a target by the faithfulness panel.
        statistic: what summarises its values.
        tested: whether methods are tested for a difference in it; spectra are shown beside those of photographs.
        bounds: what no mean can lie beyond, and no interval of it either.
        note: explains it below the report.
    """

    name: str
    label: str = ""
    words: str = ""
    percent: bool = False
    decimals: int = 2
    of: Literal["image", "seeds", "panel"] = "image"
    statistic: Literal["median", "mean"] = "median"
    tested: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)
    note: str = ""

    @property
    def factor(self) -> int:
        """Factor from a value to the number that is shown."""
        return 100 if self.percent else 1

    def shown(self, value: float, *, signed: bool = False) -> str:
        """`value` as the report has it, with a sign also where positive if `signed`."""
        rounded = round(self.factor * value, self.decimals) + 0.0  # a zero without a minus
        return f"{rounded:{'+' if signed else ''}.{self.decimals}f}"


MEASURES = (
    Measure("activation", "activation", "activation (logit)", decimals=1),
    Measure("photograph_ratio", "of the best photograph's", "activation / best photograph's",
            note="Best photograph's: the highest activation that any of many photographs reaches at the unit."),
    Measure("photograph_quantile", "photographs below it", percent=True),
    Measure("probability", "probability", "probability by the classifier (%)", True, 1, bounds=SHARE),
    Measure("rank"),
    Measure("judge_top1", "judge top-1 right", "named by the judge (%)", True, 0, statistic="mean", bounds=SHARE,
            note=JUDGED),
    Measure("judge_top5", "judge top-5 right", "in the judge's top five (%)", True, 0, statistic="mean", bounds=SHARE,
            note=JUDGED),
    Measure("judge_probability", "judge probability", "probability by the judge (%)", True, 1, bounds=SHARE,
            note=JUDGED),
    Measure("kept_blur", "kept after blur", "activation kept after blur (%)", True, 0, note=KEPT),
    Measure("kept_jpeg", "kept after JPEG", "activation kept after JPEG (%)", True, 0, note=KEPT),
    Measure("kept_shift", "kept after shift", "activation kept after shift (%)", True, 0, note=KEPT),
    Measure("high_frequency", "high-frequency power", "high-frequency power (%)", True, 1, tested=False, note=SPECTRUM),
    Measure("slope", "spectrum slope", "slope of the spectrum", tested=False, note=SPECTRUM),
    Measure("diversity", "diversity", "diversity of the seeds", of="seeds",
            note="Diversity: mean cosine distance between the judge's features of a target's seeds."),
    Measure("path_similarity", "path similarity", "path similarity", of="panel", statistic="mean",
            note="Path similarity: 1 as photographs of the unit, 0 as arbitrary ones."),
    Measure("two_alternatives", "two-alternative score", "two-alternative score (%)", True, 0, of="panel",
            statistic="mean", bounds=SHARE, note="Two-alternative score: chance is 50 %."),
    Measure("two_alternatives_photographs", "the same, shown photographs", percent=True, of="panel", statistic="mean"),
)  # fmt: skip
RELATIVE = Measure("activation", words="activation (% of the largest)", percent=True, decimals=0)
"""In place of `activation` where not all targets are classes, because units differ in scale: the activation divided by
the largest magnitude that any method reaches for that target."""


def names_of(kind: str) -> list[str]:
    """Names of the measures of which an "image", the "seeds" of a target, or the "panel" has a value."""
    return [measure.name for measure in MEASURES if measure.of == kind]


def best_photograph(record: Mapping[str, Any]) -> str:
    """The photographs that the ratios of a comparison are to, in words; "" where no target has one.

    A table comes first, and the folder of the faithfulness panel counts for units that it does not hold.
    """
    found: dict[str, None] = {}
    for method in record["methods"]:
        targets = record.get("targets", [])
        panels = method.get("faithfulness") or [None] * len(targets)
        for target, panel in zip(targets, panels, strict=True):
            if target.get("photographs") or panel:
                found[best_in_words(target.get("photographs"), panel)] = None
    return ", else ".join(sorted(found, reverse=True))
