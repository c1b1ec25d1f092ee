"""DeepDream: octaves, tiles, the feedback loop, and the dial through a generator."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from skimage import data
from torch import Tensor

from gen_prior import objectives
from gen_prior.applications import dream as dreaming
from gen_prior.applications.dream import dream, dream_frames, dream_through, stay_near, turned
from gen_prior.applications.dream_tiles import octave_sizes, tile_indices
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.generators import Generator
from gen_prior.generators.base import CodePrior
from gen_prior.objectives import layer_l2
from gen_prior.optimise.presets import preset


@pytest.fixture
def photo() -> Tensor:
    picture = torch.from_numpy(data.coffee()).permute(2, 0, 1).float() / 255
    return picture[:, 100:160, 200:290]


def norm(classifier: Classifier, image: Tensor, layer: str = "conv2") -> float:
    return classifier.activations(image[None], [layer])[layer].square().mean().item()


def test_a_dream_keeps_the_size_changes_little_and_excites_the_layer(
    tiny_classifier: Classifier, photo: Tensor
) -> None:
    dreamed = dream(tiny_classifier, photo, "conv2", octaves=2, steps=6)
    assert dreamed.shape == photo.shape
    assert dreamed.min() >= 0
    assert dreamed.max() <= 1
    assert norm(tiny_classifier, dreamed) > 1.02 * norm(tiny_classifier, photo)
    assert 0.001 < (dreamed - photo).abs().mean() < 0.1


def test_strength_is_how_far_it_goes(tiny_classifier: Classifier, photo: Tensor) -> None:
    weak, strong = (dream(tiny_classifier, photo, "conv2", octaves=1, steps=3, strength=s) for s in (0.3, 2.0))
    assert (weak - photo).abs().mean() < 0.4 * (strong - photo).abs().mean()


def test_a_target_instead_of_a_layer(tiny_classifier: Classifier, photo: Tensor) -> None:
    dreamed = dream(tiny_classifier, photo, target="bee", octaves=1, steps=6)
    assert tiny_classifier(dreamed[None])[0, 1] > tiny_classifier(photo[None])[0, 1]


def test_a_guide_brings_in_what_it_has(tiny_classifier: Classifier, photo: Tensor) -> None:
    guide = torch.from_numpy(data.chelsea()).permute(2, 0, 1).float()[:, 60:124, 130:194] / 255
    wanted = objectives.guide(tiny_classifier, guide, "conv2")

    def score(image: Tensor) -> float:
        return wanted(tiny_classifier.activations(image[None], ["conv2"]), image[None], image[None]).item()

    dreamed = dream(tiny_classifier, photo, "conv2", guide=guide, octaves=1, steps=6)
    alone = dream(tiny_classifier, photo, "conv2", octaves=1, steps=6)
    assert score(dreamed) > score(photo)
    assert not torch.equal(dreamed, alone)


def test_a_style_is_taken_on(tiny_classifier: Classifier, photo: Tensor) -> None:
    style = torch.from_numpy(data.chelsea()).permute(2, 0, 1).float()[:, 60:124, 130:194] / 255
    wanted = objectives.style(tiny_classifier, style, ["conv1", "conv2"])

    def score(image: Tensor) -> float:
        layers = ["conv1", "conv2"]
        return wanted(tiny_classifier.activations(image[None], layers), image[None], image[None]).item()

    dreamed = dream(tiny_classifier, photo, style=style, style_layers=["conv1", "conv2"], octaves=1, steps=9)
    assert score(photo) < score(dreamed) <= 0


@pytest.mark.parametrize(
    "given", [{}, {"layer": "conv2", "target": "bee"}, {"guide": 1}, {"style": 1, "target": "bee"}]
)
def test_one_thing_is_dreamt_of(tiny_classifier: Classifier, photo: Tensor, given: dict[str, Any]) -> None:
    given = {name: photo if value == 1 else value for name, value in given.items()}
    with pytest.raises(OptionError, match="either a layer or a target"):
        dream(tiny_classifier, photo, **given)


def test_the_same_seed_gives_the_same_dream(tiny_classifier: Classifier, photo: Tensor) -> None:
    first, again, other = (dream(tiny_classifier, photo, "conv2", octaves=1, steps=3, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_classifier_is_left_as_it_was(tiny_classifier: Classifier, photo: Tensor) -> None:
    dream(tiny_classifier, photo, "conv2", octaves=1, steps=1, tile=40)
    assert tiny_classifier.input_size == (32, 32)
    with pytest.raises(OptionError, match="tiles must be at least"):
        dream(tiny_classifier, photo, "conv2", tile=8)


@pytest.mark.parametrize(("height", "width", "shift"), [(100, 70, (0, 0)), (100, 70, (93, 5)), (33, 20, (7, 19))])
def test_tiles_cover_every_pixel(height: int, width: int, shift: tuple[int, int]) -> None:
    covered = torch.zeros(height, width)
    tiles = tile_indices(height, width, (32, 32), shift)
    for rows, columns in tiles:
        covered[rows[:, None], columns[None]] += 1
    assert covered.min() >= 1
    assert len(tiles) == -(-height // 32) * -(-width // 32)


def test_octaves_grow_by_the_scale_and_leave_out_the_tiny() -> None:
    assert octave_sizes(280, 140, 3) == [(143, 71), (200, 100), (280, 140)]
    assert octave_sizes(60, 40, 4) == [(60, 40)]


@pytest.mark.parametrize("options", [{"octaves": 0}, {"scale": 1.0}, {"steps": 0}, {"strength": 0.0}])
def test_settings_that_make_no_sense_are_refused(
    tiny_classifier: Classifier, photo: Tensor, options: dict[str, Any]
) -> None:
    with pytest.raises(OptionError):
        dream(tiny_classifier, photo, "conv2", **options)


def test_a_tiny_image_and_an_unknown_layer_are_refused(tiny_classifier: Classifier, photo: Tensor) -> None:
    with pytest.raises(OptionError, match="at least 32 x 32 pixels, got 1 x 1"):
        dream(tiny_classifier, photo[:, :1, :1], "conv2")
    with pytest.raises(UnknownNameError):
        dream(tiny_classifier, photo, "conv9")
    with pytest.raises(OptionError, match="either a layer or a target"):
        dream(tiny_classifier, photo)


def test_every_octave_is_worked_on_and_its_change_is_carried_on(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def brighten(classifier: Classifier, picture: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        sizes.append(tuple(picture.shape[1:]))
        return picture + 0.01, torch.zeros(1)

    monkeypatch.setattr(dreaming, "optimise_tiles", brighten)
    grey = torch.full((3, 80, 100), 0.5)
    dreamed = dream(tiny_classifier, grey, "conv2", octaves=3, steps=2 * dreaming.STEPS_PER_LAYOUT)
    assert sizes == [size for size in octave_sizes(80, 100, 3) for _ in range(2)]
    assert torch.allclose(dreamed, grey + 6 * 0.01, atol=1e-5)


def test_the_step_is_the_published_one_times_the_strength(tiny_classifier: Classifier, photo: Tensor) -> None:
    published = preset("deepdream2015")
    for strength in (1.0, 0.5):
        dreamed = dream(tiny_classifier, photo[:, :32, :32], "conv2", octaves=1, steps=1, strength=strength)
        # one tile and one step, so the mean change of a pixel is the rate, but for what the range cuts off
        assert (dreamed - photo[:, :32, :32]).abs().mean() == pytest.approx(published.rate * strength, rel=0.05)


def test_each_frame_is_the_last_one_enlarged_turned_and_dreamed_with_a_seed_of_its_own(
    tiny_classifier: Classifier, photo: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def brighter(classifier: Classifier, image: Tensor, layer: str, *, seed: int, **options: Any) -> Tensor:
        seeds.append(seed)
        return image * 0.9

    monkeypatch.setattr(dreaming, "dream", brighter)
    frames = list(dream_frames(tiny_classifier, photo, "conv2", frames=3, zoom=1.1, rotate=20.0, seed=4))
    assert seeds == [4, 5, 6]
    assert torch.equal(frames[0], photo * 0.9)
    for before, after in pairwise(frames):
        assert torch.equal(after, turned(before, 1.1, 20.0) * 0.9)


def test_zoom_enlarges() -> None:
    image = torch.zeros(3, 60, 60)
    image[:, 20:40, 20:40] = 1.0
    assert turned(image, 1.5, 0.0)[0].sum().item() == pytest.approx(30**2, rel=0.1)


@pytest.mark.parametrize("options", [{"rotate": float("nan")}, {"zoom": float("inf")}, {"zoom": 0.0}, {"frames": 0}])
def test_frames_that_make_no_sense_are_refused(
    tiny_classifier: Classifier, photo: Tensor, options: dict[str, Any]
) -> None:
    with pytest.raises(OptionError):
        next(dream_frames(tiny_classifier, photo, "conv2", **options))


def test_the_feedback_loop_dreams_on_the_enlarged_last_frame(tiny_classifier: Classifier, photo: Tensor) -> None:
    seen = []
    frames = list(
        dream_frames(
            tiny_classifier, photo, "conv2", frames=3, zoom=1.2, octaves=1, steps=3,
            progress=lambda progress: seen.append((progress.label, progress.done, progress.total)),
        )
    )  # fmt: skip
    assert seen == [(f"frame {frame} of 3", 3 * frame, 9) for frame in (1, 2, 3)]
    scores = [norm(tiny_classifier, frame) for frame in frames]
    assert scores[0] > norm(tiny_classifier, photo)
    enlarged = turned(frames[0], 1.2, 0.0)
    assert (frames[1] - enlarged).abs().mean() < 0.3 * (frames[1] - frames[0]).abs().mean() + 0.02


def test_turning_is_about_the_centre_and_keeps_shapes() -> None:
    image = torch.zeros(3, 41, 61)
    image[:, 18:23, 45:50] = 1.0  # right of the centre
    quarter = turned(image, 1.0, 90.0)
    place = quarter[0].flatten().argmax().item()
    row, column = divmod(place, 61)
    assert abs(column - 30) <= 3
    assert abs(row - 20) > 10
    assert torch.allclose(turned(image, 1.0, 0.0), image, atol=1e-4)


def test_through_a_generator_the_dial_bounds_the_way(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    code = 0.3 * torch.ones(8)
    ways = []
    for strength in (0.1, 0.6):
        result = dream_through(tiny_classifier, tiny_generator, code, target="bee", strength=strength, steps=30)
        assert result.activations[0, 0] > result.start_activations[0, 0]
        ways.append((result.codes[0, 0] - code).square().mean().sqrt().item())
    assert ways[0] == pytest.approx(0.1, rel=0.01)
    assert 0.1 < ways[1] <= 0.6001
    with pytest.raises(OptionError):
        dream_through(tiny_classifier, tiny_generator, code, target="bee", strength=0.0)


def test_the_dial_takes_the_place_of_what_else_keeps_codes_plausible(
    tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    code = 0.3 * torch.ones(8)
    sphere = tiny_generator.recipe.with_options(edits=(("norm_sphere", {"radius": 3.0}),), shrink=0.9, transforms=())
    results = []
    for recipe in (sphere.with_options(edits=(), shrink=1.0), sphere):
        tiny_generator.recipe = recipe
        results.append(dream_through(tiny_classifier, tiny_generator, code, target="bee", strength=0.1, steps=10))
    free, bound = results
    assert torch.equal(free.codes, bound.codes)
    assert free.activations[0, 0] > free.start_activations[0, 0]


def test_staying_near_leaves_a_near_code_alone() -> None:
    start = torch.zeros(4)
    pull = stay_near(start, 0.5)
    context = SimpleNamespace(prior=CodePrior(std=2.0))
    moved = pull(torch.tensor([[0.5, 0, 0, 0], [8.0, 0, 0, 0]]), cast(Any, context))
    assert torch.allclose(moved, torch.tensor([[0.5, 0, 0, 0], [2.0, 0, 0, 0]]))


def test_the_real_classifier_dreams(lite0: Classifier) -> None:
    photo = torch.from_numpy(data.chelsea()).permute(2, 0, 1).float()[:, 60:220, 130:290] / 255
    objective = layer_l2("blocks.5")
    dreamed = dream(lite0, photo, "blocks.5", octaves=1, steps=3)
    before, after = (objective(lite0.activations(x[None], ["blocks.5"]), x[None], x[None]) for x in (photo, dreamed))
    assert after.item() > 1.2 * before.item()
