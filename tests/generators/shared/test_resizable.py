"""Image parameterisations take the size and the channels of the classifier, or those that are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gen_prior as gp
from gen_prior.errors import OptionError
from gen_prior.generators import load_described, load_generator

MODES = ["pixel", "pixel-raw", "fourier", "maco"]


def oblong(make: Callable[..., nn.Module], channels: int) -> gp.Classifier:
    return gp.Classifier(make(inputs=channels), mean=(0.5,) * channels, std=(0.5,) * channels, input_size=(36, 61))


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_they_are_optimised_at_the_classifiers_size_and_channels(
    name: str, channels: int, make_tiny_network: Callable[..., nn.Module]
) -> None:
    classifier = oblong(make_tiny_network, channels)
    generator = load_generator(name, device="cpu")
    options: dict[str, Any] = {"steps": 8, "rate": 0.01, "transforms": (), "regularisers": (), "scale": "image"}
    result = gp.synthesize(classifier, ["1", "conv2:3"], generator, **options)
    assert result.images.shape == (2, 1, 3, 36, 61)
    assert result.codes.shape[2] == channels
    assert torch.equal(result.images[:, :, 0], result.images[:, :, 2]) == (channels == 1)
    assert (result.activations >= result.start_activations).all()
    assert (result.activations > result.start_activations).any()
    again = load_described(result.settings["generator"], device="cpu")
    torch.testing.assert_close(again(result.codes[:, 0]), result.images[:, 0])
    assert again.image_shape() == (36, 61)


@pytest.mark.parametrize("name", MODES)
def test_a_size_that_is_asked_for_stays(name: str, tiny_classifier: gp.Classifier) -> None:
    generator = load_generator(name, device="cpu", image_size=(36, 64))
    assert generator.image_shape() == (36, 64)
    result = gp.synthesize(tiny_classifier, "bee", generator, steps=2)
    assert result.images.shape[-2:] == (36, 64)
    square = load_generator(name, device="cpu", image_size=[24, 24])
    assert square.options == {"image_size": 24}
    assert load_generator(name, device="cpu").image_shape() == (224, 224)
    with pytest.raises(OptionError, match=r"channels must be 3 \(colour\) or 1 \(grey\), got 2"):
        load_generator(name, device="cpu", channels=2)


def test_codes_of_the_generator_as_it_is_keep_its_size(tiny_classifier: gp.Classifier) -> None:
    pixel = load_generator("pixel", device="cpu")
    result = gp.synthesize(tiny_classifier, "bee", pixel, start=torch.full((3, 224, 224), 0.5), steps=1)
    assert result.images.shape[-2:] == (224, 224)


def test_edits_of_images_take_grey_ones(make_tiny_network: Callable[..., nn.Module]) -> None:
    result = gp.synthesize(oblong(make_tiny_network, 1), "1", "pixel", recipe="yosinski2015-1", steps=6)
    assert result.codes.shape == (1, 1, 1, 36, 61)


def test_a_prior_in_colour_is_seen_through_the_networks_own_conversion(
    make_tiny_network: Callable[..., nn.Module], tiny_generator: gp.Generator
) -> None:
    classifier = oblong(make_tiny_network, 1)
    result = gp.synthesize(classifier, "conv1:3", tiny_generator, steps=3, scale="image")
    image = result.images[0]
    grey: Tensor = 0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2]
    shown = result.inputs(0, classifier)
    assert torch.equal(shown[:, 0], shown[:, 1])
    torch.testing.assert_close(shown[:, 0], classifier.resize(grey[:, None].expand(-1, 3, -1, -1))[:, 0])
    unit = gp.parse_target("conv1:3", classifier)
    for seen in (image, shown):
        torch.testing.assert_close(unit.read(classifier.activations(seen, ["conv1"])), result.activations[0])
