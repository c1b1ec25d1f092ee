"""`synthesize`: targets x seeds through one generator, in batches that fit, finished items on disk at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.optimise.batch import BatchResult, Item
from gen_prior.optimise.constraints import CONSTRAINTS
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
)
from gen_prior.optimise.result import Result, environment
from gen_prior.optimise.result_folder import ResultFolder
from gen_prior.optimise.starts import select_start
from gen_prior.optimise.transforms import Transform
from gen_prior.recipe import Recipe
from gen_prior.util.folders import only_writer
from gen_prior.util.progress import Progress, ProgressCallback, progress_callback


def synthesize(
    classifier: Classifier | str,
    targets: TargetLike | Sequence[TargetLike],
    generator: Generator | str,
    *,
    seeds: int | Iterable[int] = 1,
    recipe: Recipe | str | None = None,
    unit_recipe: Recipe | None = None,
    start: Tensor | None = None,
    transforms: Sequence[Transform | Callable[[Tensor], Tensor]] = (),
    regularisers: Sequence[Regulariser] = (),
    edits: Sequence[Edit] = (),
    batch: int | Sequence[int] | None = None,
    precision: str = "auto",
    compile: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[..., None] | None = None,
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
        transforms, regularisers, edits: custom ones, applied after the recipe's.
        batch: items at a time, or the sizes of successive batches (the last one repeats); chosen from the free
            memory where None. Halved whenever memory runs out.
        precision: "fp32", "bf16" or "auto" (bf16 where the device computes in it).
        out: a folder; each item is written to it as soon as it is finished, and memory does not grow with the number of
            items. A folder that holds a part of the same run is continued, with another run it is refused.
        overwrite: replace the run in `out` instead, whichever it is.
        progress: called with a `Progress` after every step; `done` and `total` count steps x images, including the
            restarts' trial steps.
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
    given = _Given(classifier, generator, transforms, regularisers, edits, precision, compile, progress, record)
    recipes = [one.with_options(**options) for one in _recipes(recipe, unit_recipe, generator, start is not None)]
    if out is None:
        return _synthesize(given, targets, seeds, recipes, start, batch)
    with only_writer(out):
        return _synthesize(given, targets, seeds, recipes, start, batch, out=out, overwrite=overwrite)


@dataclass(frozen=True)
class _Given:
    """Arguments of `synthesize` that every item shares."""

    classifier: Classifier
    generator: Generator
    transforms: Sequence[Transform | Callable[[Tensor], Tensor]] = ()
    regularisers: Sequence[Regulariser] = ()
    edits: Sequence[Edit] = ()
    precision: str = "auto"
    compile: bool = False
    progress: Callable[..., None] | None = None
    record: Callable[[int, int, Tensor], None] | None = None


def _synthesize(
    given: _Given,
    targets: TargetLike | Sequence[TargetLike],
    seeds: int | Iterable[int],
    recipes: Sequence[Recipe],
    start: Tensor | None,
    batch: int | Sequence[int] | None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    at_most: int | None = None,
) -> Result:
    """As `synthesize`; only the first `at_most` items."""
    classifier, generator = given.classifier, given.generator
    # 1. Resolve the recipe, objectives and seeds; one item for each (target, seed) pair.
    for one in recipes:
        check_domain(one, generator)
    resolved = resolve_objectives(targets, classifier, *recipes)
    numbers = seed_list(seeds)
    generator = _fitted(generator.to(classifier.device), classifier, start)
    items = Items(classifier, generator, resolved, numbers, start)
    # 2. Record everything that the result depends on.
    settings = {
        "classifier": classifier.describe(),
        "generator": generator.describe(),
        "recipe": recipes[0].to_dict(),
        "unit_recipe": recipes[1].to_dict(),
        "precision": given.precision,
        "compile": given.compile,
        "custom": {name: len(getattr(given, name)) for name in ("transforms", "regularisers", "edits")},
        "started_from": "given codes" if start is not None else "seeds",
        "environment": environment(classifier.device),
    }
    anew = given.record is not None  # what was finished before cannot be recorded
    folder = None
    if out is not None:
        folder = ResultFolder(out, resolved, numbers, settings, overwrite=overwrite, anew=anew)
    done = folder.finished if folder is not None else 0
    left = items[done:at_most]
    # 3. Batch by batch: select starts, optimise, write.
    engine = Engine(
        classifier, generator, given.transforms, given.regularisers, given.edits, given.precision, given.compile
    )
    followed = [one.recipe for one in resolved for _ in numbers]
    run = _BatchRun(engine, followed, start is None, _progress_of(given.progress, len(items)), given.record)
    began = clock = time.perf_counter()
    if folder is not None and folder.batches:
        batch = _remaining_sizes(batch, folder.batches)
    if batch is None or classifier.one_image:
        batch = fitting_batch(classifier, generator, items)
    results: list[BatchResult] = []
    sizes: list[int] = []
    too_large = f"even one image at a time does not fit in the memory of {classifier.device} with {generator.name}"
    for _, chunk, result in run_in_batches(
        left, batch, lambda chunk, first: run(list(chunk), done + first), too_large, kinds=followed[done:at_most]
    ):
        sizes.append(len(chunk))
        if folder is not None:
            folder.write(result, seconds=time.perf_counter() - clock)
        else:
            results.append(result)
        clock = time.perf_counter()
    if folder is not None:
        whole = Result.from_folder(folder.folder)
    else:
        settings["batches"] = sizes
        whole = Result.assemble(resolved, numbers, results, settings, seconds=time.perf_counter() - began)
    whole.attach(classifier, generator, rerun)
    return whole


def _remaining_sizes(batch: int | Sequence[int] | None, done: Sequence[int]) -> int | Sequence[int]:
    """Sizes of the batches after those that are done; the last one's again where none are given."""
    if batch is None:
        return done[-1]
    return batch if isinstance(batch, int) else (list(batch)[len(done) :] or batch[-1])


