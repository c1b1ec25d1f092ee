"""DeepDream (Mordvintsev et al. 2015): a photograph is changed so that a layer responds more, octave by octave.

Images of any size are optimised in tiles of the classifier's input size. The grid of tiles is shifted at random,
wrapping around the borders, every few steps: this is DeepDream's jitter, leaves no seams, and keeps memory constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior import objectives
from gen_prior.applications.dream_folder import DreamFolder, dream_settings
from gen_prior.applications.dream_tiles import SCALE, octave_sizes, optimise_tiles, tile_size, turned
from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.generators.shared.checks import whole_number
from gen_prior.objectives import layer_l2
from gen_prior.optimise.edits.context import Context, Edit
from gen_prior.optimise.presets import preset
from gen_prior.optimise.resolve import TargetLike
from gen_prior.optimise.result import Result
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import MOST
from gen_prior.report.film import MOST_FRAMES, check_film
from gen_prior.util.folders import run_writer
from gen_prior.util.image_io import AnyImage, as_image
from gen_prior.util.progress import Progress, ProgressCallback, ProgressOption, progress_callback
from gen_prior.util.random import check_seed

PUBLISHED = preset("deepdream2015")
"""The published recipe; its jitter is replaced by the shifts of the tiles."""
STEPS_PER_LAYOUT = 3
"""Gradient steps before the tiles are shifted again."""


STYLE_LAYERS = ("stem", "blocks.1", "blocks.2", "blocks.4")
"""Shallow layers of the embedded classifiers, whose Gram matrices hold strokes and colours, not objects."""


def objective_of(
    classifier: Classifier,
    layer: str | None,
    target: TargetLike | None,
    guide: AnyImage | None = None,
    style: AnyImage | None = None,
    style_layers: Sequence[str] = STYLE_LAYERS,
) -> TargetLike:
    """The objective of a dream; see `dream`. Raises `OptionError` unless exactly one thing is asked for."""
    asked = [name for name, given in (("target", target), ("guide", guide), ("style", style)) if given is not None]
    asked += ["layer"] if layer is not None and guide is None else []
    if len(asked) != 1 or (guide is not None and layer is None):
        what = f", not {' and '.join(asked)}" if len(asked) > 1 else ""
        raise OptionError(
            f"a dream needs either a layer or a target, a guide with its layer, or a style{what}",
            fix="--layer blocks.9, or --target goldfish",
        )
    if layer is not None:
        classifier.layer_shape(layer)
    if guide is not None and layer is not None:
        return objectives.guide(classifier, guide, layer)
    if style is not None:
        return objectives.style(classifier, style, style_layers)
    return layer_l2(layer) if layer is not None else target  # type: ignore[return-value]


def dream(
    classifier: Classifier | str,
    image: AnyImage,
    layer: str | None = None,
    *,
    target: TargetLike | None = None,
    guide: AnyImage | None = None,
    style: AnyImage | None = None,
    style_layers: Sequence[str] = STYLE_LAYERS,
    octaves: int = 4,
    scale: float = SCALE,
    steps: int = 12,
    strength: float = 1.0,
    tile: int | None = None,
    seed: int = 0,
    batch: int | None = None,
    precision: str = "auto",
    progress: ProgressOption = None,
) -> Tensor:
    """DeepDream: change `image` so that `layer` or `target` responds more, octave by octave (Mordvintsev et al. 2015).

    Args:
        image: `[3, H, W]`, RGB, in [0, 1], a PIL picture or a file, at least 32 pixels each way.
        layer: the layer whose L2 norm is maximised; or else `target`, a class, a unit or an objective.
        guide: another image: at each place of `layer`, what the guide has most like it there is maximised
            (guided dreaming, `objectives.guide`).
        style: another image, whose texture and colours the picture takes on: its Gram matrices at `style_layers`
            are matched (Gatys et al. 2016, `objectives.style`), by the same steps, which keep the picture's content.
        octaves, scale: number of sizes, each `scale` times the one before. The change made at one size is enlarged
            and added to the image at the next.
        steps: gradient steps per octave.
        strength: factor on the published step size, a mean change of 1.5 / 255 per step.
        tile: side of the tiles; the classifier's own input size if None. Convolutional networks only.
        seed: of the random shifts of the tiles.
        batch, precision: as `synthesize` takes them.
        progress: as `synthesize` takes it, in steps; `activations` are the objective on each tile.

    Returns:
        `[3, H, W]`, in [0, 1], on the CPU.

    Raises:
        OptionError: not exactly one of `layer`, `target`, `guide` and `style`, an image that is too small, an option
            out of range.
        TargetError, UnknownNameError: no such target or layer.
    """
    classifier = as_classifier(classifier)
    report = progress_callback(progress, lambda p: (p.done, p.total, _mean(p)))
    objective = objective_of(classifier, layer, target, guide, style, style_layers)
    whole_number("steps", steps, least=1, most=MOST["steps"])
    if not strength > 0:
        raise OptionError(f"strength must be positive, got {strength}")
    image = as_image(image)
    sizes = octave_sizes(int(image.shape[1]), int(image.shape[2]), octaves, scale)
    source = torch.Generator().manual_seed(check_seed(seed))
    image = image.cpu()
    change = torch.zeros(3, *sizes[0])
    done, total = 0, len(sizes) * steps
    with tile_size(classifier, tile):
        for size in sizes:
            base = _resized(image, size)
            change = _resized(change, size)
            for first in range(0, steps, STEPS_PER_LAYOUT):
                count = min(STEPS_PER_LAYOUT, steps - first)
                rate = PUBLISHED.rate * strength
                recipe = PUBLISHED.with_options(steps=count, rate=rate, final_rate=rate, transforms=(), scale="image")
                moved, activations = optimise_tiles(
                    classifier, (base + change).clamp(0, 1), objective, source, recipe, batch, precision
                )
                change = moved - base
                done += count
                if report is not None:
                    report(Progress(done, total, f"{size[0]} x {size[1]} px", activations))
    return (image + change).clamp(0, 1)


def dream_frames(
    classifier: Classifier | str,
    image: AnyImage,
    layer: str | None = None,
    *,
    frames: int = 10,
    zoom: float = 1.05,
    rotate: float = 0.0,
    seed: int = 0,
    target: TargetLike | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    film: str = "gif",
    fps: float = 12.0,
    progress: ProgressOption = None,
    **options: object,
) -> Iterator[Tensor]:
    """Dream repeatedly: each frame is the dream of the last one, enlarged `zoom` times and turned `rotate` degrees.

    Args:
        image, layer, target, seed: as `dream` takes them; frame number n has the seed `seed + n`.
        frames: the number of frames.
        zoom, rotate: factor and degrees from one frame to the next.
        out: a folder. Each frame is written to it as soon as it is done (`frame-0000.png`, ..., the last one also as
            `dream.png`); at the end, and where the loop is left, a film and a strip. A folder that holds the first
            frames of the same dream is continued, with another run it is refused.
        overwrite: replace the run in `out` instead, whichever it is.
        film, fps: kind of the film ("gif", "webp" or "mp4"), and its frames per second.
        progress: as `synthesize` takes it, in steps over all frames.
        options: other options of `dream`.

    Yields:
        `frames` images `[3, H, W]`, in [0, 1], each as soon as it is done. Those that `out` held before come first, as
        they are in their PNG.

    Raises:
        GenPriorError: as `dream` does; a folder that holds another run or cannot be written to; a film of an unknown
            kind.
    """
    classifier, image = as_classifier(classifier), as_image(image)
    options |= {name: as_image(options[name]) for name in ("guide", "style") if options.get(name) is not None}  # type: ignore[arg-type]
    report = progress_callback(progress, lambda p: _frame_progress(p, frames))
    whole_number("frames", frames, least=1, most=MOST_FRAMES)
    if not 0 < zoom < math.inf:
        raise OptionError(f"zoom must be positive, got {zoom}")
    if not math.isfinite(rotate):
        raise OptionError(f"rotate must be a number of degrees, got {rotate}")
    check_film(f"dream.{film}", fps)
    seed = check_seed(seed)
    check_seed(seed + frames - 1)
    settings = {"layer": layer, "zoom": zoom, "rotate": rotate, "seed": seed} | options
    with run_writer(out) if out is not None else nullcontext() as place:
        described = dream_settings(classifier, image, target, settings)
        folder = DreamFolder(place, described, frames, overwrite=overwrite) if place is not None else None
        try:
            for frame in range(frames):
                if folder is not None and frame < folder.finished:
                    image = folder.frame(frame)
                else:
                    image = turned(image, zoom, rotate) if frame else image
                    part = None if report is None else _part(report, frame, frames)
                    image = dream(
                        classifier, image, layer, target=target, seed=seed + frame, progress=part, **options,  # type: ignore[arg-type]
                    )  # fmt: skip
                    if folder is not None:
                        folder.write(image)
                yield image
        finally:  # after Ctrl-C too: a film of the finished frames
            if folder is not None:
                folder.animate(film, fps)


def _part(report: ProgressCallback, frame: int, frames: int) -> ProgressCallback:
    label = f"frame {frame + 1} of {frames}"
    return lambda step: report(step.within(frame * step.total, frames * step.total, label))


def _frame_progress(progress: Progress, frames: int) -> tuple[int, int, int, int, float]:
    """The arguments of a 0.1 callback: frame, frames, steps done, steps, mean activation."""
    steps = progress.total // frames
    frame = (progress.done - 1) // steps
    return frame, frames, progress.done - frame * steps, steps, _mean(progress)


def _mean(progress: Progress) -> float:
    return float(progress.activations.mean()) if progress.activations is not None else math.nan


def dream_through(
    classifier: Classifier | str,
    generator: Generator | str,
    code: Tensor,
    layer: str | None = None,
    *,
    target: TargetLike | None = None,
    guide: AnyImage | None = None,
    style: AnyImage | None = None,
    style_layers: Sequence[str] = STYLE_LAYERS,
    strength: float = 0.3,
    **options: object,
) -> Result:
    """Dream by moving the code of a photograph (see `encode`) through a generator, staying near the photograph.

    Args:
        code: `[*code_shape]`, the start.
        layer: the layer whose L2 norm is maximised; or else `target`, `guide` or `style`, as `dream` takes them.
        strength: the largest distance of the code from its start, as the root mean square over its dimensions in
            standard deviations of the prior. At 0.1 the image keeps its layout, beyond 0.5 little of it is left.
        options: those of `synthesize`.

    Returns:
        A `Result` of one target.

    Raises:
        OptionError: `strength` is not positive, or not exactly one of `layer` and `target` is given.
    """
    classifier, generator = as_classifier(classifier), as_generator(generator)
    if not strength > 0:
        raise OptionError(f"strength must be positive, got {strength}")
    objective = objective_of(classifier, layer, target, guide, style, style_layers)
    # Staying near the start keeps codes plausible; the recipe's own penalties would pull them away from it.
    recipe = generator.recipe.from_given_start().with_options(prior_weight=0.0, edits=(), shrink=1.0, scale="image")
    edits = [stay_near(code, strength)]
    return synthesize(classifier, objective, generator, recipe=recipe, start=code, edits=edits, **options)  # type: ignore[arg-type]


def stay_near(start: Tensor, radius: float) -> Edit:
    """Edit that projects codes to within `radius` of `start`: root mean square over dimensions, in prior stds."""

    def pull(code: Tensor, context: Context) -> Tensor:
        centre = start.to(code)
        std = torch.as_tensor(context.prior.std, dtype=code.dtype, device=code.device)
        away = (code - centre) / std
        distance = away.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (code.ndim - 1))
        return centre + away * std * (radius / distance.clamp_min(radius))

    return pull


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[1:]) == size:
        return image
    return F.interpolate(image[None], size, mode="bicubic", antialias=True, align_corners=False)[0]


__all__ = ["dream", "dream_frames", "dream_through", "objective_of", "stay_near", "turned"]
