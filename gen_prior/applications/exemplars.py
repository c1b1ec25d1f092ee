"""Natural images of a folder to which units respond most, to show beside images synthesised for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import overload

from torch import Tensor

from gen_prior.applications.exemplar import Exemplar, ExemplarLists, Exemplars
from gen_prior.applications.fields import Fields
from gen_prior.applications.photograph_counters import MOST, BestPhotographs, Wanted
from gen_prior.applications.photograph_pass import run_pass
from gen_prior.applications.photographs import as_seen, image_paths
from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, TargetError
from gen_prior.objectives.features import split_feature
from gen_prior.optimise.resolve import TargetLike, resolve_objectives
from gen_prior.optimise.result import Result
from gen_prior.recipe import Recipe
from gen_prior.util.image_io import png_bytes, read_image
from gen_prior.util.mosaic import mosaic, row_pages, write_pages
from gen_prior.util.progress import ProgressOption, progress_callback
from gen_prior.util.words import few

log = logging.getLogger(__name__)


@overload
def find_exemplars(
    classifier: Classifier | str,
    target: TargetLike,
    folder: str | Path,
    *,
    count: int = 8,
    anywhere: bool = True,
    batch: int = 16,
    on_bad: Callable[[str], None] | None = None,
    progress: ProgressOption = None,
) -> Exemplars: ...


@overload
def find_exemplars(
    classifier: Classifier | str,
    target: list[TargetLike] | list[str],
    folder: str | Path,
    *,
    count: int = 8,
    anywhere: bool = True,
    batch: int = 16,
    on_bad: Callable[[str], None] | None = None,
    progress: ProgressOption = None,
) -> list[Exemplars]: ...


def find_exemplars(
    classifier: Classifier | str,
    target: TargetLike | list[TargetLike] | list[str],
    folder: str | Path,
    *,
    count: int = 8,
    anywhere: bool = True,
    batch: int = 16,
    on_bad: Callable[[str], None] | None = None,
    progress: ProgressOption = None,
) -> Exemplars | list[Exemplars]:
    """Find the `count` images under `folder` with the highest activation of each target, in one pass over the images.

    Args:
        target: a class, unit or objective, or a list of them: all are looked for in the same pass, in constant memory.
            For a channel at a position, `anywhere` takes its maximum over all positions. Of `-LAYER:UNIT` the
            exemplars are those with the lowest activation.
        batch: images at a time.
        on_bad: called with a message for each file that cannot be read, which is left out; if None, such a file
            raises `ImageError`.
        progress: as `synthesize` takes it, after every batch, in images.

    Returns:
        The exemplars, the best first, a list that notebooks show; for a list of targets, a list of such lists, which
        notebooks show as well.

    Raises:
        ImageError: no images, one that cannot be read, or, with `on_bad`, none that can.
        TargetError: no such target. OptionError: `count` is below 1, or no targets.
    """
    classifier = as_classifier(classifier)
    report = progress_callback(progress, lambda p: (p.done, p.total))
    if count < 1:
        raise OptionError(f"count must be at least 1, got {count}")
    listed = target if isinstance(target, list) else [target]
    wanted = wanted_targets(classifier, listed, anywhere)
    if len(wanted) > 1 and not isinstance(target, list):
        raise TargetError(f"{target!r} names {len(wanted)} targets", fix=f"pass a list: [{target!r}]")
    best = BestPhotographs(wanted, count)
    run_pass(classifier, folder, {"best": best}, batch=batch, on_bad=on_bad, progress=report)
    found = collect_exemplars(classifier, best, image_paths(folder))
    _warn_of_latents(best)
    return found if isinstance(target, list) else found[0]


def _warn_of_latents(best: BestPhotographs) -> None:
    """Say in one line which latents no photograph activates."""
    dead = [
        wanted.unit[1].name
        for wanted, active in zip(best.wanted, best.active.tolist(), strict=True)
        if not active and wanted.unit is not None and wanted.unit[0] > 0
        if split_feature(str(wanted.unit[1]))[1] == "sae"
    ]
    if dead:
        log.warning("dead latents, never active in %d photographs: %s", int(best.seen), few(dead))


def wanted_targets(
    classifier: Classifier, targets: Sequence[TargetLike] | Sequence[str], anywhere: bool = True
) -> list[Wanted]:
    """Searches of a pass, one for each target; `anywhere` counts only for a channel at a position (y, x)."""
    wanted = []
    for one in resolve_objectives(targets, classifier, Recipe(scale="image")):
        units = one.target.terms if one.target is not None else ()
        placed = len(units) == 1 and isinstance(units[0][1].position, tuple)
        wanted.append(Wanted(one.objective, one.target, anywhere and placed))
    return wanted


def collect_exemplars(classifier: Classifier, best: BestPhotographs, paths: Sequence[Path]) -> list[Exemplars]:
    """The exemplars of each wanted target, with their images, after a pass over `paths`."""
    fields = Fields(classifier)
    images: dict[int, Tensor] = {}
    result = ExemplarLists()
    for row, wanted in enumerate(best.wanted):
        exemplars = Exemplars(name=wanted.name)
        for value, number, flat in zip(best.values[row], best.numbers[row], best.positions[row], strict=True):
            index = int(number)
            if index < 0 or float(value) == -MOST:
                continue
            if index not in images:
                images[index] = as_seen(classifier, read_image(paths[index]))
            weight, unit = wanted.unit or (1.0, None)
            target = fields.placed(unit, int(flat))
            position = target.position if target is not None and isinstance(target.position, tuple) else None
            box, field = fields.receptive(target), fields.effective(target)
            exemplars.append(Exemplar(paths[index], float(value) / weight, images[index], box, field, position))
        result.append(exemplars)
    return result


def write_exemplar_sheets(result: Result, found: Sequence[Sequence[Exemplar]], folder: Path) -> list[Path]:
    """Write `exemplars.png`, and for many targets `exemplars-2.png`, ...; returns their paths."""
    parts = row_pages(len(result.targets))
    return write_pages(folder, "exemplars", (png_bytes(exemplar_sheet(result, found, part)) for part in parts))


def exemplar_sheet(result: Result, found: Sequence[Sequence[Exemplar]], targets: Iterable[int] | None = None) -> Tensor:
    """A row for each target of `result`: its images beside the patches that the unit saw of its best photographs.

    Returns one image `[3, H, W]` in [0, 1], of all targets where `targets` is None; activations are below the images.
    """
    chosen = range(len(result.targets)) if targets is None else list(targets)
    values = [[*result.activations[t].tolist(), *[each.activation for each in found[t]]] for t in chosen]
    return mosaic(
        [[*result.images_of(t), *[each.patch for each in found[t]]] for t in chosen],
        captions=[[f"{value:.3g}" for value in row] for row in values],
        row_names=[result.targets[t]["name"] for t in chosen],
        column_names=[f"seed {seed}" for seed in result.seeds] + ["photographs"],
    )


__all__ = [
    "Exemplar",
    "Exemplars",
    "collect_exemplars",
    "exemplar_sheet",
    "find_exemplars",
    "wanted_targets",
    "write_exemplar_sheets",
]
