"""The tiny classifier and generator by name, for readers and commands that load them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from gen_prior import classifiers, generators
from gen_prior.classifiers import Classifier
from gen_prior.generators import Generator

LABELS = ("ant", "bee", "crane bird", "golden retriever", "cup")


@pytest.fixture
def tiny(
    monkeypatch: pytest.MonkeyPatch, make_tiny_network: Callable[..., nn.Module], tiny_generator: Generator
) -> None:
    """Registers the classifier `tiny` and the generator `tiny`."""
    network = make_tiny_network()
    monkeypatch.setitem(
        classifiers.NAMED, "tiny", lambda name: Classifier(network, input_size=32, labels=LABELS, name=name)
    )
    monkeypatch.setitem(generators.NAMED, "tiny", lambda name: tiny_generator)
