"""Spectra, each against a case whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from gen_prior.report.spectrum import natural_noise, natural_spectrum, spectrum


def power_law(exponent: float, size: int = 64) -> torch.Tensor:
    """An image whose power falls as frequency to the `exponent`, with random phases."""
    rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)
    radius = torch.sqrt(rows.square() + columns.square()).clamp_min(1 / size)
    phase = torch.rand(3, *radius.shape, generator=torch.Generator().manual_seed(0)) * 2 * math.pi
    return torch.fft.irfft2(torch.polar(radius ** (exponent / 2) * torch.ones(3, 1, 1), phase), s=(size, size))[None]


@pytest.mark.parametrize("exponent", [0.0, -1.0, -2.0, -3.0])
def test_slope_of_a_power_law(exponent: float) -> None:
    assert spectrum(power_law(exponent)).slope.item() == pytest.approx(exponent, abs=0.15)


def test_high_frequencies_of_white_noise_fill_their_share_of_the_plane() -> None:
    noise = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    share = spectrum(noise).high_frequency
    assert share.tolist() == pytest.approx([1 - math.pi / 16] * 4, abs=0.02)


def test_a_single_wave_is_all_high_or_all_low() -> None:
    x = torch.arange(64) / 64
    low, high = torch.sin(2 * math.pi * 4 * x), torch.sin(2 * math.pi * 28 * x)
    waves = torch.stack([low, high])[:, None, None].expand(2, 3, 64, 64)
    torch.testing.assert_close(spectrum(waves).high_frequency, torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0)


def test_the_mean_colour_does_not_count() -> None:
    noise = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) / 2
    first, second = spectrum(noise), spectrum(noise + 0.4)
    torch.testing.assert_close(first.high_frequency, second.high_frequency)
    assert math.isfinite(spectrum(torch.full((1, 3, 32, 32), 0.3)).slope.item())


def test_photographs_are_near_the_reference_and_noise_is_not() -> None:
    from skimage import data

    photographs = torch.cat(
        [
            F.interpolate(
                torch.from_numpy(picture).movedim(-1, 0)[None] / 255, (224, 224), mode="bilinear", antialias=True
            )
            for picture in (data.astronaut(), data.chelsea(), data.coffee())
        ]
    )
    seen, reference = spectrum(photographs), natural_spectrum(224)
    assert (seen.slope - reference.slope).abs().max() < 0.5
    assert (seen.high_frequency / reference.high_frequency).log().abs().max() < math.log(3)
    noise = spectrum(torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    assert noise.high_frequency > 10 * reference.high_frequency
    assert noise.slope > reference.slope + 2


def test_natural_noise_has_the_spectrum_of_photographs() -> None:
    noise = natural_noise(8, (96, 96))
    seen, reference = spectrum(noise), natural_spectrum(96)
    assert seen.slope.mean().item() == pytest.approx(reference.slope.item(), abs=0.1)
    assert seen.high_frequency.mean().item() == pytest.approx(reference.high_frequency.item(), rel=0.3)
    assert torch.equal(noise, natural_noise(8, (96, 96)))
    assert not torch.equal(noise, natural_noise(8, (96, 96), seed=1))
    assert natural_noise(1, (36, 64)).shape == (1, 3, 36, 64)
