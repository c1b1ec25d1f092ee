"""MACO (Fel et al. 2023, arXiv 2306.06805): only the phase is optimised, the magnitude is that of photographs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gen_prior.generators.base import Generator, Provenance
from gen_prior.generators.checks import image_side
from gen_prior.generators.natural import colour_root, magnitude
from gen_prior.recipe import Recipe

PAPER = "Fel et al. 2023, MACO, arXiv 2306.06805"
RECIPE = Recipe(
    rate=0.1,
    transforms=(("affine", {"degrees": 0.0, "scale": (1.2, 2.0), "shift": 0.2}), ("noise", {"deviation": 0.05})),
    domain="image",
    source=f"{PAPER}: random windows and noise",
)


class PhaseImage(nn.Module):
    """Phases `[B, 3, H, W // 2 + 1]` in radians, of decorrelated planes -> RGB `[B, 3, H, W]`, before clamping."""

    magnitude: Tensor
    colour: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        spectrum = magnitude(size)
        spectrum[:, 0, 0] = 0.0  # the mean colour is grey: no phase could change it smoothly
        self.register_buffer("magnitude", spectrum)
        self.register_buffer("colour", colour_root())

    def forward(self, code: Tensor) -> Tensor:
        return torch.einsum("ij,bjhw->bihw", self.colour, self.planes(code)) + 0.5

    def planes(self, code: Tensor) -> Tensor:
        """The decorrelated planes `[B, 3, H, W]`, of mean zero: whatever the phases, the magnitudes are the same."""
        spectrum = torch.polar(self.magnitude.float().expand_as(code), odd_phase(code.float()))
        return torch.fft.irfft2(spectrum, s=(self.size, self.size), norm="ortho")


def odd_phase(phase: Tensor) -> Tensor:
    """Phases `[..., H, W // 2 + 1]` as a real image has them: odd along the two columns that are their own mirror.

    Without this, the inverse transform averages each coefficient there with its conjugate partner, which
    changes the magnitude that the method promises to keep.
    """
    mirrored = phase.flip(-2).roll(1, -2)
    column = torch.arange(phase.shape[-1], device=phase.device)
    own = (column == 0) | (column == phase.shape[-1] - 1)
    return torch.where(own, phase - mirrored, phase)


def load(name: str = "maco", *, image_size: int = 224) -> Generator:
    """Code `[3, H, W // 2 + 1]`: the phase of every frequency, started at random."""
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
