"""Codes of photographs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gen_prior.applications.encode import encode, fit_code, square
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import Generator, load_generator


def test_the_code_of_a_generated_image_is_found(tiny_generator: Generator) -> None:
    image = tiny_generator(tiny_generator.initial_code(4)[None])[0]
    code = fit_code(tiny_generator, image, steps=150)
    error = (tiny_generator(code[None])[0] - image).square().mean().item()
    mean = (tiny_generator(torch.zeros(1, 8))[0] - image).square().mean().item()
    assert error < 0.1 * mean


def test_features_are_matched_where_a_classifier_looks(tiny_generator: Generator, tiny_classifier: Classifier) -> None:
    image = torch.rand(3, 30, 44, generator=torch.Generator().manual_seed(0))
    eyes: list[dict[str, Any]] = [{}, {"classifier": tiny_classifier, "layer": "conv2"}]
    codes = [fit_code(tiny_generator, image, steps=40, feature_weight=10.0, **given) for given in eyes]
    wanted = tiny_classifier.activations(square(image)[None], ["conv2"])["conv2"]
    errors = [
        (tiny_classifier.activations(tiny_generator(code[None]), ["conv2"])["conv2"] - wanted).square().sum().item()
        for code in codes
    ]
    assert errors[1] < errors[0]


def test_an_encoder_is_used_where_there_is_one(tiny_generator: Generator) -> None:
    image = torch.rand(3, 20, 32)
    pixels = load_generator("pixel", device="cpu", image_size=16)
    assert encode(pixels, image).shape == (3, 16, 16)
    assert encode(pixels, image).mean() == pytest.approx(square(image).mean().item(), abs=0.01)
    assert torch.equal(encode(tiny_generator, image, steps=2), fit_code(tiny_generator, image, steps=2))


def test_what_is_no_image_and_half_a_classifier_are_refused(
    tiny_generator: Generator, tiny_classifier: Classifier
) -> None:
    with pytest.raises(OptionError, match=r"\[3, H, W\]"):
        fit_code(tiny_generator, torch.zeros(1, 3, 8, 8))
    with pytest.raises(OptionError, match="or neither"):
        fit_code(tiny_generator, torch.zeros(3, 8, 8), tiny_classifier)


def test_the_embedded_prior_resembles_a_photograph_better_than_its_mean_does() -> None:
    from skimage import data

    prior = load_generator("dgn-lite0", device="cpu")
    photo = square(torch.from_numpy(data.coffee()).permute(2, 0, 1).float() / 255)
    small = torch.nn.functional.interpolate(photo[None], prior.image_shape(), mode="area")[0]
    errors = [
        (prior(code[None])[0] - small).square().mean()
        for code in (fit_code(prior, photo, steps=60), torch.zeros(prior.code_shape))
    ]
    assert errors[0] < 0.5 * errors[1]
