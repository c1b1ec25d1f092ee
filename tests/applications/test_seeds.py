"""Every function that takes a seed refuses one that is none, before it computes or writes anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gen_prior as gp
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import Generator

IMAGE = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
Call = Callable[[Any, Classifier, Generator, Path], Any]
CALLS: dict[str, Call] = {
    "synthesize": lambda seed, c, g, out: gp.synthesize(c, "bee", g, seeds=[seed], steps=1, out=out),
    "dream": lambda seed, c, g, out: gp.dream(c, IMAGE, "conv2", steps=1, octaves=1, seed=seed),
    "dream_frames": lambda seed, c, g, out: list(gp.dream_frames(c, IMAGE, "conv2", frames=2, seed=seed, out=out)),
    "accentuate": lambda seed, c, g, out: gp.accentuate(c, IMAGE, "bee", g, layer="conv1", seed=seed, out=out),
    "morph": lambda seed, c, g, out: gp.morph(c, ["bee", "cup"], g, frames=2, steps=1, seed=seed, out=out),
    "invert": lambda seed, c, g, out: gp.invert(c, IMAGE, ["conv2"], [g], steps=1, seed=seed, out=out),
    "encode": lambda seed, c, g, out: gp.encode(g, IMAGE, steps=1, seed=seed),
    "fit_code": lambda seed, c, g, out: gp.fit_code(g, IMAGE, steps=1, seed=seed),
    "sample_chain": lambda seed, c, g, out: gp.sample_chain(c, "bee", g, seed=seed),
    "synthesize_apart": lambda seed, c, g, out: gp.synthesize_apart(c, "bee", g, layer="conv1", seeds=[seed]),
    "make_activation_map": lambda seed, c, g, out: gp.make_activation_map(
        c, "conv2", images="none", out=out, generators=[g], seed=seed
    ),
    "Evolution": lambda seed, c, g, out: gp.Evolution(g, population=4, seed=seed),
    "Experiment": lambda seed, c, g, out: gp.Experiment(out, g, seed=seed),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("seed", [-1, 2**64, 10**30, 0.5, "1", None])
def test_seeds(name: str, seed: Any, tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path) -> None:
    if name == "Experiment" and seed is None:  # the seed of a new experiment may be left to it
        return
    with pytest.raises(OptionError, match="a seed must be a whole number from 0"):
        CALLS[name](seed, tiny_classifier, tiny_generator, tmp_path / "out")
    assert not (tmp_path / "out").exists()
