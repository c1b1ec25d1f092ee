"""MACO: the phase is free, the magnitude is that of photographs."""

from __future__ import annotations

import pytest
import torch

import gen_prior as gp
from gen_prior.generators import load_generator
from gen_prior.generators.maco import PhaseImage
from gen_prior.generators.shared.image_spectrum import colour_root, magnitude

SHAPES = [(32, 32, 3), (64, 64, 3), (36, 64, 1), (33, 27, 3), (9, 40, 3)]


@pytest.mark.parametrize(("height", "width", "channels"), SHAPES)
def test_no_phase_changes_the_magnitude(height: int, width: int, channels: int) -> None:
    network = PhaseImage(height, width, channels)
    generator = torch.Generator().manual_seed(0)
    for deviation in (0.1, 3.0, 100.0):
        code = deviation * torch.randn(2, channels, height, width // 2 + 1, generator=generator)
        image = network(code)
        made = torch.fft.rfft2(network.planes(code), norm="ortho").abs()
        torch.testing.assert_close(made, network.magnitude.expand_as(made), rtol=1e-3, atol=1e-4)
        assert image.shape == (2, channels, height, width)
        torch.testing.assert_close(image.mean((2, 3)), torch.full((2, channels), 0.5))


def test_every_free_phase_moves_the_image() -> None:
    network = PhaseImage(16, 16)
    code = torch.randn(1, 3, 16, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((network(code) * weights).sum(), code)
    still = (gradient == 0).sum((0, 2, 3))
    assert still.tolist() == [4, 4, 4]  # the four coefficients of a real image that have no phase


def test_starts_look_like_photographs_of_noise() -> None:
    generator = load_generator("maco", device="cpu")
    images = generator(torch.stack([generator.initial_code(seed) for seed in (0, 1)]))
    assert images.shape == (2, 3, 224, 224)
    assert 0.1 < float(images.std((2, 3)).mean()) < 0.35
    assert images.min() >= 0
    assert images.max() <= 1


def test_magnitudes_of_other_sizes() -> None:
    full = magnitude(256)
    assert full.shape == (3, 256, 129)
    full[:] = 0
    assert magnitude(256).max() > 0  # a copy
    full = magnitude(256)
    for size in (224, 64):  # the same cycles per image, in proportion to the side
        half = size // 2
        torch.testing.assert_close(
            magnitude(size)[:, :half, :half], full[:, :half, :half] * size / 256, rtol=1e-4, atol=1e-6
        )
    larger = magnitude(512)
    torch.testing.assert_close(larger[:, :100, :100], full[:, :100, :100] * 2, rtol=1e-4, atol=1e-6)
    oblong = magnitude(64, 128)  # as if cut out of 128 x 128: the same at the same cycles per pixel
    torch.testing.assert_close(oblong[:, 1:32, 1:64], magnitude(128)[:, 2:64:2, 1:64], rtol=1e-4, atol=1e-6)
    low, high = larger[:, 0, 100].mean(), larger[:, 0, 200].mean()
    assert 1.5 < low / high < 3.0  # beyond the table it falls as 1 / f
    assert (larger > 0).all()


def test_optimised_images_stay_in_range(tiny_classifier: gp.Classifier) -> None:
    generator = load_generator("maco", device="cpu", image_size=32)
    result = gp.synthesize(tiny_classifier, ["ant", "bee"], generator, steps=20)
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert (result.activations > result.start_activations).all()


def test_colours_are_a_covariance_root() -> None:
    root = colour_root()
    torch.testing.assert_close(root, root.T, rtol=1e-4, atol=1e-5)
    assert (torch.linalg.eigvalsh(root) > 0).all()
    assert 0.1 < root.norm(dim=1).max() < 0.4  # photographs in [0, 1] deviate by about a quarter
