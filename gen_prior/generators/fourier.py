"""Fourier mode: the code is the image's spectrum, scaled to 1/f, in decorrelated colours (Olah et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_prior.generators.base import Generator, Provenance
from gen_prior.generators.checks import image_side
from gen_prior.generators.natural import colour_root
from gen_prior.recipe import Recipe

PAPER = "Olah, Mordvintsev & Schubert 2017, Feature Visualization"
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
    """Spectrum `[B, 3, H, W // 2 + 1, 2]` -> RGB `[B, 3, H, W]` in (0, 1)."""

    scale: Tensor
    colour: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]
        frequency = torch.sqrt(rows.square() + columns.square()).clamp_min(1 / size)
        self.register_buffer("scale", (0.25 / frequency)[..., None])  # a quarter, as published
        root = colour_root()
        self.register_buffer("colour", root / root.norm(dim=1).max())

    def forward(self, code: Tensor) -> Tensor:
        spectrum = torch.view_as_complex((code * self.scale).float().contiguous())
        image = torch.fft.irfft2(spectrum, s=(self.size, self.size), norm="ortho")
        return torch.sigmoid(torch.einsum("ij,bjhw->bihw", self.colour.to(image.dtype), image))


def load(name: str = "fourier", *, image_size: int = 224) -> Generator:
    """Code `[3, H, W // 2 + 1, 2]`: real and imaginary parts of the spectrum, started near grey."""
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
