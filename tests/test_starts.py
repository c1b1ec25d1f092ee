"""Where an optimisation begins when its target is nothing that the generator can aim at."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gen_prior.batches import Item
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import load_generator
from gen_prior.generators.base import Generator
from gen_prior.objectives import Objective
from gen_prior.randomness import derived_seed
from gen_prior.recipes import Recipe
from gen_prior.starts import begun_best
from gen_prior.synthesis import goal_of, synthesize

SEARCHED = Recipe(steps=2, rate=0.02, candidates=12)


def brightness(code_weight: float = 0.0) -> Objective:
    return Objective(
        lambda activations, image, code: image.mean((1, 2, 3)) + code_weight * code[:, 0], description="bright"
    )


def begun(classifier: Classifier, generator: Generator, item: Item, candidates: int = 12) -> Tensor:
    return begun_best(classifier, generator, [item], candidates, "fp32")[0].start


def test_it_begins_at_the_best_of_the_candidates(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    item = Item(brightness(), 5, tiny_generator.initial_code(5))
    found = begun(tiny_classifier, tiny_generator, item)
    seeds = [5, *(derived_seed(5, place) for place in range(1, 12))]
    codes = torch.stack([tiny_generator.initial_code(seed) for seed in seeds])
    bright = tiny_generator(codes).mean((1, 2, 3))
    assert bright.argmax() != 0, "the test needs a seed whose own code is not the best"
    assert torch.equal(found, codes[bright.argmax()])
    assert torch.equal(begun(tiny_classifier, tiny_generator, item, candidates=1), item.start)


def test_a_hidden_unit_is_searched_for_and_ends_higher(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    one = synthesize(tiny_classifier, "conv2:3", tiny_generator, seeds=3, recipe=SEARCHED.with_options(candidates=1))
    many = synthesize(tiny_classifier, "conv2:3", tiny_generator, seeds=3, recipe=SEARCHED)
    assert bool((many.start_activations >= one.start_activations).all())
    assert many.start_activations.mean() > one.start_activations.mean() + 1e-3
    assert many.settings["recipe"]["candidates"] == 12


def test_what_is_chosen_depends_on_the_item_alone(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    targets = ["conv2:3", "conv2:5", brightness(0.3)]
    together = synthesize(tiny_classifier, targets, tiny_generator, seeds=2, recipe=SEARCHED)
    alone = synthesize(tiny_classifier, targets[1], tiny_generator, seeds=[1], recipe=SEARCHED, batch=1)
    torch.testing.assert_close(alone.codes[0, 0], together.codes[1, 1], atol=1e-5, rtol=1e-5)


def test_a_class_that_the_generator_aims_at_is_not_searched_for(
    tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    def aim(wanted: str, noise: Tensor) -> Tensor | None:
        return noise + 0.5 if wanted == "bee" else None

    generator = Generator(tiny_generator.module, (8,), name="aiming", aim=aim)
    assert generator.aims_at("bee")
    assert not generator.aims_at("ant")
    assert not generator.aims_at(None)
    assert not tiny_generator.aims_at("bee")
    items = []
    for name in ("bee", "ant"):
        goal = goal_of(name, tiny_classifier, SEARCHED)
        items.append(Item(goal.objective, 2, generator.initial_code(2, name), goal.target))
    aimed, searched = begun_best(tiny_classifier, generator, items, 12, "fp32")
    assert aimed is items[0]
    assert not torch.equal(searched.start, items[1].start)


def test_given_codes_are_where_it_begins(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    given = tiny_generator.initial_code(40)
    still = SEARCHED.with_options(rate=1e-9, steps=1)
    result = synthesize(tiny_classifier, "conv2:3", tiny_generator, recipe=still, start=given)
    torch.testing.assert_close(result.codes[0, 0], given, atol=1e-5, rtol=0)


def test_equal_and_broken_scores_leave_the_seeds_own(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    own = tiny_generator.initial_code(0)
    silent = Objective(lambda activations, image, code: image.sum((1, 2, 3)) * 0)
    assert torch.equal(begun(tiny_classifier, tiny_generator, Item(silent, 0, own)), own)
    broken = Objective(lambda activations, image, code: torch.where(code[:, 0] == own[0], 1.0, torch.nan))
    assert torch.equal(begun(tiny_classifier, tiny_generator, Item(broken, 0, own)), own)


def test_the_candidates_are_looked_at_in_pieces_that_fit(
    tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    seen: list[int] = []

    class Counting(nn.Module):
        def forward(self, code: Tensor) -> Tensor:
            seen.append(len(code))
            image: Tensor = tiny_generator.module(code)
            return image

    generator = Generator(Counting(), (8,), name="counting")
    item = Item(brightness(), 1, tiny_generator.initial_code(1))
    begun_best(tiny_classifier, generator, [item] * 2, 12, "fp32")
    assert seen == [2] * 12
    seen.clear()
    begun_best(tiny_classifier, generator, [item] * 9, 12, "fp32")
    assert seen == [8, 4] * 9


@pytest.mark.parametrize("value", [0, -3, 2.5, True])
def test_candidates_must_be_a_number_of_starts(value: object) -> None:
    with pytest.raises(OptionError, match="candidates"):
        Recipe(candidates=value)  # type: ignore[arg-type]


def test_the_embedded_prior_searches_for_what_it_cannot_aim_at(lite0: Classifier) -> None:
    generator = load_generator("dgn-lite0")
    assert generator.recipe.candidates > 1
    assert generator.aims_at(lite0.class_key(1))
