"""Evolution: it climbs, it waits, it goes on from a file as if it had never stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gen_prior.applications.evolve import Evolution, activation_score, evolve
from gen_prior.applications.searchers import METHODS, build_searcher
from gen_prior.classifiers import Classifier
from gen_prior.errors import GenPriorError, MissingExtraError, OptionError, OutputError, UnknownNameError
from gen_prior.generators.base import Generator, Provenance
from gen_prior.report.film import Recorder

DEVIATIONS = torch.tensor([2.0, -1.0, 0.5, 0, 0, 0, 0, 1.0])


def near(codes: Tensor) -> Tensor:
    """A score of the code itself, best at DEVIATIONS."""
    return -(codes - DEVIATIONS).square().sum(1)


def best_of(evolution: Evolution) -> Tensor:
    assert evolution.best_code is not None
    return evolution.best_code


def run(evolution: Evolution, generations: int) -> Evolution:
    for _ in range(generations):
        evolution.tell(near(evolution.ask().codes))
    return evolution


@pytest.mark.parametrize("method", METHODS)
def test_every_method_climbs(tiny_generator: Generator, method: str) -> None:
    evolution = run(Evolution(tiny_generator, method=method, population=12, seed=1), 30)
    assert evolution.evaluations == 360
    assert np.mean(evolution.scores[-1]) > np.mean(evolution.scores[0]) + 3
    assert near(best_of(evolution)[None]).item() == pytest.approx(evolution.best_score, rel=1e-4)


def test_covariance_adaptation_beats_chance(tiny_generator: Generator) -> None:
    evolution = run(Evolution(tiny_generator, method="cma", seed=0), 60)
    assert evolution.best_score > -0.05


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("asked", [False, True])
def test_a_saved_evolution_goes_on_as_if_it_had_never_stopped(
    tiny_generator: Generator, tmp_path: Path, method: str, asked: bool
) -> None:
    straight = run(Evolution(tiny_generator, method=method, population=6, seed=3), 4)
    if asked:
        straight.ask()
    straight.save(tmp_path / "run.npz")
    resumed = Evolution.load(tmp_path / "run.npz", tiny_generator)
    assert resumed.best_score == straight.best_score
    assert resumed.ask().number == 4
    assert torch.equal(resumed.ask().codes, straight.ask().codes)
    assert torch.equal(best_of(run(resumed, 3)), best_of(run(straight, 3)))


def test_asking_again_gives_the_same_images_until_they_are_scored(tiny_generator: Generator) -> None:
    evolution = Evolution(tiny_generator, population=5)
    first = evolution.ask().codes
    assert torch.equal(evolution.ask().codes, first)
    evolution.tell([1.0, 2, 3, 4, 5])
    assert not torch.equal(evolution.ask().codes, first)
    assert torch.equal(best_of(evolution), first[4])


@pytest.mark.parametrize("scores", [[1.0, 2.0], [1.0, 2, 3, 4, float("inf")], torch.zeros(5, 1)])
def test_wrong_scores_are_refused_and_change_nothing(tiny_generator: Generator, scores: Any) -> None:
    evolution = Evolution(tiny_generator, population=5)
    waiting = evolution.ask().codes
    with pytest.raises(OptionError, match="5 finite scores"):
        evolution.tell(scores)
    assert torch.equal(evolution.ask().codes, waiting)


def test_telling_without_asking_is_refused(tiny_generator: Generator) -> None:
    with pytest.raises(OptionError, match="ask"):
        Evolution(tiny_generator).tell([1.0])


@pytest.mark.parametrize("options", [{"dims": 1}, {"dims": 9}, {"population": 3}, {"method": "annealing"}])
def test_settings_that_make_no_sense_are_refused(tiny_generator: Generator, options: dict[str, Any]) -> None:
    with pytest.raises((OptionError, UnknownNameError)):
        Evolution(tiny_generator, **options)


def test_only_the_first_dimensions_are_searched_and_clipped(tiny_generator: Generator) -> None:
    evolution = Evolution(tiny_generator, dims=3, sigmas=0.5, population=8)
    codes = evolution.ask().codes
    assert codes[:, 3:].abs().max() == 0
    assert codes.abs().max() == 0.5


def test_dims_had_another_name(tiny_generator: Generator, tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="dims"):
        evolution = Evolution(tiny_generator, numbers=3, population=8)
    assert evolution.settings["dims"] == 3
    evolution.save(tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz") as file:
        assert json.loads(file["settings"].tobytes())["numbers"] == 3, "files keep the name of version 0.1"
    assert Evolution.load(tmp_path / "run.npz", tiny_generator).settings["dims"] == 3


def test_files_that_are_no_evolution_or_another_generators(tiny_generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    with pytest.raises(OutputError, match="no evolution at"):
        Evolution.load(path, tiny_generator)
    run(Evolution(tiny_generator, population=5), 2).save(path)
    whole = path.read_bytes()
    for bad in (b"", b"junk", whole[: len(whole) // 2]):
        path.write_bytes(bad)
        with pytest.raises(OutputError, match="damaged"):
            Evolution.load(path, tiny_generator)
    np.savez(path, settings=np.array([object()], dtype=object))
    with pytest.raises(OutputError, match="damaged"):
        Evolution.load(path, tiny_generator)


def tampered(path: Path, **changes: Callable[[Any], Any]) -> None:
    with np.load(path) as file:
        kept = dict(file)
    np.savez(path, **(kept | {name: change(kept[name]) for name, change in changes.items()}))


@pytest.mark.parametrize("part", ["best", "told"])
def test_a_search_that_goes_another_way_on_loading_is_refused(
    tiny_generator: Generator, tmp_path: Path, part: str
) -> None:
    path = tmp_path / "run.npz"
    run(Evolution(tiny_generator, population=5), 3).save(path)
    tampered(path, **{part: lambda values: values + 0.01})  # as if another version of the library had made it
    with pytest.raises(OutputError, match="cannot be repeated here"):
        Evolution.load(path, tiny_generator)


def test_another_generator_of_the_same_code_shape_is_refused(tiny_generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    run(Evolution(tiny_generator, population=5), 2).save(path)

    def twin(**differences: Any) -> Generator:
        return Generator(tiny_generator.module, (8,), **({"name": "tiny"} | differences))

    weights = Provenance(sha256={"model": "00"})
    for other, words in (
        (twin(name="other"), "belongs to tiny, not to this other"),
        (twin(options={"truncation": 0.5}), "tiny with other options"),
        (twin(provenance=weights), "tiny with other weights"),
    ):
        with pytest.raises(OutputError, match=words):
            Evolution.load(path, other)
    assert Evolution.load(path, twin()).evaluations == 10


def test_one_search_goes_by_one_score(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    evolution = Evolution(tiny_generator, population=5)
    evolve(evolution, activation_score(tiny_classifier, "bee"), evaluations=5)
    with pytest.raises(OptionError, match="maximises bee of tiny, not cup of tiny"):
        evolve(evolution, activation_score(tiny_classifier, "cup"), evaluations=10)
    with pytest.raises(OptionError, match="not externally supplied scores"):
        evolve(evolution, lambda images: images.mean((1, 2, 3)), evaluations=10)
    tiny_classifier.provenance = Provenance(sha256={"model": "00"})
    with pytest.raises(OptionError, match="not bee of tiny with other weights"):
        evolve(evolution, activation_score(tiny_classifier, "bee"), evaluations=10)


def test_the_best_image_of_every_generation_can_be_filmed(
    tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    recorder = Recorder(1)
    evolution = evolve(
        Evolution(tiny_generator, population=5),
        activation_score(tiny_classifier, "bee"),
        evaluations=15,
        record=recorder,
    )
    best = tiny_generator(best_of(evolution)[None])[0]
    assert len(recorder.frames[0]) == 3
    assert min((frame.float() / 255 - best).abs().max() for frame in recorder.frames[0]) < 0.003


def test_the_genetic_algorithm_keeps_its_best_unchanged() -> None:
    search = build_searcher("genetic", 6, 8, seed=0)
    points = search.ask()
    scores = np.array([0.0, 5, 1, 4, 2, 3, -1, -2])
    search.tell(points, scores)
    assert np.array_equal(search.ask()[:2], points[[1, 3]])
    assert not (search.ask()[2:, None] == points[None]).all(2).any()


def test_without_the_library_it_says_how_to_get_it(tiny_generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(MissingExtraError, match=r"gen-prior\[evolution\]"):
        Evolution(tiny_generator)
    assert issubclass(MissingExtraError, GenPriorError)
    Evolution(tiny_generator, method="genetic")


def test_a_unit_of_a_classifier_rises_without_gradients(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    score = activation_score(tiny_classifier, "bee", batch=3)
    evolution = Evolution(tiny_generator, population=8, seed=0)
    seen = []
    evolve(
        evolution, score, evaluations=100, save=tmp_path / "run.npz", progress=lambda p: seen.append((p.done, p.total))
    )
    assert evolution.evaluations == 104
    assert seen[-1] == (104, 100)
    assert evolution.best_score > evolution.scores[0].max()
    image = tiny_generator(best_of(evolution)[None])
    assert tiny_classifier(image)[0, 1].item() == pytest.approx(evolution.best_score, rel=1e-4)
    assert Evolution.load(tmp_path / "run.npz", tiny_generator).best_score == evolution.best_score
