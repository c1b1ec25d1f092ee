"""Pixels: the image itself is the code `[3, H, W]`, or `[1, H, W]`, built in, without a learnt prior.

The pixel generators are the baseline of comparisons. `pixel-raw` is plain gradient ascent (Erhan et al. 2009); `pixel`
adds jitter and total variation (Mahendran & Vedaldi 2015).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.classifiers.base import luma
from gen_prior.generators.base import Generator, Provenance
from gen_prior.generators.shared.resizable import Fit, ImageSize, recorded_options, resizable_generator
from gen_prior.hub import registry
from gen_prior.recipe import Recipe

RECIPES = {
    "pixel-raw": Recipe(
        rate=0.05, domain="image", source=f"{registry.find('pixel-raw').paper}: gradient ascent on the pixels, by Adam"
    ),
    "pixel": Recipe(
        rate=0.05,
        transforms=(("jitter", {"pixels": 8, "side": 224}),),
        regularisers=(("total_variation", {"weight": 200.0, "beta": 2.0}),),
        domain="image",
        source=f"{registry.find('pixel').paper}: jitter, total variation, hard natural range",
    ),
}


def load(name: str = "pixel", *, image_size: ImageSize = None, channels: int = 3) -> Generator:
    """The generator "pixel" or "pixel-raw" with codes `[channels, H, W]`: images in [0, 1].

    Without `image_size`, size and channels are those of the classifier.
    """

    def build(size: tuple[int, int], channels: int, fit: Fit | None) -> Generator:
        shape = (channels, *size)

        def encode(images: Tensor) -> Tensor:
            fitted = F.interpolate(images, size, mode="bilinear", antialias=True)
            return luma(fitted) if channels == 1 else fitted

        return Generator(
            lambda code: code,
            shape,
            output_range=(0, 1),
            channels="L" if channels == 1 else "RGB",
            code_mean=0.5,
            code_std=0.25,
            code_min=0.0,
            code_max=1.0,
            name=name,
            recipe=RECIPES[name],
            start=lambda rng: 0.5 + 0.01 * torch.randn(shape, generator=rng),
            encode=encode,
            fit=fit,
            provenance=Provenance(source="built in", paper=registry.find(name).paper),
            domain="image",
            options=recorded_options(size, channels),
        )

    return resizable_generator(build, image_size, channels)
