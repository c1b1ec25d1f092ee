"""Feature accentuation (Hamblin et al. 2024, arXiv 2402.10039): alter a photograph towards a unit, staying near it.

A unit's preferred input says what it responds to at most; an accentuated photograph says what it responds to in this
one. The penalty is the distance from the photograph in the features of a layer, so that the image stays one that the
network takes for nearly the same, and no pattern that only excites the unit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from gen_prior.applications.accentuation import Accentuated, Accentuation
from gen_prior.applications.accentuation_folder import AccentuationFolder
from gen_prior.applications.accentuation_run import FPS, AccentuationRun
from gen_prior.applications.encode import encode, square
from gen_prior.applications.photographs import as_seen
from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.generators.fourier import FourierImage
from gen_prior.objectives.expressions import parse_targets
from gen_prior.objectives.mixes import AnyTarget
from gen_prior.recipe import Recipe
from gen_prior.report.animation import check_film
from gen_prior.util.folders import run_writer
from gen_prior.util.image_io import AnyImage, as_image
from gen_prior.util.progress import ProgressCallback, ProgressOption, labelled, progress_callback
from gen_prior.util.random import check_seed

LAYER = "blocks.4"
NEARNESS = {"image": 20.0, "code": 10.0}
"""By the domain of the generator: every image of a prior is plausible, so it needs less."""
FOURIER = Recipe(
    steps=100,
    rate=0.01,
    transforms=(("jitter", {"pixels": 8}), ("affine", {"degrees": 5.0, "scale": (0.95, 1.15), "shift": 0.02})),
    scale="image",
    domain="image",
    source="after Hamblin et al. 2024, arXiv 2402.10039",
)
"""Settings in Fourier coefficients; random views, so that the change does not hang on single pixels. At larger rates
the same distance buys less activation, and smooth pictures become grainy."""
STEPS_THROUGH = 60


def accentuate(
    classifier: Classifier | str,
    image: AnyImage,
    targets: str | int | AnyTarget | Sequence[str | int | AnyTarget],
    generator: Generator | str = "fourier",
    *,
    layer: str = LAYER,
    nearness: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    batch: int | None = None,
    precision: str = "auto",
    out: str | Path | None = None,
    overwrite: bool = False,
    film: str | None = None,
    progress: ProgressOption = None,
    record: Callable[[int, int, Tensor], None] | None = None,
) -> Accentuation:
    """Alter a photograph so that a unit responds more, while its features at a layer stay near (Hamblin et al. 2024).

    What is maximised is the activation, divided by the standard deviation of its layer over units and positions on the
    photograph, minus `nearness` times the squared distance at `layer` from the photograph, relative to the squared norm
    of its features there. A photograph that cannot be bettered so is returned as it is.

    Args:
        image: `[3, H, W]`, RGB, in [0, 1], a PIL picture or a file; its centre is cropped and resized to the
            classifier's input size first.
        targets: as `parse_targets` takes them; each gives an image of its own.
        generator: "fourier", as published, or a prior, through which only images of the prior can come. Then all is
            relative to the prior's copy of the photograph, found by `encode`.
        layer: where the image stays near the photograph: shallow layers keep every edge, deep ones only what is shown.
        nearness: weight of the distance; 0 lets the image go wherever the unit responds most. If None, 20 in Fourier
            coefficients and 10 through a prior.
        steps: 100 in Fourier coefficients, 60 through a prior, if None.
        seed, batch, precision, record: as `synthesize` takes them.
        out: a folder, as `Accentuation.save` writes it, after each batch of targets. One that holds a part of the same
            accentuation is continued, with another run it is refused.
        overwrite: replace the run in `out` instead, whichever it is.
        film: "gif", "webp" or "mp4": also write a film and a strip of each image; needs `out`. Images that are finished
            without films are made again.
        progress: as `synthesize` takes it.

    Raises:
        OptionError: a negative nearness, an image that is not `[3, H, W]`, or another image parameterisation.
        TargetError, UnknownNameError: no such target or layer.
        GenPriorError: a folder that holds another run, or that cannot be written to.
    """
    classifier = as_classifier(classifier)
    report = progress_callback(progress)
    classifier.layer_shape(layer)
    generator = as_generator(generator).to(classifier.device)
    nearness = NEARNESS[generator.domain] if nearness is None else nearness
    if not 0 <= nearness < torch.inf:
        raise OptionError(f"nearness must be a finite number, not negative, got {nearness}")
    if film is not None:
        check_film(f"x.{film}", FPS)
        if out is None:
            raise OptionError("a film needs a folder, which is not given", fix="pass out=")
    found = parse_targets(targets, classifier)
    generator = generator.fitted_to(classifier.input_size, len(classifier.mean))
    seed = check_seed(seed)
    photograph = as_seen(classifier, square(image) if generator.domain == "code" else as_image(image), crop=1.0)
    recipe = _recipe(generator, steps)
    settings = {
        "classifier": classifier.describe(), "generator": generator.describe(), "layer": layer, "nearness": nearness,
        "seed": seed, "recipe": recipe.to_dict(), "targets": [str(target) for target in found],
        "photograph_sha256": hashlib.sha256(photograph.contiguous().numpy().tobytes()).hexdigest(),
    }  # fmt: skip
    with run_writer(out) if out is not None else nullcontext() as place:
        folder = None if place is None else AccentuationFolder(place, settings, overwrite=overwrite)
        code = _code(generator, photograph, seed, report, folder)
        run = AccentuationRun(
            classifier, generator, recipe, photograph, code, layer, nearness, seed, batch, precision, film
        )
        return run.all(found, settings, folder, report, record)


def _code(
    generator: Generator,
    photograph: Tensor,
    seed: int,
    report: ProgressCallback | None,
    folder: AccentuationFolder | None,
) -> Tensor:
    """The code of the photograph. Raises `OptionError` for an image parameterisation without one."""
    if isinstance(generator.module, FourierImage):
        pixels = photograph[None].to(generator.device)
        grey = generator.channels == "L"
        return generator.module.code_of(pixels.mean(1, keepdim=True) if grey else pixels)[0].cpu()
    if generator.domain == "image" and not generator.can_encode:
        raise OptionError(f"{generator.name} cannot show a photograph", fix="use fourier, pixel or a prior")

    def found() -> Tensor:
        return encode(generator, photograph, seed=seed, progress=labelled(report, "the photograph's code"))

    return found() if folder is None else folder.start_code(found)


def _recipe(generator: Generator, steps: int | None) -> Recipe:
    if generator.domain == "image":
        return FOURIER.with_options(steps=FOURIER.steps if steps is None else steps)
    own = generator.recipe.from_given_start()
    return own.with_options(
        steps=STEPS_THROUGH if steps is None else steps, prior_weight=0.0, edits=(), shrink=1.0, scale="image"
    )


__all__ = ["Accentuated", "Accentuation", "accentuate"]
