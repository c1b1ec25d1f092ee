"""Morphs: a path between the codes of targets or photographs, and how each of their units responds along it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gen_prior.applications.encode import encode, square
from gen_prior.applications.kept_code import kept_code
from gen_prior.applications.morph_folder import RECORD, Morph, read_morph
from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.generators.shared.checks import whole_number
from gen_prior.objectives.expressions import parse_targets
from gen_prior.objectives.mixes import AnyTarget, Mix
from gen_prior.objectives.targets import Target
from gen_prior.optimise.result import Result
from gen_prior.optimise.saved_run import check_saved
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.report.film import MOST_FRAMES
from gen_prior.util.folders import remove_run, run_writer
from gen_prior.util.image_io import is_image
from gen_prior.util.progress import ProgressCallback, ProgressOption, labelled, progress_callback
from gen_prior.util.random import check_seed

End = str | int | AnyTarget | Tensor | Image.Image | PathLike[str]
"""A target, a photograph (an image file, a PIL picture, or `[3, H, W]` in [0, 1]), or a code `[*code_shape]`."""
BATCH = 16
"""Frames drawn and measured at a time."""


def interpolate(generator: Generator | str, first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
    """Codes `[N, *code_shape]` at `shares` `[N]` of the way from one code `[*code_shape]` to another.

    Where the generator's recipe keeps dimensions on a norm sphere, the path turns along the arc between them, and
    their norm changes evenly (spherical interpolation, Shoemake 1985; White 2016, arXiv 1609.04468): a straight line
    would pass through the inside of the sphere, where the generator has never been. It is straight in all other
    dimensions, pixels among them. Raises `OptionError` for codes of another shape.
    """
    generator = as_generator(generator)
    for code in (first, second):
        if tuple(code.shape) != generator.code_shape or code.is_meta or code.is_complex():
            raise OptionError(f"{generator.name} has codes of {list(generator.code_shape)}, got {list(code.shape)}")
    prior = generator.prior.to("cpu")
    mean = torch.as_tensor(prior.mean, dtype=torch.float32).expand(generator.code_shape).flatten()
    std = torch.as_tensor(prior.std, dtype=torch.float32).expand(generator.code_shape).flatten()
    scale = torch.where(std > 0, std, 1.0)
    start, end = ((code.detach().float().cpu().flatten() - mean) / scale for code in (first, second))
    part = shares.float().cpu()[:, None]
    path = torch.lerp(start[None], end[None], part)
    for low, high in spheres(generator.recipe, len(start)):
        path[:, low:high] = _along_the_arc(start[low:high], end[low:high], part)
    path[part[:, 0] == 0], path[part[:, 0] == 1] = start, end  # the ends themselves, without rounding
    return (mean + scale * path).view(-1, *generator.code_shape)


def spheres(recipe: Recipe, dims: int) -> list[tuple[int, int]]:
    """(first, end) of the dimensions that each `norm_sphere` of a recipe keeps at one norm."""
    ranges = [options.get("units") for name, options in recipe.edits if name == "norm_sphere"]
    return [(0, dims) if one is None else (int(one[0]), int(one[1])) for one in ranges]


def _along_the_arc(start: Tensor, end: Tensor, part: Tensor) -> Tensor:
    """`[N, D]` at the shares `part` `[N, 1]`: the direction turns evenly, the norm changes evenly."""
    norms = start.norm(), end.norm()
    if not min(norms) > 0:
        return torch.lerp(start[None], end[None], part)
    one, other = start / norms[0], end / norms[1]
    angle = torch.arccos((one @ other).clamp(-1, 1))
    if not 1e-3 < angle < torch.pi - 1e-3:  # parallel, or opposite: no arc is the shortest
        return torch.lerp(start[None], end[None], part)
    direction = (torch.sin((1 - part) * angle) * one + torch.sin(part * angle) * other) / torch.sin(angle)
    return direction * torch.lerp(norms[0], norms[1], part)


def morph(
    classifier: Classifier | str,
    ends: Sequence[End],
    generator: Generator | str,
    *,
    names: Sequence[str] | None = None,
    frames: int = 24,
    seed: int = 0,
    steps: int | None = None,
    batch: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: ProgressOption = None,
) -> Morph:
    """A path of images from one end to the next, through the codes of a generator (see `interpolate`).

    A target's code is synthesised, over the whole input also for hidden units; a photograph's is found by `encode`.
    Along the path the activation of each target is measured, and for a photograph or a code that of the class that
    the classifier sees in its image.

    Args:
        classifier: the network whose units are maximised and measured.
        ends: two or more of: a target, a photograph (an image file, a PIL picture or `[3, H, W]`; its largest centred
            square is used), a code `[*code_shape]`.
        generator: the prior, or an image parameterisation.
        names: names of the ends; those of the targets, "image 1" and "code 1" where None.
        frames: images from one end to the next, with both ends.
        seed: of the synthesis of targets, and of fits to photographs.
        steps: replaces the recipe's number of steps for targets.
        batch: as `synthesize` takes it.
        out: a folder, as `Morph.save` writes it. One that holds a part of the same morph is continued, with another
            run it is refused.
        overwrite: replace the run in `out` instead, whichever it is.
        progress: as `synthesize` takes it, in steps, labelled with what is being found.

    Raises:
        OptionError: fewer than two ends, fewer than two frames, or an end that is none of these.
        TargetError, UnknownNameError: no such target.
    """
    classifier, generator = as_classifier(classifier), as_generator(generator).to(as_classifier(classifier).device)
    generator = generator.fitted_to(classifier.input_size, len(classifier.mean))
    seed = check_seed(seed)
    if isinstance(ends, str):
        raise OptionError(f"a morph needs a list of two ends, got {ends!r}", fix='["goldfish", "tabby"]')
    whole_number("frames", frames, least=2, most=MOST_FRAMES)
    if len(ends) < 2:
        raise OptionError(f"a morph needs two ends, got {len(ends)}")
    found = [_Source.of(end, classifier, generator, number) for number, end in enumerate(ends, 1)]
    names = [source.name for source in found] if names is None else list(names)
    if len(names) != len(found):
        raise OptionError(f"{len(found)} ends need as many names, got {len(names)}")
    settings: dict[str, Any] = {
        "classifier": classifier.describe(),
        "generator": generator.describe(),
        "ends": [source.to_dict() | {"name": name} for source, name in zip(found, names, strict=True)],
        "frames": frames,
        "seed": seed,
        "steps": steps,
    }
    report = progress_callback(progress)
    replaced: dict[str, Any] = {} if steps is None else {"steps": steps}
    with run_writer(out) if out is not None else nullcontext() as folder:
        if folder is not None:
            found_run = check_saved(folder, RECORD, settings, overwrite=overwrite)
            if overwrite:
                remove_run(folder)
            elif found_run:
                return read_morph(folder)
        codes = _target_codes(
            found,
            lambda targets: synthesize(
                classifier, targets, generator, seeds=[seed], batch=batch, scale="image", progress=report,
                out=folder / "targets" if folder is not None else None, overwrite=overwrite,
                **replaced,
            ),
        )  # fmt: skip
        for number, source in enumerate(found):
            if source.code is not None:
                codes[number] = source.code
            elif source.image is not None:
                kept = folder / f"code-{number}.safetensors" if folder is not None else None
                codes[number] = _photograph_code(source, generator, kept, seed, report)
        path = [codes[number] for number in range(len(found))]
        made = _measured(classifier, generator, found, names, path, settings)
        if folder is not None:
            made.save(folder)
    return made


@dataclass(frozen=True)
class _Source:
    """The source of one end of a morph: one of a target, a photograph and a code."""

    name: str
    target: AnyTarget | None = None
    image: Tensor | None = None
    code: Tensor | None = None

    @classmethod
    def of(cls, end: End, classifier: Classifier, generator: Generator, number: int) -> _Source:
        if isinstance(end, PathLike) or (isinstance(end, str) and is_image(end)):
            return cls(Path(end).stem, image=square(end))
        if isinstance(end, Image.Image):
            return cls(f"image {number}", image=square(end))
        if isinstance(end, Tensor):
            if tuple(end.shape) == generator.code_shape:
                return cls(f"code {number}", code=end.detach().float().cpu())
            return cls(f"image {number}", image=square(end))
        if not isinstance(end, str | int | Target | Mix):
            raise OptionError(f"an end of a morph is a target, a photograph or a code, got {type(end).__name__}")
        targets = parse_targets(end, classifier)
        if len(targets) != 1:
            raise OptionError(f"an end of a morph is one target, but {end!r} names {len(targets)}")
        return cls(targets[0].name, target=targets[0])

    def to_dict(self) -> dict[str, Any]:
        """Everything that the end depends on, as plain values."""
        if self.target is not None:
            return {"target": str(self.target)}
        values = self.image if self.image is not None else self.code
        assert values is not None
        kind = "image" if self.image is not None else "code"
        return {f"{kind}_sha256": hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()}


def _target_codes(
    sources: Sequence[_Source],
    synthesized: Callable[[list[AnyTarget]], Result],
) -> dict[int, Tensor]:
    """Number of an end -> its code, of those that are targets; a target that comes twice is synthesised once."""
    wanted = {number: one.target for number, one in enumerate(sources) if one.target is not None}
    different = list(dict.fromkeys(wanted.values()))
    if not different:
        return {}
    result = synthesized(different)
    return {number: result.codes_of(different.index(target))[0] for number, target in wanted.items()}


def _photograph_code(
    source: _Source, generator: Generator, path: Path | None, seed: int, progress: ProgressCallback | None
) -> Tensor:
    """The code of a photograph, from the file `path` where it is there already."""
    assert source.image is not None
    image = source.image
    made_of = source.to_dict() | {"seed": seed, "generator": generator.describe()["sha256"]}
    return kept_code(
        path, made_of, lambda: encode(generator, image, seed=seed, progress=labelled(progress, "the photograph's code"))
    )


def _measured(
    classifier: Classifier,
    generator: Generator,
    sources: Sequence[_Source],
    names: Sequence[str],
    codes: Sequence[Tensor],
    settings: dict[str, Any],
) -> Morph:
    """The images along the path, and the activations of the ends' units on each."""
    frames = settings["frames"]
    shares = torch.linspace(0, 1, frames)
    parts = [interpolate(generator, *pair, shares) for pair in pairwise(codes)]
    path = torch.cat([parts[0], *(part[1:] for part in parts[1:])])
    positions = torch.cat([shares, *(number + shares[1:] for number in range(1, len(parts)))])
    with torch.no_grad():
        batches = path.to(generator.device).split(BATCH)
        images = torch.cat([generator.final_images(one).float().cpu() for one in batches])
        units = [
            source.target or _class_seen(classifier, images[number * (frames - 1)])
            for number, source in enumerate(sources)
        ]
        measured = {str(unit): unit for unit in units if unit is not None}
        layers = tuple(dict.fromkeys(layer for unit in measured.values() for layer in unit.layers))
        rows = []
        for some in images.to(classifier.device).split(BATCH):
            activations = classifier.activations(some, layers)
            rows.append(torch.stack([unit.read(activations) for unit in measured.values()], 1).float().cpu())
    return Morph(
        images=images,
        codes=path,
        positions=positions,
        activations=torch.cat(rows),
        units=[unit.name for unit in measured.values()],
        names=list(names),
        settings=settings,
    )


def _class_seen(classifier: Classifier, image: Tensor) -> Target | None:
    """The class with the highest logit on an image `[3, H, W]`; None for a network without classes."""
    if not classifier.has_classes:
        return None
    logits = classifier(image[None].to(classifier.device))
    return parse_targets(int(logits.flatten(1).argmax()), classifier)[0] if logits.ndim == 2 else None  # type: ignore[return-value]


__all__ = ["Morph", "interpolate", "morph"]
