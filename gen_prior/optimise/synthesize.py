"""`synthesize`: targets x seeds through one generator, in batches that fit, finished items on disk at once."""

from __future__ import annotations

import contextlib
import itertools
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import DeviceError, OptionError
from gen_prior.generators.base import Generator
from gen_prior.objectives import Objective, activation, log_probability
from gen_prior.objectives.targets import Target, parse_target
from gen_prior.optimise.batch import Goal, Item, item_names, unique_slugs
from gen_prior.optimise.edits.context import Edit
from gen_prior.optimise.loop import Outcome, Progress, Record, bytes_per_item, optimise
from gen_prior.optimise.presets import fitting_presets
from gen_prior.optimise.regularisers import Regulariser
from gen_prior.optimise.result import Result, environment
from gen_prior.optimise.result_folder import ResultFolder
from gen_prior.optimise.starts import begun_best, wanted_class
from gen_prior.optimise.transforms import Transform
from gen_prior.recipe import Recipe
from gen_prior.util.devices import free_memory
from gen_prior.util.random import MAX_SEED

TargetLike = str | int | Target | Objective
CPU_BATCH, ACCELERATOR_BATCH = 8, 64
OUT_OF_MEMORY = ("allocate memory", "out of memory", "ALLOC_FAILED")
"""What the message of a `RuntimeError` says where a library ran out of memory without PyTorch's own error."""


