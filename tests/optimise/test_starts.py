"""Where an optimisation begins: at the best of several starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import gen_prior as gp
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import load_generator
from gen_prior.generators.base import Generator
from gen_prior.objectives import Objective
from gen_prior.optimise.batch import BatchResult, Item
from gen_prior.optimise.engine import Engine
from gen_prior.optimise.resolve import resolve_objective
from gen_prior.optimise.starts import select_start
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.util.random import derived_seed

SEARCHED = Recipe(steps=2, rate=0.02, candidates=12)
TRIED = Recipe(steps=16, rate=0.02, candidates=5, trials=3)


class WatchedEngine(Engine):
    """Keeps the items and recipe of each trial."""

    trials: ClassVar[list[tuple[Sequence[Item], Recipe]]] = []

    def optimise(self, items: Sequence[Item], recipe: Recipe, **callbacks: Any) -> BatchResult:
        self.trials.append((items, recipe))
        return super().optimise(items, recipe, **callbacks)


class NoTrials(Engine):
    def optimise(self, items: Sequence[Item], recipe: Recipe, **callbacks: Any) -> BatchResult:
        raise AssertionError("no trial was asked for")


@pytest.fixture
def watched(tiny_classifier: Classifier, tiny_generator: Generator) -> Iterator[WatchedEngine]:
    yield WatchedEngine(tiny_classifier, tiny_generator, precision="fp32")
    WatchedEngine.trials.clear()


def brightness(code_weight: float = 0.0) -> Objective:
    return Objective(
        lambda activations, image, code: image.mean((1, 2, 3)) + code_weight * code[:, 0], description="bright"
    )


def begun(classifier: Classifier, generator: Generator, item: Item, candidates: int = 12) -> Tensor:
    recipe = SEARCHED.with_options(candidates=candidates)
    return select_start(NoTrials(classifier, generator, precision="fp32"), [item], recipe)[0].start


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
    targets: list[str | Objective] = ["conv2:3", "conv2:5", brightness(0.3)]
    together = synthesize(tiny_classifier, targets, tiny_generator, seeds=2, recipe=SEARCHED)
    alone = synthesize(tiny_classifier, targets[1], tiny_generator, seeds=[1], recipe=SEARCHED, batch=1)
    torch.testing.assert_close(alone.codes[0, 0], together.codes[1, 1], atol=1e-5, rtol=1e-5)


def test_the_starts_of_a_class_that_the_generator_aims_at_are_all_aimed(
    tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    def class_init(wanted: str, noise: Tensor, seed: int) -> Tensor | None:
        return noise + 0.5 if wanted == "bee" else None

    generator = Generator(tiny_generator.module, (8,), name="aiming", class_init=class_init)
    for name in ("bee", "ant"):
        goal = resolve_objective(name, tiny_classifier, SEARCHED)
        item = Item(goal.objective, 2, generator.initial_code(2, name), goal.target)
        found = select_start(NoTrials(tiny_classifier, generator, precision="fp32"), [item], SEARCHED)[0].start
        seeds = [2, *(derived_seed(2, place) for place in range(1, 12))]
        starts = [generator.initial_code(seed) + (0.5 if name == "bee" else 0.0) for seed in seeds]
        codes = torch.stack(starts)
        images = generator(codes)
        scores = item.objective(tiny_classifier.activations(images, item.objective.layers), images, codes)
        torch.testing.assert_close(found, codes[int(scores.argmax())])


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


def test_candidates_are_looked_at_one_by_one_on_a_cpu(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    seen: list[int] = []

    class Counting(nn.Module):
        def forward(self, code: Tensor) -> Tensor:
            seen.append(len(code))
            image: Tensor = tiny_generator.module(code)
            return image

    generator = Generator(Counting(), (8,), name="counting")
    item = Item(brightness(), 1, tiny_generator.initial_code(1))
    select_start(NoTrials(tiny_classifier, generator, precision="fp32"), [item] * 2, SEARCHED)
    assert seen == [1] * 24


def test_it_goes_on_from_the_best_trial(watched: WatchedEngine, tiny_generator: Generator) -> None:
    item = Item(brightness(0.3), 5, tiny_generator.initial_code(5))
    found = select_start(watched, [item], TRIED)[0]
    tried = [(items[0], recipe) for items, recipe in watched.trials]
    seeds = [5, *(derived_seed(5, rank) for rank in range(1, 5))]
    codes = torch.stack([tiny_generator.initial_code(seed) for seed in seeds])
    scores = tiny_generator(codes).mean((1, 2, 3)) + 0.3 * codes[:, 0]
    best = codes[scores.argsort(descending=True)[:3]]
    assert torch.equal(torch.stack([trial.start for trial, _ in tried]), best)
    assert len({trial.seed for trial, _ in tried}) == 3
    assert {(recipe.steps, recipe.rate, recipe.final_rate) for _, recipe in tried} == {(2, 0.02, 0.02)}
    ends = [watched.optimise([trial], recipe) for trial, recipe in tried]
    assert torch.equal(found.start, max(ends, key=lambda end: float(end.scores)).codes[0])
    assert found.seed == item.seed


def test_trials_are_chosen_by_the_score_not_by_what_is_reported(
    tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    def dark(activations: object, image: Tensor, code: Tensor) -> Tensor:
        return -image.mean((1, 2, 3))

    def bright(activations: object, image: Tensor, code: Tensor) -> Tensor:
        return image.mean((1, 2, 3))

    result = synthesize(
        tiny_classifier,
        Objective(dark, reported=Objective(bright)),
        tiny_generator,
        recipe=TRIED.with_options(rate=1e-6),
    )
    codes = torch.stack([tiny_generator.initial_code(derived_seed(0, place)) for place in range(1, 5)])
    codes = torch.cat([tiny_generator.initial_code(0)[None], codes])
    darkest = tiny_generator(codes).mean((1, 2, 3)).min()
    torch.testing.assert_close(result.start_activations[0, 0], darkest, atol=1e-4, rtol=0)


def test_where_all_candidates_are_tried_none_is_looked_at_before(
    watched: WatchedEngine, tiny_generator: Generator
) -> None:
    def never(activations: object, image: Tensor, code: Tensor) -> Tensor:
        assert code.requires_grad or watched.trials, "a start was looked at before the first trial"
        return image.mean((1, 2, 3))

    item = Item(Objective(never), 5, tiny_generator.initial_code(5))
    select_start(watched, [item], TRIED.with_options(trials=5))
    tried = [items[0].start for items, _ in watched.trials]
    seeds = [5, *(derived_seed(5, place) for place in range(1, 5))]
    assert torch.equal(torch.stack(tried), torch.stack([tiny_generator.initial_code(seed) for seed in seeds]))


def test_the_steps_of_trials_are_counted_and_reported(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    reports: list[gp.Progress] = []
    pictures: list[tuple[int, int]] = []
    result = synthesize(
        tiny_classifier, "conv2:3", tiny_generator, seeds=3, recipe=TRIED, batch=2, progress=reports.append,
        record=lambda item, step, images: pictures.append((item, step)),
    )  # fmt: skip
    batches = [(0, 2, "image 1-2 of 3"), (2, 1, "image 3 of 3")]
    assert [(report.done, report.total, report.label) for report in reports] == [
        (first * 22 + size * step, 66, f"{images}, step {step}/22")
        for first, size, images in batches
        for step in range(1, 23)
    ]
    assert [len(report.activations) for report in reports if report.activations is not None] == [2] * 22 + [1] * 22
    assert pictures == [(item, step) for item in (0, 2) for step in range(1, 18)]
    assert result.history.shape == (1, 3, 16)


def test_progress_callbacks_of_version_0_1_still_work(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    calls: list[tuple[int, int, int, int]] = []
    with pytest.warns(DeprecationWarning, match="gen_prior.Progress"):
        synthesize(
            tiny_classifier, "conv2:3", tiny_generator, seeds=3, recipe=TRIED, batch=2,
            progress=lambda item, items, step, steps, activations: calls.append((item, items, step, steps)),
        )  # fmt: skip
    assert calls == [(item, 3, step, 22) for item in (0, 2) for step in range(1, 23)]


def test_with_trials_too_what_is_chosen_depends_on_the_item_alone(
    tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    targets: list[str | Objective] = ["conv2:3", "conv2:5", brightness(0.3)]
    together = synthesize(tiny_classifier, targets, tiny_generator, seeds=2, recipe=TRIED)
    alone = synthesize(tiny_classifier, targets[1], tiny_generator, seeds=[1], recipe=TRIED, batch=1)
    torch.testing.assert_close(alone.codes[0, 0], together.codes[1, 1], atol=1e-5, rtol=1e-5)


def test_a_given_start_is_neither_searched_nor_tried_and_takes_as_many_evaluations(
    tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    generator = Generator(tiny_generator.module, (8,), name="tried", recipe=TRIED)
    given = generator.initial_code(40)
    result = synthesize(tiny_classifier, "conv2:3", generator, start=given)
    assert result.recipe == Recipe(steps=27, rate=0.02)
    still = synthesize(tiny_classifier, "conv2:3", generator, start=given, rate=1e-9)
    torch.testing.assert_close(still.codes[0, 0], given, atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [0, -3, 2.5, True])
def test_candidates_must_be_a_number_of_starts(value: object) -> None:
    with pytest.raises(OptionError, match="candidates"):
        Recipe(candidates=value)  # type: ignore[arg-type]


def test_a_class_begins_higher_at_the_best_of_the_embedded_priors_starts(lite0: Classifier) -> None:
    generator = load_generator("dgn-lite0")
    still = generator.recipe.with_options(steps=1)
    begun = [
        synthesize(lite0, ["goldfish", "tarantula"], generator, seeds=[9], recipe=still.with_options(candidates=count))
        for count in (1, 6)
    ]
    rise = begun[1].start_activations - begun[0].start_activations
    assert (rise >= -1e-3).all(), "a seed's own start is among them"
    assert rise.max() > 0.1
    aimless = synthesize(
        lite0, ["goldfish", "tarantula"], load_generator("dgn-lite0-gaussian"), seeds=[9], steps=1, candidates=1
    )
    assert (begun[0].start_activations > aimless.start_activations + 1).all(), "classes begin at photographs' forms"