def rerun(result: Result, classifier: Classifier, generator: Generator) -> Result:
    """Run the synthesis that `result` records again: same targets, seeds, recipe, batches and precision.

    Items that were not finished are left out.
    """
    settings = result.settings
    return _synthesize(
        _Given(classifier, generator, precision=settings["precision"], compile=settings["compile"]),
        [target["target"] for target in result.targets],
        result.seeds,
        (result.recipe, result.unit_recipe),
        None,
        settings["batches"],
        at_most=sum(settings["batches"]),
    )


@dataclass(frozen=True)
class _BatchRun:
    """Runs one batch of items: select each item's start, then optimise from it."""

    engine: Engine
    recipes: Sequence[Recipe]
    """The recipe of each item of the run; those of a batch are equal."""
    select: bool
    """True to select each item's start among candidates; False if the starts are given."""
    progress: ProgressCallback | None
    record: Callable[[int, int, Tensor], None] | None

    def __call__(self, chunk: Sequence[Item], first: int) -> BatchResult:
        record, recipe = self.record, self.recipes[first]
        trial_steps = self._trial_steps(recipe)
        if self.select:
            chunk = select_start(self.engine, chunk, recipe, self._progress(first, len(chunk), 0))
        result = self.engine.optimise(
            chunk,
            recipe,
            progress=self._progress(first, len(chunk), trial_steps),
            on_frame=None if record is None else lambda step, images: record(first, step, images),
            or_start=self._may_return_start(recipe),
        )
        missing = max(one.steps for one in self.recipes) - recipe.steps
        return replace(result, history=F.pad(result.history, (0, missing), value=torch.nan))

    def _trial_steps(self, recipe: Recipe) -> int:
        return recipe.all_trial_steps if self.select else 0

    def _may_return_start(self, recipe: Recipe) -> bool:
        """False if a start need not obey the edits, constraints and penalties, or is not what the transforms make."""
        engine, named = self.engine, (*recipe.edits, *recipe.transforms)
        own = engine.edits or engine.regularisers or engine.transforms
        return not own and all(name not in CONSTRAINTS for name, _ in named)

    def _progress(self, first: int, size: int, steps_before: int) -> ProgressCallback | None:
        """Callback that reports a batch, of which `steps_before` are done, as part of the whole run."""
        progress = self.progress
        if progress is None:
            return None
        steps = [recipe.steps + self._trial_steps(recipe) for recipe in self.recipes]
        images = f"image {first + 1}" + (f"-{first + size}" if size > 1 else "") + f" of {len(steps)}"
        done, total = sum(steps[:first]) + steps_before * size, sum(steps)

        def report(inner: Progress) -> None:
            label = f"{images}, step {steps_before + inner.done // size}/{steps[first]}"
            progress(inner.within(done, total, label))

        return report


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


def _progress_of(callback: Callable[..., None] | None, items: int) -> ProgressCallback | None:
    """`callback`; one of version 0.1 is called as (first item, items, step, steps, activations)."""
    finished = 0

    def old_arguments(progress: Progress) -> tuple[Any, ...]:
        nonlocal finished
        assert progress.activations is not None
        first, size, steps = finished, len(progress.activations), progress.total // items
        step = (progress.done - first * steps) // size
        finished += size if step == steps else 0
        return first, items, step, steps, progress.activations

    return progress_callback(callback, old_arguments)
