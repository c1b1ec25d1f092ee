"""`compare`: the same targets, seeds and number of classifier evaluations through several methods, measured alike."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gen_prior.defaults as defaults
import gen_prior.report.metrics as metrics
from gen_prior.applications.measurement import check_judge, judged_class, measure, summarise
from gen_prior.classifiers import load_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, OutputError, UnknownNameError
from gen_prior.generators import NAMED, PREFIXED, load_generator
from gen_prior.generators.base import Generator
from gen_prior.optimise.presets import PRESETS, preset, preset_generator, preset_options, remark_on
from gen_prior.optimise.resolve import TargetLike, check_domain, resolve_objective, seed_list
from gen_prior.optimise.result import Result, environment
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.report.comparison_sheet import RECORD, draw_sheet
from gen_prior.util.files import write_json

FORMAT = "gen-prior/comparison-1"
PRESET_PREFIX = "preset:"
MethodLike = str | Generator
Work = Callable[[str, int, int, Tensor | None], None]
"""(what is being done, evaluations done, evaluations in all, activations on the device or None)."""


@dataclass(frozen=True)
class Method:
    """One row of a comparison: what it is called, the generator, and the recipe it is optimised by."""

    name: str
    generator: Generator
    recipe: Recipe

    @property
    def folder(self) -> str:
        """The sub-folder of its results."""
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.name).strip("-.") or "method"


@dataclass
class Comparison:
    """Of `compare`.

    Attributes:
        record: all numbers and settings, as `comparison.json` holds them.
        results: method name -> its `Result`; empty where the comparison was read back from a folder.
    """

    record: dict[str, Any]
    results: dict[str, Result] = field(default_factory=dict)

    def save(self, out: str | Path) -> Path:
        """Write each method's results into a sub-folder, `comparison.json` and the sheet; returns the folder."""
        folder = Path(out)
        for method in self.record["methods"]:
            if method["name"] not in self.results:
                raise OptionError(
                    "this comparison was loaded, and its images are in its own folder", fix="copy that folder"
                )
            self.results[method["name"]].save(folder / method["folder"])
        write_json(folder / RECORD, self.record)
        draw_sheet(folder)
        return folder

    def summary(self) -> dict[str, dict[str, Any]]:
        """Method name -> {measure: {statistic, value, low, high, images}}."""
        return {method["name"]: method["summary"] for method in self.record["methods"]}


def compare(
    classifier: Classifier,
    targets: TargetLike | Sequence[TargetLike],
    methods: Sequence[MethodLike] = defaults.METHODS,
    *,
    judge: str | Classifier | None = defaults.JUDGE,
    seeds: int | Iterable[int] = defaults.SEEDS,
    evaluations: int = defaults.EVALUATIONS,
    precision: str = "auto",
    batch: int | None = None,
    out: str | Path | None = None,
    progress: Work | None = None,
) -> Comparison:
    """Synthesise every target from every seed by every method, and measure all images in the same way.

    Args:
        classifier: whose units are maximised; its device is used for everything.
        targets: as `synthesize` takes them.
        methods: names of generators, `Generator`s, presets on the generator they are meant for (`preset:NAME`) or
            on another (`GENERATOR+PRESET`). Each follows its own recipe, within `evaluations` (`Recipe.within`).
        judge: a classifier that no method has seen, by name or loaded; None for no judge.
        seeds: a number of seeds, or the seeds themselves.
        evaluations: classifier evaluations for each image: steps, and starts that are tried first.
        precision, batch: as `synthesize` takes them.
        out: a folder; each method's images are on disk before the next method begins.
        progress: called as (what is being done, evaluations done, evaluations in all, activations or None).

    Raises:
        GenPriorError: unknown names, a judge that is the classifier itself, a folder that cannot be written to.
    """
    numbers = seed_list(seeds)
    if evaluations < 1:
        raise OptionError(f"evaluations must be at least 1, got {evaluations}")
    arbiter = _judge(judge, classifier)
    listed = [targets] if isinstance(targets, TargetLike) else list(targets)
    goals = [resolve_objective(target, classifier, Recipe()) for target in listed]
    if not goals:
        raise OptionError("no targets given", fix="name a class (goldfish) or a unit (LAYER:UNIT)")
    rows = _methods(methods, classifier.device)
    judged = [judged_class(goal.target, classifier, arbiter) for goal in goals]
    natural = metrics.natural_spectrum(classifier.input_size[0])
    record: dict[str, Any] = {
        "format": FORMAT,
        "finished": False,
        "classifier": classifier.describe(),
        "judge": arbiter.describe() if arbiter is not None else None,
        "targets": [
            goal.to_dict() | {"judged": why is None, "why_not_judged": why}
            for goal, (_, why) in zip(goals, judged, strict=True)
        ],
        "seeds": numbers,
        "evaluations": evaluations,
        "natural": {
            "high_frequency": float(natural.high_frequency),
            "slope": float(natural.slope),
            "size": classifier.input_size[0],
        },
        "environment": environment(classifier.device),
        "methods": [],
    }
    comparison = Comparison(record)
    folder = Path(out) if out is not None else None
    share = len(goals) * len(numbers) * evaluations
    for index, method in enumerate(rows):
        began = time.perf_counter()
        result = synthesize(
            classifier,
            listed,
            method.generator,
            seeds=numbers,
            recipe=method.recipe.within(evaluations),
            precision=precision,
            batch=batch,
            out=folder / method.folder if folder is not None else None,
            progress=_within(progress, method.name, index * share, len(rows) * share),
        )
        if progress is not None:
            progress(f"{method.name}: measuring", (index + 1) * share, len(rows) * share, None)
        comparison.results[method.name] = result
        measured = [
            measure(classifier, arbiter, goal.target, judged[t][0], result, t, method.folder)
            for t, goal in enumerate(goals)
        ]
        items = [item for part in measured for item in part.items]
        variety = [part.diversity for part in measured]
        record["methods"].append(
            {
                "name": method.name,
                "folder": method.folder,
                "evaluations": share,
                "seconds": round(result.seconds, 3),
                "seconds_measuring": round(time.perf_counter() - began - result.seconds, 3),
                "settings": result.settings,
                "summary": summarise(items, variety),
                "diversity": variety,
                "history": [part.history for part in measured],
                "items": items,
            }
        )
        record["finished"] = index + 1 == len(rows)
        if folder is not None:
            write_json(folder / RECORD, record)
            draw_sheet(folder)
    return comparison


