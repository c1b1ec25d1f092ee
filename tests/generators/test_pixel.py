"""Pixels as codes: the image is the code, in [0, 1]."""

from __future__ import annotations

import pytest
import torch

import gen_prior as gp
from gen_prior.errors import OptionError
from gen_prior.generators import load_generator


@pytest.mark.parametrize("name", ["pixel", "pixel-raw"])
def test_the_image_is_the_code(name: str) -> None:
    generator = load_generator(name, device="cpu", image_size=24)
    code = torch.rand(2, 3, 24, 24)
    assert torch.equal(generator(code), code)
    start = generator.initial_code(3)
    assert abs(float(start.mean()) - 0.5) < 0.01
    assert 0 < float(start.std()) < 0.02
    assert generator.domain == "image"
    assert generator.image_shape() == (24, 24)
    assert generator.encode(torch.rand(1, 3, 48, 48)).shape == (1, 3, 24, 24)
    with pytest.raises(OptionError, match="from 8 to 2048"):
        load_generator(name, device="cpu", image_size=4)


def test_images_stay_in_range_and_rise(tiny_classifier: gp.Classifier) -> None:
    generator = load_generator("pixel-raw", device="cpu", image_size=32)
    result = gp.synthesize(tiny_classifier, ["ant", "bee"], generator, seeds=2, steps=40, rate=0.2)
    assert result.images.min() == 0
    assert result.images.max() == 1
    assert torch.equal(result.images, result.codes)
    assert (result.activations > result.start_activations).all()
