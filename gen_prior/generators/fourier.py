"""Fourier images (Olah et al. 2017, Feature Visualization), built in: the code is the image's spectrum.

It is scaled by 1/f, of decorrelated colours, and a sigmoid keeps the image in (0, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_prior.generators.base import Generator, Provenance
from gen_prior.generators.shared.image_spectrum import colour_root
from gen_prior.generators.shared.resizable import Fit, ImageSize, recorded_options, resizable_generator
from gen_prior.hub import registry
from gen_prior.recipe import Recipe

PAPER = registry.find("fourier").paper
RECIPE = Recipe(
    rate=0.05,
    transforms=(
        ("jitter", {"pixels": 8, "side": 224}),
        ("affine", {"degrees": 10.0, "scale": (0.9, 1.1), "shift": 0.02}),
        ("jitter", {"pixels": 4, "side": 224}),
    ),
    domain="image",
    source=f"{PAPER}: Fourier basis, decorrelated colours, jitter, rotation and scale",
)


EDGE = 0.01
"""Darkest value of an image that is encoded: at 0 the sigmoid's code would be infinite, and nothing could change it."""


class FourierImage(nn.Module):
    """Spectrum `[B, C, H, W // 2 + 1, 2]` -> RGB, or grey for C = 1, `[B, C, H, W]`, in 0 to 1."""

    scale: Tensor
    colour: Tensor

    def __init__(self, height: int, width: int, channels: int = 3) -> None:
        super().__init__()
        self.size = (height, width)
        rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
        frequency = torch.sqrt(rows.square() + columns.square()).clamp_min(1 / max(height, width))
        self.register_buffer("scale", (0.25 / frequency)[..., None])  # the factor 1/4 as published
        root = colour_root() if channels == 3 else torch.ones(1, 1)
        self.register_buffer("colour", root / root.norm(dim=1).max())

    def forward(self, code: Tensor) -> Tensor:
        spectrum = torch.view_as_complex((code * self.scale).float().contiguous())
        image = torch.fft.irfft2(spectrum, s=self.size, norm="ortho")
        return torch.sigmoid(torch.einsum("ij,bjhw->bihw", self.colour.to(image.dtype), image))

    def code_of(self, images: Tensor) -> Tensor:
        """The codes of images `[B, C, H, W]`; black and white come out as `EDGE` and 1 - `EDGE`, which have codes."""
        planes = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(self.colour), images.float().logit(EDGE))
        return torch.view_as_real(torch.fft.rfft2(planes, norm="ortho")) / self.scale


def load(name: str = "fourier", *, image_size: ImageSize = None, channels: int = 3) -> Generator:
    """The generator of codes `[channels, H, W // 2 + 1, 2]`, at first near grey.

    Without `image_size`, size and channels are those of the classifier.
    """

    def build(size: tuple[int, int], channels: int, fit: Fit | None) -> Generator:
        shape = (channels, size[0], size[1] // 2 + 1, 2)
        return Generator(
            FourierImage(*size, channels),
            shape,
            output_range=(0, 1),
            channels="L" if channels == 1 else "RGB",
            code_std=1.0,
            name=name,
            recipe=RECIPE,
            start=lambda rng: 0.01 * torch.randn(shape, generator=rng),
            fit=fit,
            provenance=Provenance(source="built in", paper=PAPER),
            domain="image",
            options=recorded_options(size, channels),
        )

    return resizable_generator(build, image_size, channels)
