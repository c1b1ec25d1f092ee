"""The image itself as the code: no prior but the recipe's regularisers. The comparison every prior must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from gen_prior.generators.base import Generator, Provenance
from gen_prior.generators.checks import image_side
from gen_prior.recipe import Recipe

RAW = Recipe(rate=0.05, domain="image", source="Erhan et al. 2009: plain gradient ascent on the pixels, here by Adam")
REGULARISED = Recipe(
    rate=0.05,
    transforms=(("jitter", {"pixels": 8}),),
    regularisers=(("total_variation", {"weight": 200.0, "beta": 2.0}),),
    domain="image",
    source="Mahendran & Vedaldi 2015, arXiv 1412.0035: jitter, total variation, hard natural range",
)


def load(name: str = "pixel", *, image_size: int = 224) -> Generator:
    """Code `[3, H, W]` = RGB image in [0, 1], optimised under jitter and total variation."""
    return _pixels(name, image_size, REGULARISED)


def load_raw(name: str = "pixel-raw", *, image_size: int = 224) -> Generator:
    """Code `[3, H, W]` = RGB image in [0, 1], optimised without any regulariser."""
    return _pixels(name, image_size, RAW)


def _pixels(name: str, size: int, recipe: Recipe) -> Generator:
    image_side(size)
    shape = (3, size, size)

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
        recipe=recipe,
        start=start,
        encode=lambda images: torch.nn.functional.interpolate(images, shape[1:], mode="bilinear", antialias=True),
        provenance=Provenance(source="built in", paper="Mahendran & Vedaldi 2015, arXiv 1412.0035"),
        domain="image",
        options={"image_size": size},
    )
