"""The tiny classifier, a tiny judge and the tiny generator under names, and a runner that keeps stdout apart."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from command_runner import Run
from torch import nn

from gen_prior import classifiers, generators
from gen_prior.classifiers import Classifier
from gen_prior.generators import Generator
from gen_prior.util.image_io import write_png

LABELS = ("ant", "bee", "crane bird", "golden retriever", "cup")


@pytest.fixture(autouse=True)
def heeds_ctrl_c() -> Iterator[None]:
    """A shell's background jobs ignore Ctrl-C, and so would the tests of it there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of 50 x 40 pixels in a folder of its own."""
    path = tmp_path / "photos" / "photo.png"
    write_png(path, torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0)))
    return path


@pytest.fixture
def run() -> type[Run]:
    """`run("synth", "bee", ...)` -> a `Run`."""
    return Run


@pytest.fixture
def tiny(
    monkeypatch: pytest.MonkeyPatch, make_tiny_network: Callable[..., nn.Module], tiny_generator: Generator
) -> tuple[str, ...]:
    """Registers `tiny` and `tiny-judge` (classifiers) and `tiny` (generator); the options that choose the first two."""

    def classifier(name: str) -> Classifier:
        seed = 1 if name == "tiny-judge" else 0
        return Classifier(make_tiny_network(seed), input_size=32, labels=LABELS, name=name)

    monkeypatch.setitem(classifiers.NAMED, "tiny", classifier)
    monkeypatch.setitem(classifiers.NAMED, "tiny-judge", classifier)
    monkeypatch.setitem(generators.NAMED, "tiny", lambda name: tiny_generator)
    return ("--classifier", "tiny", "--device", "cpu", "--steps", "4")
