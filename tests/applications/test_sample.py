"""Chains: several distinct accepted inputs of one class, reproducible; seeds kept apart end further apart."""

from __future__ import annotations

from copy import copy
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from gen_prior.applications.sample import SAMPLER, Chain, sample_chain, synthesize_apart
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, TargetError
from gen_prior.generators import load_generator
from gen_prior.generators.base import Generator
from gen_prior.objectives import Objective, gram
from gen_prior.optimise.presets import preset
from gen_prior.optimise.result import Result
from gen_prior.optimise.unit_scale import Placement
from gen_prior.recipe import Recipe
from gen_prior.util.progress import Progress


def test_a_chain_keeps_what_is_good_and_new(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    seen: list[Progress] = []

    def run(threshold: float) -> Chain:
        return sample_chain(
            tiny_classifier,
            "bee",
            tiny_generator,
            iterations=60,
            reset=20,
            every=5,
            threshold=threshold,
            apart=0.3,
            progress=seen.append,
        )

    middle = run(0.0).visited.median().item()
    seen.clear()
    chain = run(middle)
    assert len(chain.visited) == len(seen) == 12
    assert [report.done for report in seen] == list(range(5, 65, 5))
    assert len(chain.codes) == len(chain.images) == len(chain.scores) == len(chain.iterations) >= 2
    probabilities = torch.softmax(tiny_classifier(chain.images), 1)[:, 1]
    torch.testing.assert_close(chain.scores, probabilities, atol=1e-4, rtol=0)
    torch.testing.assert_close(tiny_generator(chain.codes), chain.images)
    assert (chain.scores > middle).all()
    assert torch.pdist(chain.codes).min() >= 0.3 * chain.codes.shape[1] ** 0.5
    for place, score in zip(chain.iterations, chain.scores, strict=True):
        assert chain.visited[place // 5 - 1] == score


def test_a_chain_is_a_function_of_its_seed(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    def run(seed: int, reset: int = 10) -> Chain:
        return sample_chain(tiny_classifier, "ant", tiny_generator, iterations=20, reset=reset, every=5, seed=seed)

    first, again, other = run(1), run(1), run(2)
    assert torch.equal(first.visited, again.visited)
    assert torch.equal(first.codes, again.codes)
    assert not torch.equal(first.visited, other.visited)
    unbroken = run(1, reset=20)
    assert torch.equal(first.visited[:2], unbroken.visited[:2])  # until the reset they are one
    assert not torch.equal(first.visited[2:], unbroken.visited[2:])


def test_a_chain_begins_at_its_class_after_every_reset(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    asked: list[str] = []

    def class_init(wanted: str, noise: torch.Tensor, seed: int) -> None:
        asked.append(wanted)

    generator = Generator(tiny_generator.module, (8,), name="aiming", class_init=class_init)
    sample_chain(tiny_classifier, "bee", generator, iterations=20, reset=10, every=5)
    assert asked == ["bee"] * 3
    asked.clear()
    sample_chain(tiny_classifier, "conv2:3", generator, iterations=20, reset=10, every=5)
    assert asked == []


def test_without_noise_the_pieces_are_one_climb(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    still = SAMPLER.with_options(edits=(), rate=0.02)
    pieces = [
        sample_chain(tiny_classifier, "ant", tiny_generator, iterations=12, reset=12, every=every, recipe=still)
        for every in (3, 12)
    ]
    assert len(pieces[0].visited) == 4
    torch.testing.assert_close(pieces[0].visited[-1], pieces[1].visited[-1])
    assert all(before < after for before, after in pairwise(pieces[0].visited.tolist()))


def test_a_chain_of_a_hidden_unit_and_an_empty_one(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    chain = sample_chain(tiny_classifier, "conv2:3", tiny_generator, iterations=20, reset=10, every=5, threshold=-100.0)
    place = Placement([chain.field] * len(chain.images), tiny_classifier.input_size, torch.device("cpu"))
    inputs = place(tiny_classifier.resize(chain.images))
    values = tiny_classifier.activations(inputs, ["conv2"])["conv2"][:, 3, 8, 8]
    torch.testing.assert_close(chain.scores, values, atol=1e-4, rtol=0)
    nothing = sample_chain(tiny_classifier, "conv2:3", tiny_generator, iterations=5, reset=5, every=5, threshold=1e6)
    assert nothing.codes.shape == (0, 8)
    assert nothing.images.shape == (0, 3, 16, 16)
    assert nothing.iterations == []


def test_a_chain_looks_through_the_generators_own_transforms(
    tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    shifting = copy(tiny_generator)
    shifting.recipe = tiny_generator.recipe.with_options(transforms=(("jitter", {"pixels": 4}),))

    def run(generator: Generator, recipe: Recipe | None = None) -> Chain:
        return sample_chain(tiny_classifier, "ant", generator, iterations=10, reset=10, every=5, recipe=recipe)

    own = run(shifting)
    assert torch.equal(
        own.visited, run(tiny_generator, SAMPLER.with_options(transforms=shifting.recipe.transforms)).visited
    )
    assert not torch.equal(own.visited, run(shifting, SAMPLER).visited)


def test_chains_that_make_no_sense(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    with pytest.raises(OptionError, match="every <= reset"):
        sample_chain(tiny_classifier, "ant", tiny_generator, reset=5, every=10)
    with pytest.raises(OptionError, match="momentum"):
        sample_chain(tiny_classifier, "ant", tiny_generator, recipe=SAMPLER.with_options(optimiser="adam"))
    with pytest.raises(OptionError, match="dgnam2016"):
        sample_chain(tiny_classifier, "ant", tiny_generator, recipe=preset("deepdream2015"))
    with pytest.raises(TargetError):
        sample_chain(tiny_classifier, "conv2:99", tiny_generator)


def test_seeds_kept_apart_are_further_apart(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    def alike(weight: float) -> float:
        results = synthesize_apart(
            tiny_classifier, "ant", tiny_generator, "relu2", weight=weight, seeds=[3, 1, 2], steps=30, prior_weight=0.0
        )
        assert [result.seeds for result in results] == [[3], [1], [2]]
        images = torch.cat([result.images[0] for result in results])
        matrices = F.normalize(gram(tiny_classifier.activations(images, ["relu2"]), "relu2").flatten(1), dim=1)
        return ((matrices @ matrices.T).sum().item() - 3) / 6

    assert 1 - alike(50.0) > 1.5 * (1 - alike(0.0))


@pytest.mark.parametrize("score", ["activation", "log_probability"])
def test_seeds_kept_apart_report_the_targets_own_activation(
    tiny_classifier: Classifier, tiny_generator: Generator, score: str
) -> None:
    def run(target: str | Objective) -> list[Result]:
        return synthesize_apart(
            tiny_classifier, target, tiny_generator, "relu2", weight=50.0, seeds=3, steps=5, score=score, transforms=()
        )

    bright = Objective(lambda activations, image, code: image.mean((1, 2, 3)), description="bright")
    for result in run("ant"):
        torch.testing.assert_close(result.activations[0], tiny_classifier(result.images[0])[:, 0])
        assert result.history[0, 0, 0] == pytest.approx(result.start_activations[0, 0].item(), abs=1e-4)
    for result in run(bright):
        torch.testing.assert_close(result.activations[0], result.images[0].mean((1, 2, 3)))


def test_one_chain_gives_several_goldfish(lite0: Classifier) -> None:
    """The embedded prior and classifier: distinct samples of one class, each believed by the classifier."""
    generator = load_generator("dgn-lite0", device="cpu")
    chain = sample_chain(lite0, "goldfish", generator, iterations=120, reset=40, every=10, threshold=0.5, apart=0.3)
    assert len(chain.codes) >= 2
    assert (torch.softmax(lite0(chain.images), 1)[:, 1] > 0.49).all()
    assert (torch.pdist(chain.images.flatten(1)) > 5).all()