def synthesize(
    classifier: Classifier,
    targets: TargetLike | Sequence[TargetLike],
    generator: Generator,
    *,
    seeds: int | Iterable[int] = 1,
    recipe: Recipe | None = None,
    start: Tensor | None = None,
    transforms: Sequence[Transform | Callable[[Tensor], Tensor]] = (),
    regularisers: Sequence[Regulariser] = (),
    edits: Sequence[Edit] = (),
    batch: int | Sequence[int] | None = None,
    precision: str = "auto",
    compile: bool = False,
    out: str | Path | None = None,
    progress: Callable[[int, int, int, int, Tensor], None] | None = None,
    record: Callable[[int, int, Tensor], None] | None = None,
    **options: Any,
) -> Result:
    """Synthesise the input that each target responds to most, once per seed (Nguyen et al. 2016).

    Args:
        classifier: whose unit is maximised; its device is used for everything.
        targets: class names or numbers, `LAYER:UNIT[@POSITION]`, `Target`s or `Objective`s.
        generator: the prior, or a pixel-space mode.
        seeds: a number of seeds (0, 1, ...) or the seeds themselves. A result depends on its own seed only.
        recipe: optimisation settings; the generator's own where None. `options` replace some of its
            settings: `steps=64`, `rate=0.05`, `score="log_probability"`.
        start: codes to start from instead of the seeds' own: `[*code_shape]` for all, or `[T, S, *code_shape]`.
        transforms, regularisers, edits: your own, applied after the recipe's.
        batch: items at a time, or the sizes of successive batches (the last one holds for the rest); chosen from
            memory where None. Halved whenever memory runs out.
        precision: "fp32", "bf16" or "auto" (bf16 where the device computes in it).
        out: a folder to write each finished item to at once.
        progress: called as (item, items, step, steps, activations on the device) after every step, those of trials too.
        record: called as (first item, step, images on the device) after every step with what it started from,
            and with the final images as step `steps + 1`.

    Returns:
        A `Result`: images `[T, S, 3, H, W]` in [0, 1], activations `[T, S]`, history `[T, S, steps]`, codes.

    Raises:
        GenPriorError: unknown targets, options or seeds; a recipe for another kind of generator; too little memory.
    """
    if recipe is None:
        recipe = generator.recipe if start is None else generator.recipe.from_given_start()
    recipe = recipe.with_options(**options)
    check_domain(recipe, generator)
    listed = [targets] if isinstance(targets, str | int | Target | Objective) else list(targets)
    if not listed:
        raise OptionError("no targets given", fix="name a class (goldfish) or a unit (LAYER:UNIT)")
    goals = [goal_of(target, classifier, recipe) for target in listed]
    numbers = seed_list(seeds)
    grid = (len(goals), len(numbers))
    generator = generator.to(classifier.device).fitted_to(classifier.input_size)
    if start is not None and tuple(start.shape) not in (generator.code_shape, grid + generator.code_shape):
        raise OptionError(
            f"start must have shape {list(generator.code_shape)}, or {[*grid, *generator.code_shape]} for one code "
            f"per target and seed, got {list(start.shape)}"
        )
    items = [
        Item(
            goal.objective,
            seed,
            _start_of(start, generator, t, s, seed, wanted_class(goal.target, classifier)),
            goal.target,
        )
        for t, goal in enumerate(goals)
        for s, seed in enumerate(numbers)
    ]
    settings = {
        "classifier": classifier.describe(),
        "generator": generator.describe(),
        "recipe": recipe.to_dict(),
        "precision": precision,
        "compile": compile,
        "custom": {"transforms": len(transforms), "regularisers": len(regularisers), "edits": len(edits)},
        "started_from": "given codes" if start is not None else "seeds",
        "environment": environment(classifier.device),
    }
    folder = ResultFolder(out, goals, numbers, settings) if out is not None else None

    tried = recipe.all_trial_steps if start is None else 0
    steps = tried + recipe.steps

    def climb(chunk: Sequence[Item], recipe: Recipe, first: int, before: int, record: Record | None = None) -> Outcome:
        return optimise(
            classifier,
            generator,
            chunk,
            recipe,
            transforms=transforms,
            regularisers=regularisers,
            edits=edits,
            precision=precision,
            compile=compile,
            progress=_shifted(progress, first, len(items), before, steps),
            record=record,
        )

    def run(chunk: Sequence[Item], first: int) -> Outcome:
        def trial(begun: Sequence[Item], short: Recipe, number: int) -> Outcome:
            return climb(begun, short, first, number * short.steps)

        if start is None:
            chunk = begun_best(classifier, generator, chunk, recipe, precision, trial)
        return climb(chunk, recipe, first, tried, _shifted_record(record, first))

    began = time.perf_counter()
    outcomes: list[Outcome] = []
    sizes: list[int] = []
    first = 0
    if batch is None:
        batch = fitting_batch(classifier, generator, items)
    plan = batch_plan(batch)
    size = next(plan)
    while first < len(items):
        chunk = items[first : first + size]
        clock = time.perf_counter()
        outcome = _attempt(run, chunk, first)
        if outcome is None:
            if len(chunk) == 1:
                raise DeviceError(
                    f"not enough memory on {classifier.device} for a single item of {generator.name}",
                    fix="use a smaller image_size, --precision bf16 or another --device",
                )
            size = (len(chunk) + 1) // 2
            plan = itertools.repeat(size)
            continue
        outcomes.append(outcome)
        sizes.append(len(chunk))
        if folder is not None:
            folder.write(first, outcome, seconds=time.perf_counter() - clock, batches=sizes)
        first += len(chunk)
        size = next(plan)
    settings["batches"] = sizes
    result = Result.assemble(goals, numbers, outcomes, settings, seconds=time.perf_counter() - began)
    result.attach(classifier, generator)
    return result


def goal_of(target: TargetLike, classifier: Classifier, recipe: Recipe) -> Goal:
    """What is maximised for `target`, under which name it is reported. Raises for targets that do not exist."""
    if isinstance(target, Objective):
        for layer in target.layers:
            classifier.layer_shape(layer)
        return Goal(target, None)
    parsed = parse_target(target, classifier)
    use_probability = recipe.score == "log_probability" and parsed.is_class
    return Goal((log_probability if use_probability else activation)(parsed), parsed)


