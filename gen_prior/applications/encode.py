"""The code of a photograph: by the generator's encoder, or fitted by gradient descent (Lipton & Tripathi 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.objectives import Activations, Objective, match_image
from gen_prior.optimise.synthesize import synthesize
from gen_prior.util.image_io import AnyImage, as_image
from gen_prior.util.progress import ProgressOption
from gen_prior.util.resample import centre_crop


def encode(generator: Generator | str, image: AnyImage, **options: object) -> Tensor:
    """The code `[*code_shape]` of an image: by the generator's encoder, or else by `fit_code`.

    `image` is a tensor `[3, H, W]` in [0, 1], a PIL picture or a file. The code is on the CPU. `options` are those of
    `fit_code`. Raises `OptionError` if `image` is none of these, `ImageError` for a file that is no image.
    """
    generator = as_generator(generator)
    if generator.can_encode:
        return generator.encode(square(image)[None])[0].cpu()
    return fit_code(generator, image, **options)  # type: ignore[arg-type]


def fit_code(
    generator: Generator | str,
    image: AnyImage,
    classifier: Classifier | str | None = None,
    *,
    layer: str | None = None,
    steps: int = 200,
    rate: float = 0.1,
    prior_weight: float = 0.002,
    feature_weight: float = 0.05,
    seed: int = 0,
    progress: ProgressOption = None,
) -> Tensor:
    """Fit a code to `image` by gradient descent from the prior's mean (Lipton & Tripathi 2017).

    Args:
        image: `[3, H, W]`, RGB, in [0, 1], a PIL picture or a file; its largest centred square is fitted.
        classifier, layer: if given, the classifier's features at `layer` are matched too, which keeps the content
            if not every pixel can be matched. Only pixels if None.
        steps, rate: number of Adam steps and step size.
        prior_weight: weight of the code's penalty; larger is smoother and less exact.
        feature_weight: weight of the relative squared feature error against the mean squared pixel error.
        seed: of all random draws.
        progress: as `synthesize` takes it.

    Returns:
        `[*code_shape]`, on the CPU.

    Raises:
        OptionError: the image is not `[3, H, W]`, or only one of classifier and layer is given.
    """
    generator = as_generator(generator)
    classifier = None if classifier is None else as_classifier(classifier)
    if (classifier is None) != (layer is None):
        raise OptionError("fit_code takes both a classifier and a layer, or neither")
    picture = square(image)
    network = classifier if classifier is not None else _no_classifier(generator)
    generator.to(network.device)
    objective = pixels_of(picture, generator.image_shape())
    if classifier is not None and layer is not None:
        objective = objective + feature_weight * match_image(classifier, picture, layer)
    recipe = generator.recipe.with_options(
        steps=steps, optimiser="adam", rate=rate, prior_weight=prior_weight, transforms=(), regularisers=(), edits=(),
        shrink=1.0, code_noise=0.0, keep="last", score="activation",
    )  # fmt: skip
    start = (
        torch.as_tensor(generator.prior.mean, dtype=torch.float32, device="cpu").expand(generator.code_shape).clone()
    )
    result = synthesize(
        network, objective, generator, seeds=[seed], recipe=recipe, start=start, precision="fp32", progress=progress
    )
    return result.codes[0, 0]


def pixels_of(picture: Tensor, size: tuple[int, int]) -> Objective:
    """Objective: minus the mean squared error between the generated image and `picture` `[3, H, W]`, at `size`."""
    target = F.interpolate(picture[None], size, mode="bilinear", antialias=True, align_corners=False)[0]

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return -(image - target.to(image)).square().flatten(1).mean(1)

    return Objective(score, (), "pixels of an image")


def square(image: AnyImage) -> Tensor:
    """The largest centred square of an image, `[3, H, W]` in float32. Raises as `as_image` does."""
    picture = as_image(image)
    side = min(picture.shape[1:])
    return centre_crop(picture, side, side)


def _no_classifier(generator: Generator) -> Classifier:
    """A stand-in, since the optimisation needs a classifier even if the objective is of the image alone."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(network, mean=(0, 0, 0), std=(1, 1, 1), input_size=8, name="none", fold=False).to(
        generator.device
    )
