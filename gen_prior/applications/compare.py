"""`compare`: the same targets, seeds and number of classifier evaluations for several methods, measured alike."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gen_prior.defaults as defaults
from gen_prior.applications.comparison import FORMAT, Comparison, load_comparison
from gen_prior.applications.faithfulness import Panel
from gen_prior.applications.measurement import check_judge, judged_class, measure, summarise
from gen_prior.applications.methods import Method, MethodLike, load_methods
from gen_prior.classifiers import as_classifier, load_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.optimise.resolve import ResolvedObjective, TargetLike, resolve_objectives, seed_list
from gen_prior.optimise.result import Result
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.report.comparison_report import remove_report
from gen_prior.report.comparison_sheet import RECORD, draw_sheet
from gen_prior.report.numbers import write_comparison_numbers
from gen_prior.report.spectrum import natural_spectrum
from gen_prior.util.devices import environment
from gen_prior.util.files import write_json
from gen_prior.util.folders import check_kind, only_writer
from gen_prior.util.progress import Progress, ProgressCallback, ProgressOption, progress_callback


def compare(
    classifier: Classifier | str,
    targets: TargetLike | Sequence[TargetLike],
    methods: Sequence[MethodLike] = defaults.METHODS,
    *,
    judge: str | Classifier | None = defaults.JUDGE,
    seeds: int | Iterable[int] = defaults.SEEDS,
    evaluations: int = defaults.EVALUATIONS,
    scale: str | int | None = None,
    precision: str = "auto",
    batch: int | None = None,
    faithfulness: bool = False,
    images: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: ProgressOption = None,
) -> Comparison:
    """Synthesise every target from every seed by every method, and measure all images in the same way.

    Args:
        classifier: the network whose units are maximised; its device is used for everything.
        targets: as `synthesize` takes them.
        methods: names of generators, `Generator`s, presets on the generator they are meant for (`preset:NAME`) or
            on another one (`GENERATOR+PRESET`). Each follows its own recipe, within `evaluations` (`Recipe.within`).
        judge: a classifier that no method optimises, by name or loaded; None for no judge.
        seeds: the number of seeds, or the seeds themselves.
        evaluations: classifier evaluations for each image: optimisation steps and those that choose a start.
        scale: what images of hidden units fill, see `Recipe`; each method's own setting where None.
        precision, batch: as `synthesize` takes them.
        faithfulness: measure hidden units and classes beside photographs and controls as well
            (`gen_prior.applications.faithfulness.Panel`), which costs three times as much again.
        images: a folder of photographs, which `faithfulness` needs.
        out: a folder; each batch of images is written before the next begins. A folder that holds a part of the same
            comparison is continued, with another run it is refused.
        overwrite: replace the run in `out` instead, whichever it is.
        progress: as `synthesize` takes it, in classifier evaluations, labelled with the method's name.

    Raises:
        GenPriorError: unknown names, a judge that is the classifier itself, a folder that cannot be written to.
    """
    classifier = as_classifier(classifier)
    report = progress_callback(progress, lambda p: (p.label, p.done, p.total, p.activations))
    numbers = seed_list(seeds)
    if evaluations < 1:
        raise OptionError(f"evaluations must be at least 1, got {evaluations}")
    arbiter = _load_judge(judge, classifier)
    objectives = resolve_objectives(targets, classifier, Recipe())
    listed = [one.target if one.target is not None else one.objective for one in objectives]
    judged = [judged_class(one.target, classifier, arbiter) for one in objectives]
    rows = load_methods(methods, classifier.device)
    panel = _panel(classifier, arbiter, objectives, images, report) if faithfulness else None
    setup = _Setup(classifier, arbiter, objectives, judged, numbers, evaluations, panel)
    if out is None:
        return _run(setup, listed, rows, None, False, precision, batch, scale, report)
    with only_writer(out) as folder:
        return _run(setup, listed, rows, folder, overwrite, precision, batch, scale, report)


def _run(
    setup: _Setup,
    targets: Sequence[TargetLike],
    rows: Sequence[Method],
    folder: Path | None,
    overwrite: bool,
    precision: str,
    batch: int | None,
    scale: int | str | None,
    report: ProgressCallback | None,
) -> Comparison:
    """Synthesise by every method, measure, and write to `folder`."""
    comparison = Comparison(setup.record([method.name for method in rows]), folder=folder)
    known: dict[str, dict[str, Any]] = {}
    if folder is not None:
        check_kind(folder, RECORD, overwrite=overwrite)
        known = _earlier(folder, comparison.record) if not overwrite else {}
        if overwrite and (folder / RECORD).exists():
            remove_report(folder)
        if not known:  # first, so that no mixture is taken for the comparison that was there
            write_json(folder / RECORD, comparison.record)
            write_comparison_numbers(comparison.record, folder)
    given: dict[str, Any] = {} if scale is None else {"scale": scale}
    share, total = setup.evaluations_per_method, len(rows) * setup.evaluations_per_method
    for index, method in enumerate(rows):
        began = time.perf_counter()
        result = synthesize(
            setup.classifier, targets, method.generator, seeds=setup.seeds,
            recipe=method.recipe.within(setup.evaluations), unit_recipe=method.unit_recipe.within(setup.evaluations),
            precision=precision, batch=batch, out=folder / method.folder if folder is not None else None,
            overwrite=overwrite,
            progress=_part(report, method.name, index * share, total), **given,
        )  # fmt: skip
        if report is not None:
            report(Progress((index + 1) * share, total, f"{method.name}: measuring"))
        comparison.results[method.name] = result
        before = known.get(method.name, {})
        is_known = before.get("settings") == json.loads(json.dumps(result.settings))
        comparison.record["methods"].append(before if is_known else setup.measured(method, result, began))
        comparison.record["finished"] = index + 1 == len(rows)
        if folder is not None and not (is_known and index + 1 < len(known)):
            write_json(folder / RECORD, comparison.record)
            draw_sheet(folder)
            write_comparison_numbers(comparison.record, folder)
    return comparison


def _earlier(folder: Path, record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The methods of the comparison in `folder` that are finished, by name; empty if there is none.

    Raises `OptionError` unless it is the comparison of `record`.
    """
    if not (folder / RECORD).exists():
        return {}
    before, now = load_comparison(folder).record, json.loads(json.dumps(record))
    names = [method["name"] for method in before["methods"]]
    before["method_names"] = before.get("method_names", names)  # 0.1 had no list of them
    same = [name for name in now if name not in ("methods", "finished")]
    if changed := [name for name in same if before.get(name) != now[name]]:
        raise OptionError(
            f"{folder} holds a comparison with another {changed[0].replace('_', ' ')}",
            fix="pass another --out, or replace it with --overwrite",
        )
    return {method["name"]: method for method in before["methods"]}


@dataclass(frozen=True)
class _Setup:
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
        items = [item for part in parts for item in part.items]
        diversities = [part.diversity for part in parts]
        panels = [
            None if self.panel is None else self.panel.measure(result, t, method.generator, one.target)
            for t, one in enumerate(self.objectives)
        ]
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


def _load_judge(judge: str | Classifier | None, classifier: Classifier) -> Classifier | None:
    if judge is None:
        return None
    check_judge(judge, classifier)
    return load_classifier(judge, device=classifier.device) if isinstance(judge, str) else judge.to(classifier.device)


def _panel(
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


def _part(report: ProgressCallback | None, name: str, before: int, total: int) -> ProgressCallback | None:
    return None if report is None else lambda step: report(step.within(before, total, name))


__all__ = ["Comparison", "compare", "load_comparison"]
