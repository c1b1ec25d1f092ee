"""`Engine`: runs the one loop on a batch of items, one by one on a CPU, together on other devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from gen_prior.optimise.batch import BatchResult, Item
from gen_prior.optimise.loop import Loop, Setup
from gen_prior.optimise.workers import run_jobs
from gen_prior.recipe import Recipe
from gen_prior.util.devices import one_thread
from gen_prior.util.progress import Progress, ProgressCallback

FrameCallback = Callable[[int, Tensor], None]
"""Called as (step, images `[B, 3, H, W]` on the device) before each update, and once more with the final images.

Before an update, `images.grad` is the gradient of the loss with respect to the images.
"""


@dataclass(frozen=True)
class Engine(Setup):
    """A setup that can optimise: frozen networks, the user's additions to the recipe, precision and compilation."""

    def optimise(
        self,
        items: Sequence[Item],
        recipe: Recipe,
        *,
        progress: ProgressCallback | None = None,
        on_frame: FrameCallback | None = None,
        or_start: bool = False,
    ) -> BatchResult:
        """Maximise each item's objective over its code by `recipe`; items do not influence each other.

        Returns the last iterate (or the best one, if the recipe says so). Start and end are measured in float32,
        without transforms and without code noise. With `or_start`, an item whose end scores less than its start
        returns the start. Progress is counted in steps of single items.

        Raises:
            OptionError: the score is not differentiable with respect to the latent code, or `compile` is set and an
                objective reads another layer than the logits.
        """
        groups = [[item] for item in items] if self.one_by_one else [items]
        with ExitStack() as stack:
            loops = [Loop(self, group, recipe, or_start) for group in groups]
            for loop in loops:
                loop.connect(stack.enter_context(self.classifier.record_layers(loop.batch.layers)))
                loop.keep_images = on_frame is not None

            def report(phase: int) -> None:
                """Progress after a step, and the images that it saw, of all items."""
                if progress is not None and 0 < phase <= recipe.steps:
                    done, total = phase * len(items), recipe.steps * len(items)
                    seen = torch.cat([loop.history[phase - 1] for loop in loops])
                    progress(Progress(done, total, f"step {phase}/{recipe.steps}", seen))
                if on_frame is not None and phase > 0:
                    on_frame(phase, _joined([loop.images.pop(phase) for loop in loops]))

            with one_thread(self.classifier.device) as workers:
                run_jobs([loop.run for loop in loops], recipe.steps + 2, workers, report)
        return BatchResult.joined([loop.result for loop in loops])

    @property
    def one_by_one(self) -> bool:
        """True if every item is computed by itself, on one thread, so that its bits do not depend on its batch."""
        return self.classifier.device.type == "cpu"


def _joined(images: Sequence[Tensor]) -> Tensor:
    """Images of several loops as one batch, with their gradients."""
    joined, gradients = torch.cat(list(images)), [part.grad for part in images if part.grad is not None]
    if gradients:
        joined.grad = torch.cat(gradients)
    return joined
