"""Inputs that all methods of a comparison share: classifier, judge, targets, seeds; and the record of each method."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen_prior.applications.comparison import FORMAT
from gen_prior.applications.faithfulness import Panel
from gen_prior.applications.measurement import check_judge, fill_ratios, measure, summarise
from gen_prior.applications.methods import Method
from gen_prior.classifiers import load_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.optimise.resolve import ResolvedObjective
from gen_prior.optimise.result import Result
from gen_prior.report.spectrum import natural_spectrum
from gen_prior.util.devices import environment
from gen_prior.util.progress import ProgressCallback


@dataclass(frozen=True)
class ComparisonSetup:
    """Everything that the methods of a comparison share."""

    classifier: Classifier
    judge: Classifier | None
    objectives: list[ResolvedObjective]
    judged: list[tuple[int | None, str | None]]
    """Per target: the judge's index of the class, or None and the reason."""
    seeds: list[int]
    evaluations: int
    panel: Panel | None = None

    @property
    def evaluations_per_method(self) -> int:
        return len(self.objectives) * len(self.seeds) * self.evaluations

    def record(self, methods: list[str]) -> dict[str, Any]:
        """The record of a comparison of these methods, as yet without their measures."""
        size = self.classifier.input_size[0]
        natural = natural_spectrum(size)
        return {
            "format": FORMAT,
            "finished": False,
            "classifier": self.classifier.describe(),
            "judge": self.judge.describe() if self.judge is not None else None,
            "targets": [
                one.to_dict() | {"judged": reason is None, "why_not_judged": reason}
                for one, (_, reason) in zip(self.objectives, self.judged, strict=True)
            ],
            "seeds": self.seeds,
            "evaluations": self.evaluations,
            "natural": {"high_frequency": float(natural.high_frequency), "slope": float(natural.slope), "size": size},
            "environment": environment(self.classifier.device),
            "method_names": methods,
            "methods": [],
        }

    def measured(self, method: Method, result: Result, began: float) -> dict[str, Any]:
        """The record of one method, with all measures of its images; `began` is when its synthesis began."""
        parts = [
            measure(self.classifier, self.judge, one.target, self.judged[t][0], result, t, method.folder)
            for t, one in enumerate(self.objectives)
        ]
        diversities = [part.diversity for part in parts]
        panels = [
            None if self.panel is None else self.panel.measure(result, t, method.generator, one.target)
            for t, one in enumerate(self.objectives)
        ]
        for part, panel in zip(parts, panels, strict=True):
            fill_ratios(part.items, panel)
        items = [item for part in parts for item in part.items]
        return {
            "name": method.name,
            "folder": method.folder,
            "evaluations": self.evaluations_per_method,
            "seconds": round(result.seconds, 3),
            "seconds_measuring": round(time.perf_counter() - began - result.seconds, 3),
            "settings": result.settings,
            "summary": summarise(items, diversities, panels),
            "faithfulness": panels,
            "diversity": diversities,
            "history": [part.history for part in parts],
            "items": items,
        }


def load_judge(judge: str | Classifier | None, classifier: Classifier) -> Classifier | None:
    """The judge, on the classifier's device; None for None. Raises `OptionError` if it is the classifier itself."""
    if judge is None:
        return None
    check_judge(judge, classifier)
    return load_classifier(judge, device=classifier.device) if isinstance(judge, str) else judge.to(classifier.device)


def photograph_panel(
    classifier: Classifier,
    judge: Classifier | None,
    objectives: Sequence[ResolvedObjective],
    images: str | Path | None,
    progress: ProgressCallback | None,
) -> Panel:
    """The panel over a folder of photographs. Raises `OptionError` where the folder or the judge is missing."""
    if images is None or judge is None:
        missing = "a folder of photographs" if images is None else "a judge"
        raise OptionError(f"faithfulness needs {missing}", fix="--images DIR" if images is None else "--judge NAME")
    return Panel(classifier, judge, [one.target for one in objectives], images, progress=progress)
