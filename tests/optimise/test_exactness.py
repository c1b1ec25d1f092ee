"""On a CPU a result keeps its bits in any company, place, batch and number of threads (the embedded models)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import gen_prior as gp

TARGETS = ["goldfish", "blocks.10:42", "monarch"]


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def equal(one: gp.Result, at: tuple[int, int], other: gp.Result, there: tuple[int, int]) -> bool:
    parts = ("images", "codes", "activations", "start_activations", "history")
    return all(torch.equal(getattr(one, part)[at], getattr(other, part)[there]) for part in parts)


@pytest.mark.parametrize("name", ["dgn-lite0", "fourier"])
def test_three_companies(name: str, lite0: gp.Classifier, two_threads: None) -> None:
    generator = gp.load_generator(name, device="cpu")
    together = gp.synthesize(lite0, TARGETS, generator, steps=20)
    pair = gp.synthesize(lite0, TARGETS[::-2], generator, steps=20)
    torch.set_num_threads(1)
    alone = gp.synthesize(lite0, "goldfish", generator, steps=20)
    assert equal(alone, (0, 0), together, (0, 0))
    assert equal(alone, (0, 0), pair, (1, 0))
    assert equal(pair, (0, 0), together, (2, 0))


def test_random_restarts_keep_their_choice(lite0: gp.Classifier, two_threads: None) -> None:
    generator = gp.load_generator("fourier", device="cpu")
    settings: dict[str, Any] = {"steps": 8, "candidates": 3, "trials": 2, "scale": 80}
    together = gp.synthesize(lite0, ["blocks.4:7", "blocks.1:3"], generator, seeds=[1, 4], **settings)
    torch.set_num_threads(1)
    alone = gp.synthesize(lite0, "blocks.1:3", generator, seeds=[4], **settings)
    assert equal(alone, (0, 0), together, (1, 1))


def test_bfloat16_as_well(lite0: gp.Classifier, two_threads: None) -> None:
    generator = gp.load_generator("fourier", device="cpu")
    together = gp.synthesize(lite0, TARGETS, generator, steps=3, precision="bf16")
    torch.set_num_threads(1)
    alone = gp.synthesize(lite0, "monarch", generator, steps=3, precision="bf16")
    assert equal(alone, (0, 0), together, (2, 0))