def planned_names(classifier: Classifier, targets: Sequence[TargetLike], seeds: int | Iterable[int]) -> list[str]:
    """The file names, without their endings, that `synthesize` will give its items. Raises as it does."""
    return item_names(unique_slugs([goal_of(target, classifier, Recipe()) for target in targets]), seed_list(seeds))


def check_domain(recipe: Recipe, generator: Generator) -> None:
    """Raises `OptionError` where a recipe for images meets a generator of codes, or the reverse."""
    if recipe.domain not in ("any", generator.domain):
        kinds = {"image": "pixel-space modes", "code": "generators with a latent code"}
        raise OptionError(
            f"this recipe is meant for {kinds[recipe.domain]}, but {generator.name} is not one of them"
            + (f" ({recipe.source})" if recipe.source else ""),
            fix=f"take one of {', '.join(fitting_presets(generator.domain))}, or the generator's own recipe",
        )


def seed_list(seeds: int | Iterable[int]) -> list[int]:
    """A number of seeds, or the seeds themselves, as a checked list. Raises `OptionError`."""
    if not isinstance(seeds, Iterable):
        if seeds < 1:
            raise OptionError(f"seeds must be at least 1, got {seeds}")
        return list(range(operator.index(seeds)))
    try:
        numbers = [operator.index(seed) for seed in seeds]
    except TypeError as error:
        raise OptionError(f"seeds must be whole numbers, got {seeds!r}") from error
    if not numbers or len(set(numbers)) < len(numbers):
        raise OptionError(f"seeds must be different numbers, at least one, got {numbers}")
    if bad := [seed for seed in numbers if not 0 <= seed <= MAX_SEED]:
        raise OptionError(f"seeds must lie in 0 to {MAX_SEED}, got {bad[0]}")
    return numbers


def fitting_batch(classifier: Classifier, generator: Generator, items: Sequence[Item]) -> int:
    """Items that one pass takes: what half of the free memory holds, at most 8 on a CPU and 64 elsewhere."""
    most = min(len(items), CPU_BATCH if classifier.device.type == "cpu" else ACCELERATOR_BATCH)
    free = free_memory(classifier.device)
    if most == 1 or free is None:
        return most
    return max(1, min(most, free // 2 // max(1, bytes_per_item(classifier, generator, items[0]))))


def batch_plan(batch: int | Sequence[int]) -> Iterator[int]:
    """Sizes of successive batches, without end. Raises `OptionError` for one below 1."""
    sizes = [batch] if isinstance(batch, int) else list(batch)
    if not sizes or min(sizes) < 1:
        raise OptionError(f"batch must be at least 1, got {batch}")
    return itertools.chain(sizes, itertools.repeat(sizes[-1]))


def _start_of(start: Tensor | None, generator: Generator, t: int, s: int, seed: int, wanted: str | None) -> Tensor:
    if start is None:
        return generator.initial_code(seed, wanted)
    chosen = start if tuple(start.shape) == generator.code_shape else start[t, s]
    return chosen.detach().float().cpu()


def _attempt(run: Callable[[Sequence[Item], int], Outcome], chunk: Sequence[Item], first: int) -> Outcome | None:
    """The outcome, or None where memory ran out (and has been given back)."""
    with contextlib.suppress(torch.OutOfMemoryError, MemoryError):
        try:
            return run(chunk, first)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or not any(sign in str(error) for sign in OUT_OF_MEMORY):
                raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _shifted(
    progress: Callable[[int, int, int, int, Tensor], None] | None, first: int, total: int, before: int, steps: int
) -> Progress | None:
    """Tells `progress` of steps that follow `before` others, of `steps` in all."""
    if progress is None:
        return None
    return lambda step, _, activations: progress(first, total, before + step, steps, activations)


def _shifted_record(record: Callable[[int, int, Tensor], None] | None, first: int) -> Record | None:
    if record is None:
        return None
    return lambda step, images: record(first, step, images)
