"""The one command trains a prior for any network with places: transformers, channels last, grey, small, headless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

import gen_prior as gp
from gen_prior.training.networks import FeatureExtractor
from gen_prior.training.pipeline import train_all
from gen_prior.training.recipe import TrainingRecipe, with_settings

GAN = {"steps": 2, "batch": 4, "critic_width": 4, "adversarial_from": 1, "held_out": 4}
FLOW = {"steps": 2, "batch": 8, "features": 4, "width": 16, "depth": 1}
TINY: dict[str, Any] = {
    **{f"decoder.{name}": value for name, value in (GAN | {"width": 0.125, "code_channels": 4}).items()},
    **{
        f"flow.{name}": value
        for name, value in {"steps": 2, "batch": 8, "features": 4, "width": 16, "depth": 1}.items()
    },
    "class-exemplars.layouts": 1,
}


def transformer() -> nn.Module:
    return VisionTransformer(32, 8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=6)


def headless() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 6, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def small_and_grey() -> nn.Module:
    layers = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8 * 11 * 11, 6))


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (transformer, {"input_size": 32}),
        (headless, {"input_size": 48}),
        (small_and_grey, {"input_size": 28, "mean": [0.5], "std": [0.25]}),
    ],
)
def test_networks_of_every_kind_have_priors(
    make: Callable[[], nn.Module], options: dict[str, Any], photographs: Path, tmp_path: Path
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = gp.Classifier(make().eval(), labels=tuple("abcdef"), name=make.__name__, **options)
    recipe = TrainingRecipe(images=(str(photographs),), judge="", measured=1, measured_steps=1)
    recipe = replace(with_settings(recipe, TINY), stages=("decoder", "flow", "class-exemplars"))
    file = train_all(recipe, tmp_path / "prior", classifier)
    generator = gp.load_generator(f"local-dir:{file.parent}", device="cpu")
    assert not generator.initial_code(0, "b").equal(generator.initial_code(0)), "a class starts at its exemplar"
    assert gp.synthesize(classifier, "b", generator, steps=2).images.isfinite().all()


def test_features_are_maps_whatever_the_layers_give(channels_last: gp.Classifier) -> None:
    extractor = FeatureExtractor(channels_last, 64)
    assert [tuple(feature.shape) for feature in extractor(torch.rand(2, 3, 64, 64))] == [
        (2, channels, side, side) for channels, side in zip(extractor.channels, (16, 8, 4), strict=True)
    ]
