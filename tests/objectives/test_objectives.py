"""Every objective rises in a few steps; sums keep their descriptions; diversity leaves the items of a batch alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gen_prior import objectives
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import load_generator
from gen_prior.generators.base import Generator
from gen_prior.objectives import Objective
from gen_prior.objectives.targets import Target, parse_target
from gen_prior.optimise.synthesize import synthesize

PHOTOGRAPH = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(5))

OBJECTIVES: dict[str, Callable[[Classifier], Objective]] = {
    "activation": lambda c: objectives.activation(parse_target("bee", c)),
    "log_probability": lambda c: objectives.log_probability(parse_target("bee", c)),
    "channel": lambda c: objectives.channel("conv2", 3),
    "channel of logits": lambda c: objectives.channel("logits", 2),
    "neuron at the centre": lambda c: objectives.neuron("conv1", 2),
    "neuron": lambda c: objectives.neuron("conv2", 5, (3, 4)),
    "units": lambda c: objectives.units("conv2", {1: 1.0, 7: -0.5}),
    "direction": lambda c: objectives.direction("conv2", torch.linspace(-1, 1, 12)),
    "direction at a place": lambda c: objectives.direction("conv2", torch.ones(12), (1, 2), cosine_power=2.0),
    "layer_l2": lambda c: objectives.layer_l2("relu2"),
    "match": lambda c: objectives.match("logits", torch.tensor([5.0, -5, 0, 0, 3])),
    "match of means": lambda c: objectives.match("conv2", torch.linspace(-1, 1, 12), "cosine"),
    "match_image": lambda c: objectives.match_image(c, PHOTOGRAPH, "relu1"),
    "match_image by cosine": lambda c: objectives.match_image(c, PHOTOGRAPH[None], "relu2", "cosine"),
    "style": lambda c: objectives.style(c, PHOTOGRAPH, ["relu1", "relu2"]),
    "apart_from": lambda c: objectives.apart_from(c, torch.stack([PHOTOGRAPH, 0.5 * PHOTOGRAPH]), "relu2"),
    "sum": lambda c: objectives.channel("conv2", 3) - 0.5 * objectives.channel("conv2", 4),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_rise(name: str, tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    objective = OBJECTIVES[name](tiny_classifier)
    result = synthesize(tiny_classifier, objective, tiny_generator, seeds=3, steps=5, rate=0.05, prior_weight=0.0)
    assert (result.activations > result.start_activations).all()
    assert result.targets[0]["objective"] == objective.description


@pytest.mark.parametrize("name", OBJECTIVES)
def test_items_do_not_see_each_other(name: str, tiny_classifier: Classifier) -> None:
    objective = OBJECTIVES[name](tiny_classifier)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))

    def score(batch: torch.Tensor) -> torch.Tensor:
        return objective(tiny_classifier.activations(batch, objective.layers), batch, batch)

    torch.testing.assert_close(score(images[1:2]), score(images)[1:2])


def test_sums_scale_and_keep_their_descriptions(tiny_classifier: Classifier) -> None:
    first, second = objectives.channel("conv2", 3), objectives.layer_l2("relu1")
    whole = sum([2 * first, -second])
    assert isinstance(whole, Objective)
    assert whole.description == "2 * (channel conv2:3) + -1 * (L2 of relu1)"
    assert set(whole.layers) == {"conv2", "relu1"}
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    seen = tiny_classifier.activations(images, whole.layers)
    expected = 2 * first(seen, images, images) - second(seen, images, images)
    torch.testing.assert_close(whole(seen, images, images), expected)
    with pytest.raises(TypeError):
        sum([first], start=1)


def test_units_read_the_layer() -> None:
    seen: Any = {"maps": torch.arange(48.0).view(2, 3, 2, 4), "tokens": torch.arange(30.0).view(2, 5, 3)}
    code = torch.zeros(2, 1)
    read = {
        objectives.neuron("maps", 1): seen["maps"][:, 1, 1, 2],
        objectives.neuron("maps", 1, (0, 3)): seen["maps"][:, 1, 0, 3],
        objectives.channel("maps", 2): seen["maps"][:, 2].mean((1, 2)),
        objectives.neuron("tokens", 2): seen["tokens"][:, 0, 2],
        objectives.neuron("tokens", 2, 4): seen["tokens"][:, 4, 2],
        objectives.channel("tokens", 1): seen["tokens"][:, :, 1].mean(1),
        objectives.units("tokens", {0: 2.0, 2: -1.0}, 3): 2 * seen["tokens"][:, 3, 0] - seen["tokens"][:, 3, 2],
    }
    for objective, expected in read.items():
        torch.testing.assert_close(objective(seen, code, code), expected)


def test_units_of_maps_with_channels_last(channels_last: Classifier) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    seen = channels_last.activations(images, ["block", "norm", "patches"])
    block, norm, patches = (seen[name].detach() for name in ("block", "norm", "patches"))
    along = torch.tensor([3.0, 0, 0, 0, 0, 4])
    read = {
        objectives.neuron("block", 5): block[:, 4, 4, 5],
        objectives.neuron("block", 5, (7, 1)): block[:, 7, 1, 5],
        objectives.channel("block", 2): block[..., 2].mean((1, 2)),
        objectives.units("block", {0: 2.0, 5: -1.0}): (2 * block[..., 0] - block[..., 5]).mean((1, 2)),
        objectives.direction("block", along, (1, 2)): block[:, 1, 2] @ along / 5,
        objectives.channel("norm", 7): norm[..., 7].mean((1, 2)),  # 8 x 8 x 8: by its kind of layer only
        objectives.channel("patches", 5): patches[:, 5].mean((1, 2)),
        objectives.match("block", along): -(block.mean((1, 2)) - along).square().sum(1) / 25,
    }
    for objective, expected in read.items():
        torch.testing.assert_close(objective(seen, images, images), expected)
    assert objectives.gram(seen, "block").shape == (2, 6, 6)
    with pytest.raises(OptionError, match="units 0 to 5"):
        objectives.channel("block", 7)(seen, images, images)


def test_several_objectives_of_maps_with_channels_last_rise_in_one_batch(
    channels_last: Classifier, tiny_generator: Generator
) -> None:
    goals: list[Objective | Target] = [
        objectives.channel("norm", 7),
        objectives.neuron("block", 1, (2, 3)),
        parse_target("block:1@2,3", channels_last),
    ]
    result = synthesize(channels_last, goals, tiny_generator, steps=5, scale="image")
    seen = channels_last.activations(result.images[:, 0], ["norm", "block"])
    assert (result.activations > result.start_activations).all()
    torch.testing.assert_close(result.activations[0, 0], seen["norm"][0, ..., 7].mean())
    assert torch.equal(result.codes[1], result.codes[2])


def test_perfect_matches_score_best(tiny_classifier: Classifier) -> None:
    image = PHOTOGRAPH[None]
    for layer in ("relu1", "relu2", "logits"):
        for distance in ("l2", "cosine"):
            objective = objectives.match_image(tiny_classifier, image, layer, distance)
            seen = tiny_classifier.activations(image, [layer])
            assert objective(seen, image, image).item() == pytest.approx(0, abs=1e-6)
    silence: Any = {"relu1": torch.zeros(1, 8, 4, 4)}
    silent = objectives.match("relu1", torch.ones(8, 4, 4))
    assert silent(silence, image, image).item() == -1
    style = objectives.style(tiny_classifier, image, ["relu1"])
    values = tiny_classifier.activations(image, ["relu1"])["relu1"]
    moved: Any = {"relu1": values.roll((3, 5), (2, 3))}
    stronger: Any = {"relu1": values * 1.2}
    assert style(moved, image, image).item() == pytest.approx(0, abs=1e-6)  # where things are is no matter of style
    assert style(stronger, image, image).item() < -0.1
    apart = objectives.apart_from(tiny_classifier, image, "relu2")
    assert apart(tiny_classifier.activations(image, ["relu2"]), image, image).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda c: objectives.units("conv2", {}), "at least one unit"),
        (lambda c: objectives.direction("conv2", torch.zeros(12)), "other than zero"),
        (lambda c: objectives.match("conv2", torch.ones(12), "l1"), "l2, cosine"),
        (lambda c: objectives.match("logits", torch.tensor([torch.nan])), "finite"),
        (lambda c: objectives.match_image(c, torch.rand(2, 3, 8, 8), "relu1"), r"\[3, H, W\], got \[2, 3, 8, 8\]"),
        (lambda c: objectives.style(c, PHOTOGRAPH, []), "at least one layer"),
        (lambda c: objectives.apart_from(c, torch.empty(0, 3, 8, 8), "relu1"), "finished images"),
        (lambda c: objectives.log_probability(parse_target("conv2:1", c)), "no probability"),
    ],
)
def test_arguments_out_of_range_are_refused(
    make: Callable[[Classifier], Objective], words: str, tiny_classifier: Classifier
) -> None:
    with pytest.raises(OptionError, match=words):
        make(tiny_classifier)


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (objectives.channel("conv2", 12), "units 0 to 11, got 12"),
        (objectives.neuron("conv2", 0, (16, 0)), r"up to \(15, 15\)"),
        (objectives.neuron("conv2", 0, 3), r"positions \(y, x\)"),
        (objectives.direction("conv2", torch.ones(5)), "has 12 units, the direction 5"),
        (objectives.match("conv2", torch.ones(3, 4, 4)), r"\[3, 4, 4\] is wanted"),
    ],
)
def test_what_the_layer_does_not_have(
    objective: Objective, words: str, tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    with pytest.raises(OptionError, match=words):
        synthesize(tiny_classifier, objective, tiny_generator, steps=1)


@pytest.mark.parametrize("generator", ["pixel", "dgn-lite0"])
def test_real_ones_rise_in_every_mode(generator: str, lite0: Classifier) -> None:
    chosen = [
        objectives.channel("blocks.4", 3) + objectives.neuron("blocks.8", 5),
        objectives.layer_l2("blocks.6"),
        objectives.match("blocks.5", torch.ones(lite0.layer_shape("blocks.5")[0]), "cosine"),
    ]
    result = synthesize(lite0, chosen, load_generator(generator, device="cpu"), steps=32)
    assert (result.activations > result.start_activations).all()
    assert result.images.shape[2] == 3
