"""Feature accentuation (Hamblin et al. 2024, arXiv 2402.10039): alter a photograph towards a unit, staying near it.

A unit's preferred input says what it responds to at most; an accentuated photograph says what it responds to in this
one. The penalty is the distance from the photograph in the features of a layer, so that the image stays one that the
network takes for nearly the same, and no pattern that only excites the unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gen_prior.applications.accentuation import Accentuated, Accentuation
from gen_prior.applications.encode import encode, square
from gen_prior.applications.photographs import as_seen
from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.generators.fourier import FourierImage
from gen_prior.objectives import Objective, activation
from gen_prior.objectives.expressions import parse_targets
from gen_prior.objectives.mixes import AnyTarget
from gen_prior.optimise.regularisers import Regulariser
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.util.progress import ProgressCallback, ProgressOption, labelled, progress_callback

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
    image: Tensor,
    targets: str | int | AnyTarget | Sequence[str | int | AnyTarget],
    generator: Generator | str = "fourier",
    *,
    layer: str = LAYER,
    nearness: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    batch: int | None = None,
    precision: str = "auto",
    progress: ProgressOption = None,
    record: Callable[[int, int, Tensor], None] | None = None,
) -> Accentuation:
    """Alter a photograph so that a unit responds more, while its features at a layer stay near (Hamblin et al. 2024).

    What is maximised is the activation, divided by the standard deviation of its layer over units and positions on the
    photograph, minus `nearness` times the squared distance at `layer` from the photograph, relative to the squared norm
    of its features there. A photograph that cannot be bettered so is returned as it is.

    Args:
        image: `[3, H, W]`, RGB, in [0, 1]; its centre is cropped and resized to the classifier's input size first.
        targets: as `parse_targets` takes them; each gives an image of its own.
        generator: "fourier", as published, or a prior, through which only images of the prior can come. Then all is
            relative to the prior's copy of the photograph, found by `encode`.
        layer: where the image stays near the photograph: shallow layers keep every edge, deep ones only what is shown.
        nearness: weight of the distance; 0 lets the image go wherever the unit responds most. If None, 20 in Fourier
            coefficients and 10 through a prior.
        steps: 100 in Fourier coefficients, 60 through a prior, if None.
        seed, batch, precision, record: as `synthesize` takes them.
        progress: as `synthesize` takes it.

    Raises:
        OptionError: a negative nearness, an image that is not `[3, H, W]`, or another image parameterisation.
        TargetError, UnknownNameError: no such target or layer.
    """
    classifier = as_classifier(classifier)
    report = progress_callback(progress)
    classifier.layer_shape(layer)
    generator = as_generator(generator).to(classifier.device)
    nearness = NEARNESS[generator.domain] if nearness is None else nearness
    if not 0 <= nearness < torch.inf:
        raise OptionError(f"nearness must be a finite number, not negative, got {nearness}")
    found = parse_targets(targets, classifier)
    generator = generator.fitted_to(classifier.input_size, len(classifier.mean))
    photograph = as_seen(classifier, square(image) if generator.domain == "code" else image, crop=1.0)
    code = _code(generator, photograph, seed, report)
    recipe = _recipe(generator, steps)
    with torch.no_grad():
        start = generator.final_images(code[None].to(classifier.device)).float()
    spreads = [_spread(classifier, target, start) for target in found]
    result = synthesize(
        classifier,
        [_objective(target, spread) for target, spread in zip(found, spreads, strict=True)],
        generator,
        seeds=[seed],
        recipe=recipe,
        start=code,
        regularisers=[near(classifier, start, layer, nearness)] if nearness else [],
        batch=batch,
        precision=precision,
        progress=report,
        record=record,
    )
    made = []
    for number, target in enumerate(found):
        image = result.images_of(number)[0]
        one = Accentuated(
            name=target.name,
            slug=target.slug,
            image=image,
            code=result.codes_of(number)[0],
            start_activation=float(result.start_activations[number, 0]),
            activation=float(result.activations[number, 0]),
            distance=float(relative_distance(classifier, image[None], start, layer)),
            pixel_distance=float((image - start[0].cpu()).square().mean().sqrt()),
        )
        made.append(one if one.gain(spreads[number], nearness) >= 0 else one.unaltered(start[0].cpu(), code))
    settings = {
        "classifier": classifier.describe(), "generator": generator.describe(), "layer": layer, "nearness": nearness,
        "seed": seed, "recipe": recipe.to_dict(),
    }  # fmt: skip
    return Accentuation(photograph, start[0].cpu(), made, settings)


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


def _code(generator: Generator, photograph: Tensor, seed: int, report: ProgressCallback | None) -> Tensor:
    """The code of the photograph. Raises `OptionError` for an image parameterisation without one."""
    if isinstance(generator.module, FourierImage):
        pixels = photograph[None].to(generator.device)
        grey = generator.channels == "L"
        return generator.module.code_of(pixels.mean(1, keepdim=True) if grey else pixels)[0].cpu()
    if generator.domain == "image" and not generator.can_encode:
        raise OptionError(f"{generator.name} cannot show a photograph", fix="use fourier, pixel or a prior")
    return encode(generator, photograph, seed=seed, progress=labelled(report, "the photograph's code"))


def _recipe(generator: Generator, steps: int | None) -> Recipe:
    if generator.domain == "image":
        return FOURIER.with_options(steps=FOURIER.steps if steps is None else steps)
    own = generator.recipe.from_given_start()
    return own.with_options(
        steps=STEPS_THROUGH if steps is None else steps, prior_weight=0.0, edits=(), shrink=1.0, scale="image"
    )


__all__ = ["Accentuated", "Accentuation", "accentuate"]
