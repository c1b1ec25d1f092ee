"""Power spectra of images, beside those of natural photographs (power falls about as 1 / frequency squared)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from gen_prior.generators.shared.image_spectrum import colour_root, magnitude

BINS = 16


@dataclass(frozen=True)
class Spectrum:
    """Per image, `[B]`: share of the power above half the Nyquist frequency; slope of log power over log frequency."""

    high_frequency: Tensor
    slope: Tensor


def spectrum(images: Tensor) -> Spectrum:
    """Spectrum of images `[B, 3, H, W]`; the mean colour does not count."""
    pixels = images.detach().float().cpu()
    power = torch.fft.rfft2(pixels, norm="ortho").abs().square().mean(1)
    return _from_power(power, pixels.shape[-1])


def natural_spectrum(size: int) -> Spectrum:
    """Mean spectrum of natural photographs at `size` pixels, from the magnitudes in the package; values are `[1]`."""
    return _from_power(magnitude(size).float().square().mean(0, keepdim=True), size)


def natural_noise(count: int, size: tuple[int, int], *, seed: int = 0) -> Tensor:
    """Noise `[count, 3, H, W]` in [0, 1] with the spectrum and the colours of photographs; the same for a seed."""
    white = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    planes = torch.fft.irfft2(torch.fft.rfft2(white) * magnitude(*size), s=size)
    return (torch.einsum("rp,nphw->nrhw", colour_root(), planes) + 0.5).clamp(0, 1)


def _from_power(power: Tensor, width: int) -> Spectrum:
    """Spectrum from the power `[B, H, W // 2 + 1]` of a real Fourier transform."""
    rows, columns = torch.fft.fftfreq(power.shape[-2]), torch.fft.rfftfreq(width)
    radius = torch.sqrt(rows[:, None].square() + columns.square())
    twice = torch.full_like(columns, 2.0)  # all columns but the first and the Nyquist one stand for two
    twice[0] = 1.0
    if width % 2 == 0:
        twice[-1] = 1.0
    weight = twice.expand_as(radius) * (radius > 0)
    total = (power * weight).sum((1, 2)).clamp_min(1e-20)
    high = (power * weight * (radius > 0.25)).sum((1, 2)) / total
    return Spectrum(high, _slope(power, weight, radius, width))


def _slope(power: Tensor, weight: Tensor, radius: Tensor, width: int) -> Tensor:
    """Least-squares slope `[B]` through the mean power of bands of equal log width, two cycles per image to Nyquist."""
    lowest, highest = torch.log10(torch.tensor(2.0 / width)).item(), torch.log10(torch.tensor(0.5)).item()
    xs, ys = [], []
    for low, top in itertools.pairwise(torch.logspace(lowest, highest, BINS + 1)):
        inside = weight * ((radius >= low) & (radius < top))
        if inside.sum() > 0:
            xs.append((inside * radius).sum() / inside.sum())
            ys.append((power * inside).sum((1, 2)) / inside.sum())
    x, y = torch.stack(xs).log(), torch.stack(ys, 1).clamp_min(1e-20).log()
    x = x - x.mean()
    return (y * x).sum(1) / x.square().sum()
