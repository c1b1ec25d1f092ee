"""On a CPU a result keeps its bits in any company, place, batch and number of threads (the embedded models)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import gen_prior as gp
from gen_prior.optimise.batch import Item
from gen_prior.optimise.engine import Engine
from gen_prior.optimise.memory import bytes_per_item
from gen_prior.optimise.resolve import resolve_objective

TARGETS = ["goldfish", "blocks.10:42", "monarch"]


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def equal(one: gp.Result, at: tuple[int, int], other: gp.Result, there: tuple[int, int]) -> bool:
    parts = ("images", "codes", "activations", "start_activations", "history")
    return all(torch.equal(getattr(one, part)[at], getattr(other, part)[there]) for part in parts)


@pytest.mark.parametrize(("name", "steps"), [("dgn-lite0", 20), ("fourier", 8)])
def test_three_companies(name: str, steps: int, lite0: gp.Classifier, two_threads: None) -> None:
    generator = gp.load_generator(name, device="cpu")
    together = gp.synthesize(lite0, TARGETS, generator, steps=steps)
    pair = gp.synthesize(lite0, TARGETS[1::-1], generator, steps=steps)
    torch.set_num_threads(1)
    alone = gp.synthesize(lite0, "goldfish", generator, steps=steps)
    assert equal(alone, (0, 0), together, (0, 0))
    assert equal(alone, (0, 0), pair, (1, 0))
    assert equal(pair, (0, 0), together, (1, 0))


def test_larger_images_as_well(lite0: gp.Classifier, two_threads: None) -> None:
    generator = gp.load_generator("dgn-lite0", device="cpu", image_size=512)
    together = gp.synthesize(lite0, ["goldfish", "blocks.1:3"], generator, steps=1, candidates=1)
    assert together.images.shape[-2:] == (512, 512)
    torch.set_num_threads(1)
    alone = gp.synthesize(lite0, "goldfish", generator, steps=1, candidates=1)
    assert equal(alone, (0, 0), together, (0, 0))


def test_random_restarts_keep_their_choice(lite0: gp.Classifier, two_threads: None) -> None:
    generator = gp.load_generator("fourier", device="cpu")
    settings: dict[str, Any] = {"steps": 8, "candidates": 3, "trials": 2, "scale": 80}
    together = gp.synthesize(lite0, "blocks.1:3", generator, seeds=[1, 4], **settings)
    torch.set_num_threads(1)
    alone = gp.synthesize(lite0, "blocks.1:3", generator, seeds=[4], **settings)
    assert equal(alone, (0, 0), together, (0, 1))


def test_bfloat16_as_well(lite0: gp.Classifier, two_threads: None) -> None:
    generator = gp.load_generator("fourier", device="cpu")
    together = gp.synthesize(lite0, TARGETS, generator, steps=3, precision="bf16")
    torch.set_num_threads(1)
    alone = gp.synthesize(lite0, "monarch", generator, steps=3, precision="bf16")
    assert equal(alone, (0, 0), together, (2, 0))


@pytest.mark.parametrize("name", ["dgn-lite0", "pixel"])
def test_memory_is_estimated_within_a_quarter(name: str, lite0: gp.Classifier) -> None:
    """Against the peak of what torch allocates in two steps of one item."""
    generator = gp.load_generator(name, device="cpu")
    recipe = generator.recipe.with_options(steps=2, candidates=1, trials=1)
    goal = resolve_objective("goldfish", lite0, recipe)
    item = Item(goal.objective, 0, generator.initial_code(0), goal.target)
    engine = Engine(lite0, generator)
    engine.optimise([item], recipe)  # what is kept from then on is not an item's
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        engine.optimise([item], recipe)
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    peak = max(itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
    assert bytes_per_item(lite0, generator, item) == pytest.approx(peak, rel=0.25)
