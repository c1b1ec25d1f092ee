"""`synthesize`: targets x seeds through one generator, in batches that fit, finished items on disk at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import GenPriorError, OptionError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.objectives import Objective
from gen_prior.optimise.batch import BatchResult
from gen_prior.optimise.batch_run import BatchRun
from gen_prior.optimise.edits import Edit
from gen_prior.optimise.engine import Engine
from gen_prior.optimise.items import Items
from gen_prior.optimise.memory import fitting_batch, run_in_batches
from gen_prior.optimise.presets import as_recipe
from gen_prior.optimise.regularisers import Regulariser
from gen_prior.optimise.resolve import (
    TargetLike,
    check_domain,
    resolve_objectives,
    seed_list,
    warn_of_latents,
)
from gen_prior.optimise.result import Result
from gen_prior.optimise.result_folder import ResultFolder
from gen_prior.optimise.result_rows import has_numbers
from gen_prior.optimise.transforms import Transform
from gen_prior.recipe import Recipe
from gen_prior.util.devices import environment
from gen_prior.util.folders import run_writer
from gen_prior.util.progress import Progress, ProgressCallback, ProgressOption, progress_callback


def synthesize(
    classifier: Classifier | str,
    targets: TargetLike | Sequence[TargetLike],
    generator: Generator | str,
    *,
    seeds: int | Iterable[int] = 1,
    recipe: Recipe | str | None = None,
    unit_recipe: Recipe | None = None,
    start: Tensor | None = None,
    evaluations: int | None = None,
    transforms: Sequence[Transform | Callable[[Tensor], Tensor]] = (),
    regularisers: Sequence[Regulariser] = (),
    edits: Sequence[Edit] = (),
    batch: int | Sequence[int] | None = None,
    precision: str = "auto",
    compile: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: ProgressOption = None,
    record: Callable[[int, int, Tensor], None] | None = None,
    **options: Any,
) -> Result:
    """Synthesise the input that each target responds to most, once per seed (Nguyen et al. 2016, arXiv 1605.09304).

    An item is one (target, seed) pair.

    Args:
        classifier: the network whose unit is maximised, or its name; its device is used for everything.
        targets: class names or numbers, `LAYER:UNIT[@POSITION]` and other expressions (see `parse_targets`), targets
            that were parsed, or `Objective`s.
        generator: the prior, or an image parameterisation (pixel, fourier, maco); or its name.
        seeds: `seeds=4` means seeds 0 to 3; or the seeds themselves. A result depends on its own seed only.
        recipe: optimisation settings, or the name of a preset; the generator's own, one for classes and one for
            hidden units, where None. `options` replace some of the settings: `steps=64`, `rate=0.05`,
            `score="log_probability"`.
        unit_recipe: settings for hidden units where they differ from `recipe`.
        start: codes to start from instead of the seeds' own: `[*code_shape]` for all, or `[T, S, *code_shape]`.
        evaluations: classifier evaluations for each image, those that choose a start included; the steps follow from
            it (`Recipe.within`). The recipe's steps where None.
        transforms, regularisers, edits: custom ones, applied after the recipe's.
        batch: items at a time, or the sizes of successive batches (the last one repeats); chosen from the free
            memory where None. Halved whenever memory runs out.
        precision: "fp32", "bf16" or "auto" (bf16 where the device computes in it).
        out: a folder, as `gen-prior synth` leaves it; each item is written to it as soon as it is finished, and memory
            does not grow with the number of items. After Ctrl-C there are sheets and numbers of these. A folder that
            holds a part of the same run is continued, with another run it is refused.
        overwrite: replace the run in `out` instead, whichever it is.
        progress: True for a bar (a widget in notebooks), or a function that is called with a `Progress` after every
            step; `done` and `total` count steps x images, including the restarts' trial steps.
        record: called as (first item, step, images on the device) before every update, and with the final images
            as step `steps + 1`. A run in `out` is then made anew, since what it did before cannot be recorded.

    Returns:
        A `Result`: images `[T, S, 3, H, W]` in [0, 1], activations `[T, S]`, history `[T, S, steps]`, codes. An item
        that ended below its start is returned as it started, unless own transforms, regularisers or edits are given.

    Raises:
        GenPriorError: unknown targets, options or seeds; a recipe for another kind of generator; too little memory; a
            folder that holds another run, that another process writes to, or that cannot be written to.
    """
    classifier, generator = as_classifier(classifier), as_generator(generator)
    recipe = as_recipe(recipe)
    engine = Engine(classifier, generator, transforms, regularisers, edits, precision, compile)
    if evaluations is not None and "steps" in options:
        raise OptionError("steps follow from evaluations, got both", fix="leave one of them out")
    recipes = [one.with_options(**options) for one in _recipes(recipe, unit_recipe, generator, start is not None)]
    recipes = recipes if evaluations is None else [one.within(evaluations) for one in recipes]
    with run_writer(out) if out is not None else nullcontext():
        return _synthesize(
            engine, targets, seeds, recipes, start, batch,
            progress=progress, record=record, out=out, overwrite=overwrite,
        )  # fmt: skip


def _synthesize(
    engine: Engine,
    targets: TargetLike | Sequence[TargetLike],
    seeds: int | Iterable[int],
    recipes: Sequence[Recipe],
    start: Tensor | None,
    batch: int | Sequence[int] | None,
    *,
    progress: ProgressOption = None,
    record: Callable[[int, int, Tensor], None] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    at_most: int | None = None,
) -> Result:
    """As `synthesize`; only the first `at_most` items."""
    # 1. Resolve the objectives and seeds; one item for each (target, seed) pair.
    for one in recipes:
        check_domain(one, engine.generator)
    classifier = engine.classifier
    resolved = resolve_objectives(targets, classifier, *recipes)
    warn_of_latents(resolved, classifier)
    numbers = seed_list(seeds)
    generator = _fitted(engine.generator.to(classifier.device), classifier, start)
    engine = replace(engine, generator=generator)
    items = Items(classifier, generator, resolved, numbers, start)
    # 2. Record everything that the result depends on, and see what is done.
    settings = _settings(engine, recipes, start is not None)
    anew = record is not None  # what was finished before cannot be recorded
    folder = ResultFolder(out, resolved, numbers, settings, overwrite=overwrite, anew=anew) if out is not None else None
    done = folder.finished if folder is not None else 0
    # 3. Batch by batch: select starts, optimise, write.
    followed = [one.recipe for one in resolved for _ in numbers]
    run = BatchRun(engine, followed, start is None, _progress_of(progress, len(items)), record)
    began = time.perf_counter()
    batch = _sizes(engine, items, batch, folder.batches if folder is not None else ())
    too_large = f"even one image at a time does not fit in the memory of {classifier.device} with {generator.name}"
    batches = run_in_batches(
        items[done:at_most], batch, lambda chunk, first: run(list(chunk), done + first), too_large,
        kinds=followed[done:at_most],
    )  # fmt: skip
    if folder is not None:
        whole = _in_folder(folder, (result for _, _, result in batches))
    else:
        results = [result for _, _, result in batches]
        settings["batches"] = [len(result.status) for result in results]
        whole = Result.assemble(resolved, numbers, results, settings, seconds=time.perf_counter() - began)
    whole.attach(classifier, generator, rerun)
    return whole


def _in_folder(folder: ResultFolder, results: Iterable[BatchResult]) -> Result:
    """Write each batch as soon as it is finished, then sheets and numbers; after Ctrl-C, those of what is finished."""
    clock, before = time.perf_counter(), folder.finished
    try:
        for result in results:
            folder.write(result, seconds=time.perf_counter() - clock)
            clock = time.perf_counter()
    except KeyboardInterrupt:
        with suppress(GenPriorError):  # nothing is finished
            Result.from_folder(folder.folder).write_reports(folder.folder)
        raise
    whole = Result.from_folder(folder.folder)
    if folder.finished > before or not has_numbers(folder.folder):
        whole.write_reports(folder.folder)
    return whole


def _settings(engine: Engine, recipes: Sequence[Recipe], start_given: bool) -> dict[str, Any]:
    """All that a result depends on besides its targets, seeds and batches."""
    return {
        "classifier": engine.classifier.describe(),
        "normalisation": engine.classifier.normalisation,
        "generator": engine.generator.describe(),
        "recipe": recipes[0].to_dict(),
        "unit_recipe": recipes[1].to_dict(),
        "precision": engine.precision,
        "compile": engine.compile,
        "custom": {name: len(getattr(engine, name)) for name in ("transforms", "regularisers", "edits")},
        "started_from": "given codes" if start_given else "seeds",
        "environment": environment(engine.classifier.device),
    }


def _sizes(engine: Engine, items: Items, batch: int | Sequence[int] | None, done: Sequence[int]) -> int | Sequence[int]:
    """Sizes of the batches after those that are `done`; the last one's again, or what fits, where none are given."""
    if done and not isinstance(batch, int):
        batch = done[-1] if batch is None else list(batch)[len(done) :] or batch[-1]
    if batch is None or engine.classifier.one_image:
        return fitting_batch(engine.classifier, engine.generator, items)
    return batch


