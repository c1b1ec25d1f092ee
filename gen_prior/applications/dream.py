"""DeepDream (Mordvintsev et al. 2015): a photograph changed into more of what a layer sees in it, octave by octave.

Pictures of any size are worked on in tiles of the classifier's input, laid out anew (wrapping around the
borders) a few times per octave: that is the jitter, it leaves no seams, and memory does not grow with the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.objectives import layer_l2
from gen_prior.optimise.edits.context import Context, Edit
from gen_prior.optimise.presets import preset
from gen_prior.optimise.resolve import TargetLike
from gen_prior.optimise.result import Result
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe

SCALE = 1.4
PUBLISHED = preset("deepdream2015")
"""Whose jitter is the layouts of the tiles here."""
HOLD = 3
"""Steps taken on one layout of tiles."""
SMALLEST = 32
Progress = Callable[[int, int, float], None]
"""(steps done, steps in all, the objective's mean over the tiles)."""


def objective_of(classifier: Classifier, layer: str | None, target: TargetLike | None) -> TargetLike:
    """What to climb: all of `layer`, or `target`. Raises `OptionError` unless exactly one is given."""
    if (layer is None) == (target is None):
        raise OptionError("a dream needs either a layer or a target", fix="--layer blocks.9, or --target goldfish")
    if layer is None:
        return target  # type: ignore[return-value]
    classifier.layer_shape(layer)
    return layer_l2(layer)


def octave_sizes(height: int, width: int, octaves: int, scale: float = SCALE) -> list[tuple[int, int]]:
    """Sizes from the smallest octave to the picture's own; those with a side below 32 pixels are left out.

    Raises `OptionError` for a picture that is too small itself, no octaves, or a scale that does not grow.
    """
    if octaves < 1:
        raise OptionError(f"octaves must be at least 1, got {octaves}")
    if not scale > 1:
        raise OptionError(f"the octave scale must be above 1, got {scale}")
    if min(height, width) < SMALLEST:
        raise OptionError(f"a dream needs an image of at least {SMALLEST} x {SMALLEST} pixels, got {width} x {height}")
    sizes = [(round(height / scale**octave), round(width / scale**octave)) for octave in range(octaves)]
    return [size for size in reversed(sizes) if min(size) >= SMALLEST]


def dream(
    classifier: Classifier,
    image: Tensor,
    layer: str | None = None,
    *,
    target: TargetLike | None = None,
    octaves: int = 4,
    scale: float = SCALE,
    steps: int = 12,
    strength: float = 1.0,
    tile: int | None = None,
    seed: int = 0,
    batch: int | None = None,
    precision: str = "auto",
    progress: Progress | None = None,
) -> Tensor:
    """A dreamed version of `image`, of the same size.

    Args:
        image: `[3, H, W]`, RGB, in [0, 1], at least 32 pixels each way.
        layer: the layer whose L2 norm is raised; or else `target`, a class, a unit or an objective.
        octaves, scale: number of sizes, each `scale` times the one before; the change made at one size is
            carried to the next, beside the picture's own detail there.
        steps: per octave.
        strength: factor on the published step, 1.5 of 255 in the mean.
        tile: side of the tiles; the classifier's own input where None. Convolutional networks only.
        seed: of the layouts of the tiles.

    Returns:
        `[3, H, W]` on the CPU.
    """
    goal = objective_of(classifier, layer, target)
    if steps < 1 or not strength > 0:
        raise OptionError(f"steps must be at least 1 and strength positive, got {steps} and {strength}")
    sizes = octave_sizes(int(image.shape[1]), int(image.shape[2]), octaves, scale)
    source = torch.Generator().manual_seed(seed)
    image = image.float().cpu()
    change = torch.zeros(3, *sizes[0])
    done, total = 0, len(sizes) * steps
    with _input_size(classifier, tile):
        for size in sizes:
            base = _resized(image, size)
            change = _resized(change, size)
            for first in range(0, steps, HOLD):
                count = min(HOLD, steps - first)
                picture = (base + change).clamp(0, 1)
                rate = PUBLISHED.rate * strength
                recipe = PUBLISHED.with_options(steps=count, rate=rate, final_rate=rate, transforms=())
                moved, score = _climb_tiles(classifier, picture, goal, source, recipe, batch, precision)
                change = moved - base
                done += count
                if progress is not None:
                    progress(done, total, score)
    return (image + change).clamp(0, 1)


def dream_frames(
    classifier: Classifier,
    image: Tensor,
    layer: str | None = None,
    *,
    frames: int = 10,
    zoom: float = 1.05,
    rotate: float = 0.0,
    seed: int = 0,
    progress: Callable[[int, int, int, int, float], None] | None = None,
    **options: object,
) -> Iterator[Tensor]:
    """The feedback loop: each frame is the dream of the last one, enlarged `zoom` times and turned `rotate` degrees.

    Yields `frames` pictures `[3, H, W]`, each as soon as it is done. `progress` is called as (frame, frames, steps
    done, steps, score); the other options are those of `dream`.
    """
    if frames < 1 or not 0 < zoom < math.inf:
        raise OptionError(f"frames must be at least 1 and zoom positive, got {frames} and {zoom}")
    if not math.isfinite(rotate):
        raise OptionError(f"rotate must be a number of degrees, got {rotate}")
    for frame in range(frames):
        if frame:
            image = turned(image, zoom, rotate)
        told = None if progress is None else _told(progress, frame, frames)
        image = dream(classifier, image, layer, seed=seed + frame, progress=told, **options)  # type: ignore[arg-type]
        yield image


def turned(image: Tensor, zoom: float, degrees: float) -> Tensor:
    """The picture `[3, H, W]` enlarged about its centre and turned; what lies beyond its border is reflected."""
    height, width = image.shape[1:]
    angle = math.radians(degrees)
    cos, sin, ratio = math.cos(angle) / zoom, math.sin(angle) / zoom, height / width
    grid = F.affine_grid(torch.tensor([[[cos, -sin * ratio, 0], [sin / ratio, cos, 0]]]), [1, 3, height, width], False)
    return F.grid_sample(image[None], grid, mode="bicubic", padding_mode="reflection", align_corners=False)[0].clamp(
        0, 1
    )


def dream_through(
    classifier: Classifier,
    generator: Generator,
    code: Tensor,
    layer: str | None = None,
    *,
    target: TargetLike | None = None,
    strength: float = 0.3,
    **options: object,
) -> Result:
    """Climb through a prior from the code of a photograph (`gen_prior.applications.encode.encode`), staying near it.

    `strength` is the dial: the furthest that the code may go from its start, in root mean square deviations of
    the prior. At 0.1 the picture keeps its layout, beyond 0.5 little is left of it. The other options are those of
    `synthesize`.
    """
    if not strength > 0:
        raise OptionError(f"strength must be positive, got {strength}")
    goal = objective_of(classifier, layer, target)
    # Staying near the start keeps codes plausible here; the recipe's own ways would pull away from it.
    recipe = generator.recipe.from_given_start().with_options(prior_weight=0.0, edits=(), shrink=1.0)
    edits = [stay_near(code, strength)]
    return synthesize(classifier, goal, generator, recipe=recipe, start=code, edits=edits, **options)  # type: ignore[arg-type]


def stay_near(start: Tensor, reach: float) -> Edit:
    """Edit: pull a code back to within `reach` deviations (root mean square over its numbers) of `start`."""

    def pull(code: Tensor, context: Context) -> Tensor:
        centre = start.to(code)
        std = torch.as_tensor(context.prior.std, dtype=code.dtype, device=code.device)
        away = (code - centre) / std
        distance = away.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (code.ndim - 1))
        return centre + away * std * (reach / distance.clamp_min(reach))

    return pull


