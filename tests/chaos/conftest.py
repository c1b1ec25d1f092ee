"""Figures of the chaos suite: faults tried, survived and lost, printed at the end.

The short form runs with all other tests, the long form by `pytest -m chaos tests/chaos`. With
GEN_PRIOR_CHAOS_RESULTS=FILE the figures are added to that JSON file.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from gen_prior import classifiers, generators
from gen_prior.classifiers import Classifier
from gen_prior.generators import Generator

FIGURES: dict[str, Counter[str]] = {}
LABELS = ("ant", "bee", "crane bird", "golden retriever", "cup")


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Counter[str]:
    """Counts of this test, named "tried", "survived", "lost" and as it likes; a test fails on anything lost."""
    return FIGURES.setdefault(request.node.name, Counter())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print all figures, and add them to the file that the environment names."""
    for name, counts in FIGURES.items():
        terminalreporter.write_line(f"{name}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    if FIGURES and (file := os.environ.get("GEN_PRIOR_CHAOS_RESULTS")):
        path = Path(file)
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | {name: dict(counts) for name, counts in FIGURES.items()}, indent=1) + "\n")


@pytest.fixture
def tiny(
    monkeypatch: pytest.MonkeyPatch, make_tiny_network: Callable[..., nn.Module], tiny_generator: Generator
) -> None:
    """Registers the classifiers `tiny` and `tiny-judge` and the generator `tiny`."""

    def classifier(name: str) -> Classifier:
        network = make_tiny_network(1 if name == "tiny-judge" else 0)
        return Classifier(network, input_size=32, labels=LABELS, name=name)

    for name in ("tiny", "tiny-judge"):
        monkeypatch.setitem(classifiers.NAMED, name, classifier)
    monkeypatch.setitem(generators.NAMED, "tiny", lambda name: tiny_generator)
