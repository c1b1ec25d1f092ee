"""The code of a photograph: from the generator's encoder, or fitted through the loop (Lipton & Tripathi 2017)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.objectives import Activations, Objective, match_image
from gen_prior.optimise.synthesize import synthesize
from gen_prior.util.resample import centre_crop


def encode(generator: Generator, image: Tensor, **options: object) -> Tensor:
    """The code `[*code_shape]` of `image` (`[3, H, W]`): by the generator's encoder where it has one, else fitted."""
    if generator.can_encode:
        return generator.encode(square(image)[None])[0].cpu()
    return fit_code(generator, image, **options)  # type: ignore[arg-type]


def fit_code(
    generator: Generator,
    image: Tensor,
    classifier: Classifier | None = None,
    *,
    layer: str | None = None,
    steps: int = 200,
    rate: float = 0.1,
    prior_weight: float = 0.002,
    feature_weight: float = 0.05,
    seed: int = 0,
    progress: Callable[[int, int, int, int, Tensor], None] | None = None,
) -> Tensor:
    """The code whose picture is nearest to `image`, found by gradient descent from the prior's mean.

    Args:
        image: `[3, H, W]`, RGB, in [0, 1]; its largest centred square is what is fitted.
        classifier, layer: where given, the classifier's features at `layer` are matched too, which keeps
            what the picture shows when its every pixel cannot be had. Only pixels where None.
        prior_weight: of the code's penalty; larger is smoother and less exact.
        feature_weight: of the relative squared error of the features, against the mean squared error of pixels.

    Returns:
        `[*code_shape]`, on the CPU.

    Raises:
        OptionError: the image is not `[3, H, W]`, or a layer is given without a classifier.
    """
    if (classifier is None) != (layer is None):
        raise OptionError("fit_code takes a classifier together with one of its layers, or neither")
    picture = square(image)
    eyes = classifier if classifier is not None else _no_classifier(generator)
    generator.to(eyes.device)
    goal = pixels_of(picture, generator.image_shape())
    if classifier is not None and layer is not None:
        goal = goal + feature_weight * match_image(classifier, picture, layer)
    recipe = generator.recipe.with_options(
        steps=steps, optimiser="adam", rate=rate, prior_weight=prior_weight, transforms=(), regularisers=(), edits=(),
        shrink=1.0, code_noise=0.0, keep="last", score="activation",
    )  # fmt: skip
    start = (
        torch.as_tensor(generator.prior.mean, dtype=torch.float32, device="cpu").expand(generator.code_shape).clone()
    )
    result = synthesize(
        eyes, goal, generator, seeds=[seed], recipe=recipe, start=start, precision="fp32", progress=progress
    )
    return result.codes[0, 0]


def pixels_of(picture: Tensor, size: tuple[int, int]) -> Objective:
    """Minus the mean squared error of the generated image against `picture` `[3, H, W]`, at `size`."""
    wanted = F.interpolate(picture[None], size, mode="bilinear", antialias=True, align_corners=False)[0]

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return -(image - wanted.to(image)).square().flatten(1).mean(1)

    return Objective(score, (), "pixels of an image")


def square(image: Tensor) -> Tensor:
    """The largest centred square of `image` `[3, H, W]`, float32. Raises `OptionError` for another shape."""
    if image.ndim != 3 or image.shape[0] != 3 or min(image.shape) < 1:
        raise OptionError(f"an image must be RGB, [3, H, W], got {list(image.shape)}")
    side = min(image.shape[1:])
    return centre_crop(image, side, side).float()


def _no_classifier(generator: Generator) -> Classifier:
    """Looks at nothing: the loop needs a classifier even where the score is of the image alone."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(network, mean=(0, 0, 0), std=(1, 1, 1), input_size=8, name="none", fold=False).to(
        generator.device
    )


__all__ = ["encode", "fit_code", "pixels_of", "square"]