def tile_places(height: int, width: int, tile: tuple[int, int], shift: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Rows and columns of tiles that cover the picture, shifted and wrapping around; small ones repeat."""
    axes = []
    for side, length, offset in zip((height, width), tile, shift, strict=True):
        count = max(1, math.ceil(side / length))
        axes.append([(torch.arange(length) + offset + index * side // count) % side for index in range(count)])
    return [(rows, columns) for rows in axes[0] for columns in axes[1]]


def _climb_tiles(
    classifier: Classifier,
    image: Tensor,
    goal: TargetLike,
    source: torch.Generator,
    recipe: Recipe,
    batch: int | None,
    precision: str,
) -> tuple[Tensor, float]:
    """The picture after a few steps on a fresh layout of tiles, and the tiles' mean score; overlaps are averaged."""
    tile = classifier.input_size
    height, width = image.shape[1:]
    shift = (int(torch.randint(height, (), generator=source)), int(torch.randint(width, (), generator=source)))
    places = tile_places(height, width, tile, shift)
    starts = torch.stack([image[:, rows[:, None], columns[None]] for rows, columns in places])
    canvas = Generator(
        lambda code: code, (3, *tile), output_range=(0, 1), code_min=0.0, code_max=1.0, name="tiles", domain="image"
    )
    result = synthesize(
        classifier, goal, canvas, seeds=len(places), start=starts[None], recipe=recipe, batch=batch, precision=precision
    )
    total, count = torch.zeros_like(image), torch.zeros(height, width)
    for (rows, columns), code in zip(places, result.codes[0], strict=True):
        where = (rows[:, None].expand(tile), columns[None].expand(tile))
        count.index_put_(where, torch.ones(tile), accumulate=True)
        for channel in range(3):
            total[channel].index_put_(where, code[channel], accumulate=True)
    return total / count, float(result.activations.mean())


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[1:]) == size:
        return image
    return F.interpolate(image[None], size, mode="bicubic", antialias=True, align_corners=False)[0]


def _told(progress: Callable[[int, int, int, int, float], None], frame: int, frames: int) -> Progress:
    return lambda done, total, score: progress(frame, frames, done, total, score)


class _input_size:  # noqa: N801
    """While open, the classifier takes images of another side; restored on leaving."""

    def __init__(self, classifier: Classifier, side: int | None) -> None:
        if side is not None and side < SMALLEST:
            raise OptionError(f"tiles must be at least {SMALLEST} pixels, got {side}")
        self.classifier, self.side, self.before = classifier, side, classifier.input_size

    def __enter__(self) -> None:
        if self.side is not None:
            self.classifier.input_size = (self.side, self.side)

    def __exit__(self, *_: object) -> None:
        self.classifier.input_size = self.before
