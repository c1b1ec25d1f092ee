"""Progress reports: parts of a larger piece of work, and callbacks with the arguments of version 0.1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gen_prior.applications.compare import compare
from gen_prior.applications.dataset import make_dataset
from gen_prior.applications.dream import dream_frames
from gen_prior.applications.evolve import Evolution, activation_score, evolve
from gen_prior.applications.invert import invert
from gen_prior.classifiers import Classifier
from gen_prior.generators import Generator
from gen_prior.util.progress import Progress, progress_callback


def test_a_part_counts_within_the_whole() -> None:
    part = Progress(3, 4, "step", torch.ones(2))
    whole = part.within(8, 20, "second")
    assert (whole.done, whole.total, whole.label) == (11, 20, "second")
    assert whole.activations is part.activations
    assert part.within(0, 20).label == "step"


def test_a_callback_of_one_argument_is_kept() -> None:
    def callback(progress: Progress) -> None: ...

    assert progress_callback(callback, lambda progress: ()) is callback
    assert progress_callback(None, lambda progress: ()) is None


def test_a_callback_of_several_arguments_gets_them_and_warns() -> None:
    seen: list[tuple[int, int]] = []

    with pytest.warns(DeprecationWarning, match=r"gen_prior\.Progress"):
        callback = progress_callback(
            lambda done, total: seen.append((done, total)), lambda progress: (progress.done, progress.total)
        )
    assert callback is not None
    callback(Progress(1, 2))
    assert seen == [(1, 2)]


def old(callback: Callable[..., None]) -> Any:
    """A callback of version 0.1, whose type is no longer allowed."""
    return callback


def test_old_callbacks_of_evolve_and_dream_frames(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    generations: list[tuple[int, int, int]] = []
    with pytest.warns(DeprecationWarning, match=r"gen_prior\.Progress"):
        evolve(
            Evolution(tiny_generator, population=5),
            activation_score(tiny_classifier, "bee"),
            evaluations=10,
            progress=old(lambda done, total, scores: generations.append((done, total, len(scores)))),
        )
    assert generations == [(5, 10, 5), (10, 10, 5)]
    steps: list[tuple[int, int, int, int]] = []
    frames = dream_frames(
        tiny_classifier, torch.rand(3, 40, 40), "conv2", frames=2, octaves=1, steps=4,
        progress=old(lambda frame, frames, done, total, score: steps.append((frame, frames, done, total))),
    )  # fmt: skip
    with pytest.warns(DeprecationWarning, match=r"gen_prior\.Progress"):
        list(frames)
    assert steps == [(0, 2, 3, 4), (0, 2, 4, 4), (1, 2, 3, 4), (1, 2, 4, 4)]


def test_old_callbacks_of_dataset_compare_and_invert(
    tiny_classifier: Classifier, tiny_generator: Generator, make_tiny_network: Callable[..., nn.Module], tmp_path: Path
) -> None:
    kept: list[tuple[str, int, int]] = []
    with pytest.warns(DeprecationWarning, match=r"gen_prior\.Progress"):
        make_dataset(
            tiny_classifier, tiny_generator, tmp_path, classes=["bee", "cup"], per_class=2, steps=2, shard_size=0,
            progress=old(lambda name, done, wanted, _: kept.append((name, done, wanted))),
        )  # fmt: skip
    assert kept == [("bee", 0, 2), ("bee", 2, 2), ("cup", 0, 2), ("cup", 2, 2)]
    evaluations: list[tuple[str, int, int]] = []
    with pytest.warns(DeprecationWarning, match=r"gen_prior\.Progress"):
        compare(
            tiny_classifier, "bee", [tiny_generator], judge=None, seeds=2, evaluations=2,
            progress=old(lambda name, done, total, _: evaluations.append((name, done, total))),
        )  # fmt: skip
    assert evaluations == [("tiny", 2, 4), ("tiny", 4, 4), ("tiny: measuring", 4, 4)]
    steps: list[tuple[str, int, int]] = []
    with pytest.warns(DeprecationWarning, match=r"gen_prior\.Progress"):
        invert(
            tiny_classifier, torch.rand(3, 40, 40), ["conv1", "conv2"], {"a": tiny_generator, "b": tiny_generator},
            steps=2, progress=old(lambda name, done, total, _: steps.append((name, done, total))),
        )  # fmt: skip
    assert steps == [("a", 2, 4), ("a", 4, 4), ("b", 2, 4), ("b", 4, 4)]
