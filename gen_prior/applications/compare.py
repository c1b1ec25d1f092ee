"""`compare`: the same targets, seeds and number of classifier evaluations for several methods, measured alike."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gen_prior.defaults as defaults
from gen_prior.applications.comparison import Comparison, load_comparison
from gen_prior.applications.comparison_setup import ComparisonSetup, load_judge, photograph_panel
from gen_prior.applications.measurement import judged_class
from gen_prior.applications.methods import Method, MethodLike, load_methods
from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.optimise.resolve import TargetLike, item_names, resolve_objectives, seed_list, unique_slugs
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.report.animation import check_film
from gen_prior.report.comparison_film import FPS, KEPT_AS, recorded_every, write_films
from gen_prior.report.comparison_sheet import RECORD, draw_sheet
from gen_prior.report.film import Recorder
from gen_prior.report.numbers import write_comparison_numbers
from gen_prior.util.files import as_output_errors, write_json
from gen_prior.util.folders import OTHER_RUN_FIX, check_kind, remove_run, run_writer
from gen_prior.util.progress import Progress, ProgressCallback, ProgressOption, progress_callback
from gen_prior.util.words import changed_settings, others


def compare(
    classifier: Classifier | str,
    targets: TargetLike | Sequence[TargetLike],
    methods: Sequence[MethodLike] = defaults.METHODS,
    *,
    judge: str | Classifier | None = defaults.JUDGE,
    seeds: int | Iterable[int] = defaults.SEEDS,
    evaluations: int = defaults.EVALUATIONS,
    scale: str | int | None = None,
    image_size: int | tuple[int, int] | None = None,
    precision: str = "auto",
    batch: int | None = None,
    faithfulness: bool = False,
    images: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    film: str | None = None,
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
        image_size: side of the images in pixels, of every method that is given by its name; their own where None.
        precision, batch: as `synthesize` takes them.
        faithfulness: measure hidden units and classes beside photographs and controls as well
            (`gen_prior.applications.faithfulness.Panel`), which takes several times as long again.
        images: a folder of photographs, which `faithfulness` needs.
        out: a folder; each batch of images is written before the next begins. A folder that holds a part of the same
            comparison is continued, with another run it is refused.
        overwrite: replace the run in `out` instead, whichever it is.
        film: "gif", "webp" or "mp4": also write a film of each target, with the methods side by side, and one of each
            image, which is always webp. Needs `out`. Methods that were finished without films are made again.
        progress: as `synthesize` takes it, in classifier evaluations, labelled with the method's name.

    Raises:
        GenPriorError: unknown names, a judge that is the classifier itself, a folder that cannot be written to.
    """
    classifier = as_classifier(classifier)
    report = progress_callback(progress, lambda p: (p.label, p.done, p.total, p.activations))
    numbers = seed_list(seeds)
    if evaluations < 1:
        raise OptionError(f"evaluations must be at least 1, got {evaluations}")
    arbiter = load_judge(judge, classifier)
    objectives = resolve_objectives(targets, classifier, Recipe())
    listed = [one.target if one.target is not None else one.objective for one in objectives]
    judged = [judged_class(one.target, classifier, arbiter) for one in objectives]
    rows = load_methods(methods, classifier.device, **({} if image_size is None else {"image_size": image_size}))
    panel = photograph_panel(classifier, arbiter, objectives, images, report) if faithfulness else None
    setup = ComparisonSetup(classifier, arbiter, objectives, judged, numbers, evaluations, panel)
    options: dict[str, Any] = {"precision": precision, "batch": batch} | ({} if scale is None else {"scale": scale})
    if film is not None:
        check_film(f"film.{film}", FPS)
    if out is None:
        if film is not None:
            raise OptionError("a film needs a folder, which is not given", fix="pass out=")
        return _run(setup, listed, rows, options, report)
    with run_writer(out) as folder:
        return _run(setup, listed, rows, options, report, folder, overwrite, film)


def _run(
    setup: ComparisonSetup,
    targets: Sequence[TargetLike],
    rows: Sequence[Method],
    options: dict[str, Any],
    report: ProgressCallback | None,
    folder: Path | None = None,
    overwrite: bool = False,
    film: str | None = None,
) -> Comparison:
    """Synthesise by every method with `options`, measure, and write to `folder`, with a film of kind `film`."""
    comparison = Comparison(setup.record([method.name for method in rows]), folder=folder)
    known: dict[str, dict[str, Any]] = {}
    if folder is not None:
        check_kind(folder, RECORD, overwrite=overwrite)
        known = _earlier(folder, comparison.record) if not overwrite else {}
        if not known:  # first, so that no mixture is taken for the comparison that was there
            write_json(
                folder / RECORD, comparison.record, before_rename=(lambda: remove_run(folder)) if overwrite else None
            )
            write_comparison_numbers(comparison.record, folder)
    share, total = setup.evaluations_per_method, len(rows) * setup.evaluations_per_method
    for index, method in enumerate(rows):
        began, before = time.perf_counter(), known.get(method.name, {})
        recorder = _recorder(setup, method, folder, before) if film is not None and folder is not None else None
        within = method.within(setup.evaluations)
        with recorder or nullcontext():
            result = synthesize(
                setup.classifier, targets, method.generator, seeds=setup.seeds,
                recipe=within.recipe, unit_recipe=within.unit_recipe,
                out=folder / method.folder if folder is not None else None, overwrite=overwrite, record=recorder,
                progress=_part(report, method.name, index * share, total), **options,
            )  # fmt: skip
        if report is not None:
            report(Progress((index + 1) * share, total, f"{method.name}: measuring"))
        comparison.results[method.name] = result
        is_known = recorder is None and before.get("settings") == json.loads(json.dumps(result.settings))
        comparison.record["methods"].append(before if is_known else setup.measured(method, result, began))
        comparison.record["finished"] = index + 1 == len(rows)
        if folder is not None and not (is_known and index + 1 < len(known)):
            write_json(folder / RECORD, comparison.record)
            draw_sheet(folder)
            write_comparison_numbers(comparison.record, folder)
    if film is not None and folder is not None:
        with as_output_errors(folder):
            write_films(comparison.record, folder, film)
    return comparison


def _recorder(setup: ComparisonSetup, method: Method, folder: Path, before: dict[str, Any]) -> Recorder | None:
    """The recorder of a method's films; None if it is finished and they are there."""
    own = folder / method.folder
    names = item_names(unique_slugs(setup.objectives), setup.seeds)
    if before and all((own / f"{name}.{KEPT_AS}").is_file() for name in names):
        return None
    return Recorder(recorded_every(setup.evaluations), out=own, names=names, kind=KEPT_AS, fps=FPS, keep=False)


def _earlier(folder: Path, record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The methods of the comparison in `folder` that are finished, by name; empty if there is none.

    Raises `OptionError` unless it is the comparison of `record`.
    """
    if not (folder / RECORD).exists():
        return {}
    before, now = load_comparison(folder).record, json.loads(json.dumps(record))
    names = [method["name"] for method in before["methods"]]
    before["method_names"] = before.get("method_names", names)  # 0.1 had no list of them
    same = {name: value for name, value in now.items() if name not in ("methods", "finished")}
    if changed := changed_settings(before, same):
        raise OptionError(
            f"{folder} holds a comparison with {others(changed)}",
            fix=OTHER_RUN_FIX,
        )
    return {method["name"]: method for method in before["methods"]}


def _part(report: ProgressCallback | None, name: str, before: int, total: int) -> ProgressCallback | None:
    return None if report is None else lambda step: report(step.within(before, total, name))


__all__ = ["Comparison", "compare", "load_comparison"]
