"""`BatchRun`: one batch of a run, from the selection of its starts to its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.optimise.batch import BatchResult, Item
from gen_prior.optimise.constraints import CONSTRAINTS
from gen_prior.optimise.engine import Engine
from gen_prior.optimise.starts import select_start
from gen_prior.recipe import Recipe
from gen_prior.util.progress import Progress, ProgressCallback


@dataclass(frozen=True)
class BatchRun:
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
        missing = self._longest - recipe.steps
        return replace(result, history=F.pad(result.history, (0, missing), value=torch.nan))

    @cached_property
    def _longest(self) -> int:
        """Most steps of a recipe of the run."""
        return max(recipe.steps for recipe in self.recipes)

    @cached_property
    def _run_steps_before(self) -> list[int]:
        """Steps, with those of trials, of all items before each one; the last number is that of all items."""
        return [0, *accumulate(recipe.steps + self._trial_steps(recipe) for recipe in self.recipes)]

    def _trial_steps(self, recipe: Recipe) -> int:
        return recipe.all_trial_steps if self.select else 0

    def _may_return_start(self, recipe: Recipe) -> bool:
        """True if an item that ended below its start may return the start.

        Not with the user's own transforms, regularisers or edits, nor with a fixed mean or contrast, which the start
        need not have.
        """
        engine, named = self.engine, (*recipe.edits, *recipe.transforms)
        own = engine.edits or engine.regularisers or engine.transforms
        return not own and all(name not in CONSTRAINTS for name, _ in named)

    def _progress(self, first: int, size: int, trial_steps: int) -> ProgressCallback | None:
        """Callback that reports a batch, of which `trial_steps` are done, as part of the whole run."""
        progress = self.progress
        if progress is None:
            return None
        before = self._run_steps_before
        images = f"image {first + 1}" + (f"-{first + size}" if size > 1 else "") + f" of {len(self.recipes)}"
        done, total = before[first] + trial_steps * size, before[-1]
        steps = before[first + 1] - before[first]

        def report(inner: Progress) -> None:
            label = f"{images}, step {trial_steps + inner.done // size}/{steps}"
            progress(inner.within(done, total, label))

        return report
