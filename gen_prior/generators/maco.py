"""MACO (Fel et al. 2023, arXiv 2306.06805), built in: the code is the phase of the image's spectrum.

Its magnitude is fixed to the mean magnitude of photographs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gen_prior.classifiers.base import LUMA
from gen_prior.generators.base import Generator, Provenance
from gen_prior.generators.shared.image_spectrum import colour_root, magnitude
from gen_prior.generators.shared.resizable import Fit, ImageSize, recorded_options, resizable_generator
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
    """Phases `[B, C, H, W // 2 + 1]` of decorrelated planes, in radians -> RGB, or grey, `[B, C, H, W]`, unclamped."""

    magnitude: Tensor
    colour: Tensor

    def __init__(self, height: int, width: int, channels: int = 3) -> None:
        super().__init__()
        self.size = (height, width)
        spectrum, root = magnitude(height, width), colour_root()
        if channels == 1:  # planes are independent, so their powers add up in the luma
            shares = (torch.tensor(LUMA) @ root).square().view(3, 1, 1)
            spectrum, root = (shares * spectrum.square()).sum(0, keepdim=True).sqrt(), torch.ones(1, 1)
        spectrum[:, 0, 0] = 0.0  # fixes the mean colour to grey: a phase could only switch its sign
        self.register_buffer("magnitude", spectrum)
        self.register_buffer("colour", root)

    def forward(self, code: Tensor) -> Tensor:
        return torch.einsum("ij,bjhw->bihw", self.colour, self.planes(code)) + 0.5

    def planes(self, code: Tensor) -> Tensor:
        """Decorrelated planes `[B, C, H, W]` of mean zero, with the same magnitudes for all phases."""
        phase = odd_phase(code.float(), even_width=self.size[1] % 2 == 0)
        spectrum = torch.polar(self.magnitude.float().expand_as(code), phase)
        return torch.fft.irfft2(spectrum, s=self.size, norm="ortho")


def odd_phase(phase: Tensor, *, even_width: bool = True) -> Tensor:
    """Phases `[..., H, W // 2 + 1]`, made odd along the first column, and the last one of an even width.

    The spectrum of a real image is so. Otherwise, the inverse transform averages each coefficient there with its
    conjugate partner, which changes the magnitude.
    """
    mirrored = phase.flip(-2).roll(1, -2)
    column = torch.arange(phase.shape[-1], device=phase.device)
    own = (column == 0) | ((column == phase.shape[-1] - 1) & even_width)
    return torch.where(own, phase - mirrored, phase)


def load(name: str = "maco", *, image_size: ImageSize = None, channels: int = 3) -> Generator:
    """The generator of codes `[channels, H, W // 2 + 1]`, phases in radians, at first uniform.

    Without `image_size`, size and channels are those of the classifier.
    """

    def build(size: tuple[int, int], channels: int, fit: Fit | None) -> Generator:
        shape = (channels, size[0], size[1] // 2 + 1)
        return Generator(
            PhaseImage(*size, channels),
            shape,
            output_range=(0, 1),
            channels="L" if channels == 1 else "RGB",
            code_std=math.pi / math.sqrt(3),
            name=name,
            recipe=RECIPE,
            start=lambda rng: (torch.rand(shape, generator=rng) * 2 - 1) * math.pi,
            fit=fit,
            provenance=Provenance(source="built in", paper=PAPER),
            domain="image",
            options=recorded_options(size, channels),
        )

    return resizable_generator(build, image_size, channels)
