"""Progress reports: parts of a larger piece of work, bars, and callbacks with the arguments of version 0.1."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

import gen_prior as gp
from gen_prior.applications.compare import compare
from gen_prior.applications.dataset import make_dataset
from gen_prior.applications.dream import dream_frames
from gen_prior.applications.evolve import Evolution, activation_score, evolve
from gen_prior.applications.invert import invert
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import Generator
from gen_prior.generators.code_statistics import calibrate
from gen_prior.util.image_io import write_png
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


class Shown:
    """Stands in for tqdm: what was shown, and whether each bar was closed."""

    bars: ClassVar[list[Shown]] = []

    def __init__(self, total: int) -> None:
        self.total, self.n, self.disable, self.labels, self.values = total, 0, False, set[str](), list[str]()
        Shown.bars.append(self)

    def set_description(self, label: str, refresh: bool) -> None:
        self.labels.add(label)

    def set_postfix_str(self, words: str, refresh: bool) -> None:
        self.values.append(words)

    def update(self, steps: int) -> None:
        self.n += steps

    def close(self) -> None:
        self.disable = True


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Shown]:
    """The bars that are shown from now on."""
    monkeypatch.setattr("tqdm.auto.tqdm", Shown)
    Shown.bars.clear()
    return Shown.bars


def test_true_is_a_bar_that_ends_with_the_work(bars: list[Shown]) -> None:
    show = progress_callback(True)
    assert show is not None
    for done in (1, 2, 4, 4):
        show(Progress(done, 4, f"step {done}", torch.full((2,), 3.0)))
    assert [(bar.n, bar.total, bar.disable) for bar in bars] == [(4, 4, True)]
    assert bars[0].labels == {"step 1", "step 2", "step 4"}
    assert bars[0].values[-1] == "activation 3"
    show(Progress(1, 8, "the next part"))
    show(Progress(4, 8))
    show(Progress(2, 8, "a batch that did not fit, in halves"))
    assert [(bar.n, bar.total, bar.disable) for bar in bars[1:]] == [(2, 8, False)]


def test_what_progress_may_be() -> None:
    assert progress_callback(None) is None
    assert progress_callback(False) is None
    with pytest.raises(OptionError, match=r"True, None or a function .*got 'yes'"):
        progress_callback("yes")  # type: ignore[arg-type]


def test_a_bar_in_a_terminal(tiny_classifier: Classifier, tiny_generator: Generator, capsys: Any) -> None:
    gp.synthesize(tiny_classifier, "bee", tiny_generator, steps=3, seeds=2, progress=True)
    shown = capsys.readouterr().err
    assert "6/6" in shown
    assert "activation" in shown


PIXELS = gp.load_generator("pixel", device="cpu")
CALLS: dict[str, Callable[[Classifier, Generator, Path, Any], Any]] = {
    "synthesize": lambda c, g, _, show: gp.synthesize(c, "bee", g, steps=2, progress=show),
    "synthesize_apart": lambda c, g, _, show: gp.synthesize_apart(
        c, "bee", g, "conv1", seeds=1, steps=2, progress=show
    ),
    "compare": lambda c, g, _, show: gp.compare(c, "bee", [g], judge=None, seeds=1, evaluations=2, progress=show),
    "invert": lambda c, g, _, show: gp.invert(c, torch.rand(3, 40, 40), ["conv2"], [g], steps=2, progress=show),
    "morph": lambda c, g, _, show: gp.morph(c, ["bee", "cup"], g, frames=2, steps=2, progress=show),
    "dream": lambda c, g, _, show: gp.dream(c, torch.rand(3, 40, 40), "conv2", octaves=1, steps=2, progress=show),
    "dream_frames": lambda c, g, _, show: list(
        gp.dream_frames(c, torch.rand(3, 40, 40), "conv2", frames=2, octaves=1, steps=2, progress=show)
    ),
    "dream_through": lambda c, g, _, show: gp.dream_through(c, g, torch.zeros(8), "conv2", steps=2, progress=show),
    "encode": lambda c, g, _, show: gp.encode(g, torch.rand(3, 40, 40), steps=2, progress=show),
    "evolve": lambda c, g, _, show: evolve(
        Evolution(g, population=5), activation_score(c, "bee"), evaluations=10, progress=show
    ),
    "find_exemplars": lambda c, g, folder, show: gp.find_exemplars(c, "bee", folder, progress=show),
    "make_dataset": lambda c, g, folder, show: make_dataset(
        c, g, folder / "set", classes=["bee"], per_class=1, steps=2, shard_size=0, progress=show
    ),
    "sample_chain": lambda c, g, _, show: gp.sample_chain(c, "bee", g, iterations=10, progress=show),
    "benchmark": lambda c, g, folder, show: gp.benchmark(
        c, [g], folder / "benchmark", judge=judge_of(c), units=0, classes=1, seeds=1, evaluations=2, progress=show
    ),
    "faithfulness": lambda c, g, folder, show: gp.faithfulness(
        gp.synthesize(c, "conv1:1", g, steps=1), c, g, folder, judge=judge_of(c), progress=show
    ),
    "calibrate": lambda c, g, folder, show: calibrate(PIXELS, [folder], progress=show),
}


def judge_of(classifier: Classifier) -> Classifier:
    """A copy, which counts as another network."""
    network = copy.deepcopy(classifier.network)
    return Classifier(network, input_size=32, labels=[classifier.class_name(n) for n in range(5)], name="judge")


@pytest.mark.parametrize("call", CALLS)
def test_every_long_call_shows_a_bar_or_calls_back(
    call: str, bars: list[Shown], tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    for number in range(32 if call == "faithfulness" else 2):
        write_png(tmp_path / "photographs" / f"{number}.png", torch.rand(3, 32, 32))
    seen: list[Progress] = []
    for folder, show in (("a", True), ("b", seen.append), ("c", None)):
        Path(tmp_path / "photographs").rename(tmp_path / folder)
        CALLS[call](tiny_classifier, tiny_generator, tmp_path / folder, show)
        Path(tmp_path / folder).rename(tmp_path / "photographs")
    assert bars
    assert all(bar.disable and bar.n == bar.total for bar in bars)
    assert seen[-1].done == seen[-1].total == bars[-1].total