def rerun(
    result: Result,
    classifier: Classifier,
    generator: Generator,
    targets: list[str | Objective],
    out: Path | None = None,
) -> Result:
    """Run the synthesis that `result` records again, of the same `targets`: same seeds, recipe, batches and precision.

    Items that were not finished are left out. `out`: a folder for the images, which are in memory where None.
    """
    settings = result.settings
    with run_writer(out) if out is not None else nullcontext():
        return _synthesize(
            Engine(classifier, generator, precision=settings["precision"], compile=settings["compile"]),
            targets,
            result.seeds,
            (result.recipe, result.unit_recipe),
            None,
            settings["batches"],
            out=out,
            at_most=sum(settings["batches"]),
        )


def _recipes(
    recipe: Recipe | None, unit_recipe: Recipe | None, generator: Generator, start_given: bool
) -> tuple[Recipe, Recipe]:
    """The recipe of classes, and that of hidden units."""
    if recipe is not None:
        return recipe, unit_recipe or recipe
    own = generator.recipe, unit_recipe or generator.unit_recipe
    return (own[0].from_given_start(), own[1].from_given_start()) if start_given else own


def _fitted(generator: Generator, classifier: Classifier, start: Tensor | None) -> Generator:
    """The generator fitted to the classifier's input, or as it is where the given codes are those of it as it is."""
    fitted = generator.fitted_to(classifier.input_size, len(classifier.mean))
    own = generator.code_shape
    if start is not None and own != fitted.code_shape and tuple(start.shape[-len(own) :]) == own:
        return generator
    return fitted


def _progress_of(progress: ProgressOption, items: int) -> ProgressCallback | None:
    """`progress` as a callback; one of version 0.1 is called as (first item, items, step, steps, activations)."""
    finished = 0

    def old_arguments(report: Progress) -> tuple[Any, ...]:
        nonlocal finished
        assert report.activations is not None
        first, size, steps = finished, len(report.activations), report.total // items
        step = (report.done - first * steps) // size
        finished += size if step == steps else 0
        return first, items, step, steps, report.activations

    return progress_callback(progress, old_arguments)
