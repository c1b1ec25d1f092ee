"""Fourier images (Olah et al. 2017, Feature Visualization), built in: the code is the image's spectrum.

It is scaled by 1/f, of decorrelated colours, and a sigmoid keeps the image in (0, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_prior.generators.base import Generator, Provenance
from gen_prior.generators.checks import image_side
from gen_prior.generators.natural import colour_root
from gen_prior.hub import registry
from gen_prior.recipe import Recipe

PAPER = registry.find("fourier").paper
RECIPE = Recipe(
    rate=0.05,
    transforms=(
        ("jitter", {"pixels": 8}),
        ("affine", {"degrees": 10.0, "scale": (0.9, 1.1), "shift": 0.02}),
        ("jitter", {"pixels": 4}),
    ),
    domain="image",
    source=f"{PAPER}: Fourier basis, decorrelated colours, jitter, rotation and scale",
)


class FourierImage(nn.Module):
    """Spectrum `[B, 3, H, W // 2 + 1, 2]` (real and imaginary part) -> RGB `[B, 3, H, W]` in (0, 1)."""

    scale: Tensor
    colour: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]
        frequency = torch.sqrt(rows.square() + columns.square()).clamp_min(1 / size)
        self.register_buffer("scale", (0.25 / frequency)[..., None])  # the factor 1/4 as published
        root = colour_root()
        self.register_buffer("colour", root / root.norm(dim=1).max())

    def forward(self, code: Tensor) -> Tensor:
        spectrum = torch.view_as_complex((code * self.scale).float().contiguous())
        image = torch.fft.irfft2(spectrum, s=(self.size, self.size), norm="ortho")
        return torch.sigmoid(torch.einsum("ij,bjhw->bihw", self.colour.to(image.dtype), image))


def load(name: str = "fourier", *, image_size: int = 224) -> Generator:
    """The generator of codes `[3, H, W // 2 + 1, 2]`, at first near grey; `image_size` is even."""
    image_side(image_size, multiple=2)
    shape = (3, image_size, image_size // 2 + 1, 2)
    return Generator(
        FourierImage(image_size),
        shape,
        output_range=(0, 1),
        code_std=1.0,
        name=name,
        recipe=RECIPE,
        start=lambda source: 0.01 * torch.randn(shape, generator=source),
        provenance=Provenance(source="built in", paper=PAPER),
        domain="image",
        options={"image_size": image_size},
    )
