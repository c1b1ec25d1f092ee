"""Fourier mode: the code is the spectrum, divided by frequency, in decorrelated colours."""

from __future__ import annotations

import pytest
import torch

import gen_prior as gp
from gen_prior.errors import OptionError
from gen_prior.generators import load_generator
from gen_prior.generators.shared.image_spectrum import colour_root


def layers_of(images: torch.Tensor) -> torch.Tensor:
    """Images -> the decorrelated planes they were made of, `[B, 3, H, W]`."""
    return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(colour_root()), torch.logit(images))


def test_the_spectrum_is_the_code_over_frequency() -> None:
    size = 32
    generator = load_generator("fourier", device="cpu", image_size=size)
    code = 0.1 * torch.randn(1, *generator.code_shape, generator=torch.Generator().manual_seed(0))
    spectrum = torch.fft.rfft2(layers_of(generator(code)), norm="ortho")
    rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]
    frequency = (rows.square() + columns.square()).sqrt().clamp_min(1 / size)
    made = torch.view_as_real(spectrum) * frequency[..., None]
    contrast = 0.25 / colour_root().norm(dim=1).max()
    inner = slice(1, -1)  # the outer columns hold each number twice
    torch.testing.assert_close(made[..., inner, :], contrast * code[..., inner, :], rtol=1e-2, atol=1e-3)


def test_start_is_near_grey_and_depends_on_the_seed() -> None:
    generator = load_generator("fourier", device="cpu", image_size=64)
    images = generator(torch.stack([generator.initial_code(seed) for seed in (0, 1)]))
    assert (images.mean((1, 2, 3)) - 0.5).abs().max() < 0.1
    assert images.std((1, 2, 3)).max() < 0.2
    assert (images[0] - images[1]).abs().max() > 0.01


def test_colours_are_correlated_like_photographs() -> None:
    generator = load_generator("fourier", device="cpu", image_size=64)
    images = generator(torch.stack([generator.initial_code(seed) for seed in range(4)]))
    pixels = torch.logit(images).transpose(0, 1).flatten(1)
    root = colour_root()
    expected = root @ root.T
    torch.testing.assert_close(
        torch.corrcoef(pixels),
        expected / (expected.diag()[:, None] * expected.diag()).sqrt(),
        rtol=0,
        atol=0.1,
    )


def test_images_stay_inside_the_range(tiny_classifier: gp.Classifier) -> None:
    generator = load_generator("fourier", device="cpu", image_size=32)
    result = gp.synthesize(tiny_classifier, "ant", generator, steps=30)
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert result.images.isfinite().all()
    assert result.status == [["ok"]]


@pytest.mark.parametrize("name", ["fourier", "maco", "pixel"])
@pytest.mark.parametrize("size", [6, 2049, (16, 6), (8, 8, 8), "64"])
def test_sizes_that_do_not_work(name: str, size: object) -> None:
    with pytest.raises(OptionError, match=r"a whole number from 8 to 2048|a side or"):
        load_generator(name, device="cpu", image_size=size)
