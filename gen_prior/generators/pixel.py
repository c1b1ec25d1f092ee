"""Pixels: the image itself is the code `[3, H, W]`, built in, without a learnt prior (the baseline of comparisons).

`pixel-raw` is plain gradient ascent (Erhan et al. 2009); `pixel` adds jitter and total variation (Mahendran & Vedaldi
2015).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.generators.base import Generator, Provenance
from gen_prior.generators.checks import image_side
from gen_prior.hub import registry
from gen_prior.recipe import Recipe

RECIPES = {
    "pixel-raw": Recipe(
        rate=0.05, domain="image", source=f"{registry.find('pixel-raw').paper}: gradient ascent on the pixels, by Adam"
    ),
    "pixel": Recipe(
        rate=0.05,
        transforms=(("jitter", {"pixels": 8}),),
        regularisers=(("total_variation", {"weight": 200.0, "beta": 2.0}),),
        domain="image",
        source=f"{registry.find('pixel').paper}: jitter, total variation, hard natural range",
    ),
}


def load(name: str = "pixel", *, image_size: int = 224) -> Generator:
    """The generator "pixel" or "pixel-raw" with codes `[3, image_size, image_size]`: RGB images in [0, 1]."""
    image_side(image_size)
    shape = (3, image_size, image_size)

    def start(source: torch.Generator) -> Tensor:
        return 0.5 + 0.01 * torch.randn(shape, generator=source)

    return Generator(
        lambda code: code,
        shape,
        output_range=(0, 1),
        code_mean=0.5,
        code_std=0.25,
        code_min=0.0,
        code_max=1.0,
        name=name,
        recipe=RECIPES[name],
        start=start,
        encode=lambda images: F.interpolate(images, shape[1:], mode="bilinear", antialias=True),
        provenance=Provenance(source="built in", paper=registry.find(name).paper),
        domain="image",
        options={"image_size": image_size},
    )
