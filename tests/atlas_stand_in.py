"""A tiny network for processes of their own, by the name `atlas_stand_in:build`."""

from __future__ import annotations

import torch
from torch import nn

from gen_prior.classifiers import Classifier


def build() -> Classifier:
    """Layers `0` and `2` of 16 units each, 8 x 8 positions, and five classes; always the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=4),
            nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
        )  # fmt: skip
    return Classifier(network, input_size=8, labels=("ant", "bee", "cat", "dog", "elk"), name="stand-in")


def build_wide() -> Classifier:
    """Layers `1` and `3` of 50,000 units each at 2 x 2 positions, for sweeps of very many neurons.

    Narrow layers between them keep a pass at about a millisecond; a convolution in thousands of groups takes fifty.
    """
    units = 50_000
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Conv2d(3, units, 1), nn.Conv2d(units, 4, 1), nn.Conv2d(4, units, 1),
            nn.Conv2d(units, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
        )  # fmt: skip
    return Classifier(network, input_size=8, name="wide stand-in")
