"""Hidden units are drawn at the scale of what they see: the right place, the right size, mirrored around."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gen_prior as gp
from gen_prior.errors import OptionError
from gen_prior.generators import load_generator
from gen_prior.objectives.receptive_field import receptive_field
from gen_prior.objectives.targets import parse_target
from gen_prior.optimise.unit_scale import Field, Placement, field_of, gradient_energy

SIZE = (12, 12)


def place(images: torch.Tensor, *fields: Field | None) -> torch.Tensor:
    return Placement(fields, SIZE, torch.device("cpu"))(images)


def test_an_image_is_put_in_its_field_and_mirrored_around_it() -> None:
    image = torch.rand(1, 3, *SIZE)
    placed = place(image, Field(4, 3, 6))
    small = torch.nn.functional.interpolate(image, (6, 6), mode="bilinear", antialias=True)
    torch.testing.assert_close(placed[..., 4:10, 3:9], small)
    torch.testing.assert_close(placed[..., 4:10, :3], small[..., :3].flip(-1))
    torch.testing.assert_close(placed[..., 10:, 3:9], small[..., 4:, :].flip(-2))


def test_fields_may_reach_beyond_the_input_and_none_is_the_whole_input() -> None:
    images = torch.rand(2, 3, *SIZE)
    placed = place(images, None, Field(-2, 8, 6))
    assert torch.equal(placed[0], images[0]), "a product with the identity is exact"
    small = torch.nn.functional.interpolate(images[1:], (6, 6), mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(placed[1, :, :4, 8:], small[:, 2:, :4])
    assert place(images, None, None) is images


def test_the_field_of_a_unit_lies_in_its_receptive_field(lite0: gp.Classifier) -> None:
    sides = []
    for name in ("blocks.2:3", "blocks.6:3", "blocks.6:3@2,9", "blocks.10:3"):
        target = parse_target(name, lite0)
        field, box = field_of(lite0, gp.objectives.activation(target), "unit"), receptive_field(lite0, target)
        assert field is not None
        assert field.side <= max(16, box.bottom - box.top + 1)
        middle = (box.top + box.bottom) / 2, (box.left + box.right) / 2
        assert abs(field.top + field.side / 2 - middle[0]) < 0.15 * lite0.input_size[0]
        assert abs(field.left + field.side / 2 - middle[1]) < 0.15 * lite0.input_size[1]
        sides.append(field.side)
    assert sides[0] < sides[1] < sides[3], "deeper units see more"


def test_classes_and_the_scale_image_are_drawn_over_the_whole_input(lite0: gp.Classifier) -> None:
    assert field_of(lite0, gp.objectives.activation(parse_target("goldfish", lite0)), "unit") is None
    assert field_of(lite0, gp.objectives.activation(parse_target("blocks.6:3", lite0)), "image") is None
    assert field_of(lite0, gp.Objective(lambda a, i, c: i.mean((1, 2, 3)), ()), "unit") is None
    assert field_of(lite0, gp.objectives.activation(parse_target("blocks.6:3", lite0)), 50) is not None


def test_the_energy_of_a_layer_is_measured_once(lite0: gp.Classifier) -> None:
    first = gradient_energy(lite0, "blocks.2", (28, 28))
    assert gradient_energy(lite0, "blocks.2", "mean").shape == first.shape == lite0.input_size
    assert gradient_energy(lite0, "blocks.2", (28, 28)) is first


@pytest.mark.parametrize("wrong", ["big", 0, -3, 2.5, True])
def test_other_scales_are_refused(wrong: object) -> None:
    with pytest.raises(OptionError, match='"unit", "image" or a side'):
        gp.Recipe(scale=wrong)  # type: ignore[arg-type]


def test_a_result_says_where_it_was_drawn_and_the_unit_saw_just_that(lite0: gp.Classifier, tmp_path: object) -> None:
    generator = load_generator("fourier", device="cpu", image_size=64)
    targets = ["blocks.4:7", "goldfish"]
    result = gp.synthesize(lite0, targets, generator, steps=2, candidates=1, trials=1, out=str(tmp_path))
    field = Field(*result.targets[0]["field"])
    assert result.targets[1]["field"] is None
    seen = result.inputs(0)
    small = torch.nn.functional.interpolate(
        lite0.resize(result.images[0]), (field.side,) * 2, mode="bilinear", antialias=True
    )
    inside = seen[..., field.top : field.top + field.side, field.left : field.left + field.side]
    torch.testing.assert_close(inside, small, atol=1e-5, rtol=0)
    activation = parse_target("blocks.4:7", lite0).read(lite0.activations(seen, ["blocks.4"]))
    torch.testing.assert_close(activation, result.activations[0], atol=1e-4, rtol=1e-4)
    again = gp.load_result(str(tmp_path))
    assert again.targets == result.targets
    assert torch.equal(again.replay(lite0, generator).images, result.images)


def test_results_of_0_1_replay_over_the_whole_input() -> None:
    assert gp.Recipe().scale == "unit"
    settings = {"recipe": {key: value for key, value in gp.Recipe().to_dict().items() if key != "scale"}}
    blank = torch.zeros(1, 1, 1)
    result = gp.Result(blank, blank, blank, blank, blank, [["ok"]], [], [0], settings, 0.0, [], [])
    assert result.recipe.scale == "image"


def test_the_scale_raises_a_shallow_unit_higher(lite0: gp.Classifier) -> None:
    generator = load_generator("dgn-lite0-gaussian", device="cpu")
    ends = [
        gp.synthesize(lite0, ["blocks.2:3", "blocks.2:10"], generator, steps=10, candidates=1, trials=1, scale=scale)
        for scale in ("image", "unit")
    ]
    assert (ends[1].activations > ends[0].activations).all()


def test_an_objective_is_drawn_at_the_scale_of_what_it_reads(lite0: gp.Classifier) -> None:
    target = parse_target("blocks.6:3", lite0)
    own = field_of(lite0, gp.objectives.activation(target), "unit")
    assert own is not None
    assert field_of(lite0, gp.objectives.neuron("blocks.6", 9), "unit") == own
    assert field_of(lite0, 2 * gp.objectives.neuron("blocks.6", 9) - gp.objectives.activation(target), "unit") == own
    custom = gp.Objective(lambda activations, image, code: activations["blocks.6"].amax((1, 2, 3)), ["blocks.6"])
    assert field_of(lite0, custom, "unit") == field_of(lite0, gp.objectives.channel("blocks.6", 3), "unit") == own
    both = gp.objectives.neuron("blocks.2", 3) + gp.objectives.neuron("blocks.10", 3)
    deeper, joint = (field_of(lite0, one, "unit") for one in (gp.objectives.neuron("blocks.10", 3), both))
    assert joint is not None
    assert deeper is not None
    assert own.side < joint.side <= deeper.side
    whole = gp.objectives.match("blocks.6", torch.ones(80, 14, 14))
    assert field_of(lite0, whole, "unit") is None, "it tells the places of the map apart"
    assert field_of(lite0, gp.objectives.activation(parse_target("goldfish", lite0)) + custom, "unit") is None


def test_classes_and_hidden_units_follow_their_own_recipes(lite0: gp.Classifier, tmp_path: object) -> None:
    generator = load_generator("dgn-lite0", device="cpu")
    targets, options = ["goldfish", "blocks.4:7", "monarch"], {"candidates": 2, "trials": 1}
    recipe, unit_recipe = (
        one.with_options(steps=steps, **options) for one, steps in ((generator.recipe, 3), (generator.unit_recipe, 2))
    )
    both: dict[str, Any] = {"recipe": recipe, "unit_recipe": unit_recipe}
    result = gp.synthesize(lite0, targets, generator, **both, batch=1, out=str(tmp_path))
    assert result.history.isnan().sum((1, 2)).tolist() == [0, 1, 0]
    features = generator.module.flow.config.features  # type: ignore[union-attr]
    assert [bool((code[:features] == 0).all()) for code in result.codes[:, 0]] == [False, True, False]
    alone = gp.synthesize(lite0, "blocks.4:7", generator, **both, batch=1)
    assert torch.equal(alone.images[0], result.images[1])
    assert torch.equal(gp.load_result(str(tmp_path)).replay(lite0, generator).images, result.images)
    everywhere = gp.synthesize(lite0, "blocks.4:7", generator, recipe=recipe)
    assert everywhere.unit_recipe == recipe, "a recipe that the user gives holds for all targets"
