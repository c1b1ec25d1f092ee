"""`AccentuationRun`: a photograph altered towards several targets, some at a time, each kept when it is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gen_prior.applications.accentuation import Accentuated, Accentuation
from gen_prior.applications.accentuation_folder import AccentuationFolder
from gen_prior.classifiers.base import Classifier
from gen_prior.generators.base import Generator
from gen_prior.objectives import Objective, activation
from gen_prior.objectives.mixes import AnyTarget
from gen_prior.optimise.memory import ACCELERATOR_BATCH
from gen_prior.optimise.regularisers import Regulariser
from gen_prior.optimise.resolve import unique_slugs
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.report.film import Recorder
from gen_prior.util.progress import Progress, ProgressCallback

FPS = 12.0
FILMED_EVERY = 2
"""Steps between two frames of a film."""
Record = Callable[[int, int, Tensor], None]


@dataclass(frozen=True)
class AccentuationRun:
    """Inputs that all targets of an accentuation share."""

    classifier: Classifier
    generator: Generator
    recipe: Recipe
    photograph: Tensor
    code: Tensor
    layer: str
    nearness: float
    seed: int
    batch: int | None
    precision: str
    film: str | None

    @cached_property
    def start(self) -> Tensor:
        """The generator's copy of the photograph, `[1, 3, H, W]`, on the device."""
        with torch.no_grad():
            return self.generator.final_images(self.code[None].to(self.classifier.device)).float()

    def all(
        self,
        targets: Sequence[AnyTarget],
        settings: dict[str, Any],
        folder: AccentuationFolder | None,
        report: ProgressCallback | None,
        record: Record | None,
    ) -> Accentuation:
        """Alter the photograph towards each target that is not finished in `folder`, some at a time."""
        names = unique_slugs(targets)
        done = {} if folder is None else folder.finished(dict(zip(names, targets, strict=True)), self.film)
        made = Accentuation(self.photograph, self.start[0].cpu(), list(done.values()), settings)
        waiting = [(name, target) for name, target in zip(names, targets, strict=True) if name not in done]
        try:
            for first in range(0, len(waiting), size := self._size()):
                part = None if report is None else _part(report, first, size, len(waiting))
                done |= self._some(waiting[first : first + size], folder, part, _shifted(record, first))
                made.images[:] = [done[name] for name in names if name in done]
                if folder is not None:
                    folder.write(made)
        finally:  # after Ctrl-C too: a sheet of what is finished
            if folder is not None and made.images:
                folder.write_sheets(made)
        return made

    def _size(self) -> int:
        """Targets at a time: on a CPU one for each thread, so that little is lost after Ctrl-C."""
        on_cpu = self.classifier.device.type == "cpu"
        return self.batch or (torch.get_num_threads() if on_cpu else ACCELERATOR_BATCH)

    def _some(
        self,
        waiting: Sequence[tuple[str, AnyTarget]],
        folder: AccentuationFolder | None,
        report: ProgressCallback | None,
        record: Record | None,
    ) -> dict[str, Accentuated]:
        """Alter the photograph towards some targets, each with a name for its files."""
        classifier, start, names = self.classifier, self.start, [name for name, _ in waiting]
        spreads = [_spread(classifier, target, start) for _, target in waiting]
        recorder = None
        if self.film is not None and folder is not None:
            recorder = Recorder(FILMED_EVERY, out=folder.folder, names=names, kind=self.film, fps=FPS, keep=False)
        with recorder or nullcontext():
            result = synthesize(
                classifier, [_objective(target, spread) for (_, target), spread in zip(waiting, spreads, strict=True)],
                self.generator, seeds=[self.seed], recipe=self.recipe, start=self.code,
                regularisers=[near(classifier, start, self.layer, self.nearness)] if self.nearness else [],
                batch=self.batch, precision=self.precision, progress=report,
                record=_both(recorder, record),
            )  # fmt: skip
        made = {}
        for number, (name, target) in enumerate(waiting):
            image = result.images_of(number)[0]
            one = Accentuated(
                name=target.name,
                slug=name,
                image=image,
                code=result.codes_of(number)[0],
                start_activation=float(result.start_activations[number, 0]),
                activation=float(result.activations[number, 0]),
                distance=float(relative_distance(classifier, image[None], start, self.layer)),
                pixel_distance=float((image - start[0].cpu()).square().mean().sqrt()),
            )
            better = one.gain(spreads[number], self.nearness) >= 0
            made[name] = one if better else one.unaltered(start[0].cpu(), self.code)
        return made


def _part(report: ProgressCallback, first: int, size: int, targets: int) -> ProgressCallback:
    """Progress of some targets, from number `first` on, as a part of all of them."""

    def call(step: Progress) -> None:
        each = step.total // min(size, targets - first)
        report(step.within(first * each, targets * each))

    return call


def _shifted(record: Record | None, before: int) -> Record | None:
    return None if record is None else lambda first, step, images: record(before + first, step, images)


def _both(*callbacks: Record | None) -> Record | None:
    """One `record` function for those that are not None; None if there is none."""
    given = [callback for callback in callbacks if callback is not None]

    def call(first: int, step: int, images: Tensor) -> None:
        for callback in given:
            callback(first, step, images)

    return call if given else None


def near(classifier: Classifier, start: Tensor, layer: str, weight: float) -> Regulariser:
    """Penalty: `weight` times the squared relative distance at `layer` from `start` `[1, 3, H, W]`.

    It takes a forward pass of its own, of the image before its transforms, which would be a distance themselves.
    """
    with torch.no_grad():
        wanted = classifier.activations(start, [layer])[layer].float()
    size = wanted.square().sum().clamp_min(1e-12)

    def penalty(image: Tensor, code: Tensor) -> Tensor:
        values = classifier.activations(image, [layer])[layer].float()
        return weight * (values - wanted).square().flatten(1).sum(1) / size

    return penalty


def relative_distance(classifier: Classifier, image: Tensor, start: Tensor, layer: str) -> Tensor:
    """Distance `[]` of the features of two images `[1, 3, H, W]` at a layer, over the norm of the second's."""
    with torch.no_grad():
        values, wanted = (
            classifier.activations(one.to(classifier.device), [layer])[layer].float() for one in (image, start)
        )
    return (values - wanted).norm() / wanted.norm().clamp_min(1e-12)


def _spread(classifier: Classifier, target: AnyTarget, start: Tensor) -> float:
    """Standard deviation of a target's layers over units and positions on the photograph `[1, 3, H, W]`."""
    with torch.no_grad():
        values = classifier.activations(start, target.layers)
    return max(float(torch.stack([values[name].float().std() for name in target.layers]).mean()), 1e-6)


def _objective(target: AnyTarget, spread: float) -> Objective:
    """The target's activation in units of `spread`; results report it as it is."""
    plain = activation(target)
    return (plain * (1 / spread)).reporting(plain)