def preset_remarks(methods: Sequence[str]) -> list[str]:
    """What to tell of presets that are followed with another generator than they were published for, once each."""
    parts = [method.rpartition("+") for method in methods]
    remarks = [remark_on(chosen, name) for name, plus, chosen in parts if plus and chosen in PRESETS]
    return list(dict.fromkeys(filter(None, remarks)))


def load_comparison(folder: str | Path) -> Comparison:
    """The comparison saved in `folder` (or its JSON file), numbers only.

    Raises `OutputError` where it is missing or damaged.
    """
    path = Path(folder)
    path = path if path.is_file() else path / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("format") != FORMAT:
            raise OutputError(f"{path} is not a comparison of format {FORMAT}")
    except FileNotFoundError as error:
        raise OutputError(f"no comparison in {folder}: {RECORD} is missing") from error
    except (OSError, ValueError, AttributeError) as error:
        raise OutputError(f"the comparison in {folder} is damaged: {str(error).splitlines()[0]}") from error
    return Comparison(record)


def _judge(judge: str | Classifier | None, classifier: Classifier) -> Classifier | None:
    if judge is None:
        return None
    check_judge(judge, classifier)
    return load_classifier(judge, device=classifier.device) if isinstance(judge, str) else judge.to(classifier.device)


def _methods(methods: Sequence[MethodLike], device: torch.device) -> list[Method]:
    if isinstance(methods, str):
        methods = [methods]
    if not methods:
        raise OptionError("no methods given", fix=f"for example {', '.join(defaults.METHODS)}")
    rows: list[Method] = []
    for method in methods:
        name, generator, recipe = _method(method, device)
        check_domain(recipe, generator)
        taken = [row.folder.lower() for row in rows]
        row, count = Method(name, generator, recipe), 2
        while row.folder.lower() in taken:
            row, count = Method(f"{name}-{count}", generator, recipe), count + 1
        rows.append(row)
    return rows


def _method(method: MethodLike, device: torch.device) -> tuple[str, Generator, Recipe]:
    if isinstance(method, Generator):
        return method.name, method.to(device), method.recipe
    chosen = method.removeprefix(PRESET_PREFIX)
    if method.startswith(PRESET_PREFIX) or (chosen in PRESETS and chosen not in NAMED):
        own = preset_generator(chosen)
        return chosen, load_generator(own, device=device, **preset_options(chosen)), preset(chosen)
    name, plus, chosen = method.rpartition("+")
    if plus and chosen in PRESETS:
        return method, load_generator(name, device=device, **preset_options(chosen, name)), preset(chosen)
    if method not in NAMED and method.partition(":")[0] not in PREFIXED:
        raise UnknownNameError("method", method, [*NAMED, *PREFIXED, *PRESETS], fix="list generators: gen-prior models")
    generator = load_generator(method, device=device)
    return method, generator, generator.recipe


def _within(
    progress: Work | None, name: str, before: int, total: int
) -> Callable[[int, int, int, int, Tensor], None] | None:
    if progress is None:
        return None
    return lambda item, items, step, steps, activations: progress(
        name, before + item * steps + step * len(activations), total, activations
    )


__all__ = ["FORMAT", "Comparison", "compare", "load_comparison", "preset_remarks"]
