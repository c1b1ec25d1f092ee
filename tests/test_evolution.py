"""Evolution: it climbs, it waits, it goes on from a file as if it had never stopped."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from gen_prior.errors import GenPriorError, MissingExtraError, OptionError, OutputError, UnknownNameError
from gen_prior.evolution import Evolution, activation_score, evolve
from gen_prior.searchers import METHODS

DEVIATIONS = torch.tensor([2.0, -1.0, 0.5, 0, 0, 0, 0, 1.0])


def near(codes):
    """A score of the code itself, best at DEVIATIONS."""
    return -(codes - DEVIATIONS).square().sum(1)


def run(evolution, generations):
    for _ in range(generations):
        evolution.tell(near(evolution.ask().codes))
    return evolution


@pytest.mark.parametrize("method", METHODS)
def test_every_method_climbs(tiny_generator, method):
    evolution = run(Evolution(tiny_generator, method=method, population=12, seed=1), 30)
    assert evolution.evaluations == 360
    assert np.mean(evolution.scores[-1]) > np.mean(evolution.scores[0]) + 3
    assert near(evolution.best_code[None]).item() == pytest.approx(evolution.best_score, rel=1e-4)


def test_covariance_adaptation_beats_chance(tiny_generator):
    evolution = run(Evolution(tiny_generator, method="cma", seed=0), 60)
    assert evolution.best_score > -0.05


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("asked", [False, True])
def test_a_saved_evolution_goes_on_as_if_it_had_never_stopped(tiny_generator, tmp_path, method, asked):
    straight = run(Evolution(tiny_generator, method=method, population=6, seed=3), 4)
    if asked:
        straight.ask()
    straight.save(tmp_path / "run.npz")
    resumed = Evolution.load(tmp_path / "run.npz", tiny_generator)
    assert resumed.best_score == straight.best_score
    assert resumed.ask().number == 4
    assert torch.equal(resumed.ask().codes, straight.ask().codes)
    assert torch.equal(run(resumed, 3).best_code, run(straight, 3).best_code)


def test_asking_again_gives_the_same_images_until_they_are_scored(tiny_generator):
    evolution = Evolution(tiny_generator, population=5)
    first = evolution.ask().codes
    assert torch.equal(evolution.ask().codes, first)
    evolution.tell([1.0, 2, 3, 4, 5])
    assert not torch.equal(evolution.ask().codes, first)
    assert torch.equal(evolution.best_code, first[4])


@pytest.mark.parametrize("scores", [[1.0, 2.0], [1.0, 2, 3, 4, float("nan")], torch.zeros(5, 1)])
def test_wrong_scores_are_refused_and_change_nothing(tiny_generator, scores):
    evolution = Evolution(tiny_generator, population=5)
    waiting = evolution.ask().codes
    with pytest.raises(OptionError, match="5 finite scores"):
        evolution.tell(scores)
    assert torch.equal(evolution.ask().codes, waiting)


def test_telling_without_asking_is_refused(tiny_generator):
    with pytest.raises(OptionError, match="ask"):
        Evolution(tiny_generator).tell([1.0])


@pytest.mark.parametrize("options", [{"numbers": 1}, {"numbers": 9}, {"population": 3}, {"method": "annealing"}])
def test_settings_that_make_no_sense_are_refused(tiny_generator, options):
    with pytest.raises((OptionError, UnknownNameError)):
        Evolution(tiny_generator, **options)


def test_only_the_first_numbers_are_searched_and_clipped(tiny_generator):
    evolution = Evolution(tiny_generator, numbers=3, sigmas=0.5, population=8)
    codes = evolution.ask().codes
    assert codes[:, 3:].abs().max() == 0
    assert codes.abs().max() == 0.5


def test_files_that_are_no_evolution_or_another_generators(tiny_generator, tmp_path):
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


def test_without_the_library_it_says_how_to_get_it(tiny_generator, monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(MissingExtraError, match=r"gen-prior\[evolution\]"):
        Evolution(tiny_generator)
    assert issubclass(MissingExtraError, GenPriorError)
    Evolution(tiny_generator, method="genetic")


def test_a_unit_of_a_classifier_rises_without_gradients(tiny_classifier, tiny_generator, tmp_path):
    score = activation_score(tiny_classifier, "bee", batch=3)
    evolution = Evolution(tiny_generator, population=8, seed=0)
    told = []
    evolve(evolution, score, evaluations=100, save=tmp_path / "run.npz", progress=lambda *n: told.append(n[:2]))
    assert evolution.evaluations == 104
    assert told[-1] == (104, 100)
    assert evolution.best_score > evolution.scores[0].max()
    image = tiny_generator(evolution.best_code[None])
    assert tiny_classifier(image)[0, 1].item() == pytest.approx(evolution.best_score, rel=1e-4)
    assert Evolution.load(tmp_path / "run.npz", tiny_generator).best_score == evolution.best_score
