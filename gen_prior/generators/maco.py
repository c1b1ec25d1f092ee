"""MACO (Fel et al. 2023, arXiv 2306.06805), built in: the code is the phase of the image's spectrum.

Its magnitude is fixed to the mean magnitude of photographs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gen_prior.generators.base import Generator, Provenance
from gen_prior.generators.checks import image_side
from gen_prior.generators.natural import colour_root, magnitude
from gen_prior.hub import registry
from gen_prior.recipe import Recipe

PAPER = registry.find("maco").paper
WINDOWS = ("affine", {"scale": (1.2, 2.0), "shift": 0.2})
"""Random windows of 0.5 to 0.83 of the side."""
RECIPE = Recipe(
    rate=0.1,
    transforms=(WINDOWS, ("noise", {"deviation": 0.05})),
    domain="image",
    source=f"{PAPER}: random windows and noise",
)


class PhaseImage(nn.Module):
    """Phases `[B, 3, H, W // 2 + 1]` of decorrelated colour planes, in radians -> RGB `[B, 3, H, W]`, not clamped."""

    magnitude: Tensor
    colour: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        spectrum = magnitude(size)
        spectrum[:, 0, 0] = 0.0  # fixes the mean colour to grey: a phase could only switch its sign
        self.register_buffer("magnitude", spectrum)
        self.register_buffer("colour", colour_root())

    def forward(self, code: Tensor) -> Tensor:
        return torch.einsum("ij,bjhw->bihw", self.colour, self.planes(code)) + 0.5

    def planes(self, code: Tensor) -> Tensor:
        """Decorrelated planes `[B, 3, H, W]` of mean zero, with the same magnitudes for all phases."""
        spectrum = torch.polar(self.magnitude.float().expand_as(code), odd_phase(code.float()))
        return torch.fft.irfft2(spectrum, s=(self.size, self.size), norm="ortho")


def odd_phase(phase: Tensor) -> Tensor:
    """Phases `[..., H, W // 2 + 1]`, made odd along the first and last column as in the spectrum of a real image.

    Otherwise, the inverse transform averages each coefficient there with its conjugate partner, which changes the
    magnitude.
    """
    mirrored = phase.flip(-2).roll(1, -2)
    column = torch.arange(phase.shape[-1], device=phase.device)
    own = (column == 0) | (column == phase.shape[-1] - 1)
    return torch.where(own, phase - mirrored, phase)


def load(name: str = "maco", *, image_size: int = 224) -> Generator:
    """The generator of codes `[3, H, W // 2 + 1]`, phases in radians, at first uniform; `image_size` is even."""
    image_side(image_size, multiple=2)
    shape = (3, image_size, image_size // 2 + 1)
    return Generator(
        PhaseImage(image_size),
        shape,
        output_range=(0, 1),
        code_std=math.pi / math.sqrt(3),
        name=name,
        recipe=RECIPE,
        start=lambda source: (torch.rand(shape, generator=source) * 2 - 1) * math.pi,
        provenance=Provenance(source="built in", paper=PAPER),
        domain="image",
        options={"image_size": image_size},
    )
