"""Morphs: the path keeps to the sphere, both ends are themselves, and a folder goes on where it was."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gen_prior.applications import morph as morphing
from gen_prior.applications.morph import interpolate, morph
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError, OutputError
from gen_prior.generators import Generator
from gen_prior.recipe import Recipe
from gen_prior.util.image_io import read_image

SHARES = torch.linspace(0, 1, 5)
ENDS = torch.randn(2, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def photograph() -> Tensor:
    return torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))


def on_spheres(generator: Generator, *spheres: dict[str, object]) -> Generator:
    generator.recipe = Recipe(edits=tuple(("norm_sphere", options) for options in spheres))
    return generator


def test_codes_without_a_sphere_go_straight(tiny_generator: Generator) -> None:
    path = interpolate(tiny_generator, ENDS[0], ENDS[1], SHARES)
    assert torch.allclose(path, torch.lerp(ENDS[0], ENDS[1], SHARES[:, None]), atol=1e-6)


def test_codes_of_a_sphere_go_along_its_arc(tiny_generator: Generator) -> None:
    first, second = 2 * ENDS[0] / ENDS[0].norm(), 2 * ENDS[1] / ENDS[1].norm()
    path = interpolate(on_spheres(tiny_generator, {}), first, second, SHARES)
    assert torch.allclose(path.norm(dim=1), torch.tensor(2.0), atol=1e-5)
    turns = torch.cosine_similarity(path[1:], path[:-1]).arccos()
    assert torch.allclose(turns, turns.mean(), atol=1e-4)
    assert torch.equal(path[[0, -1]], torch.stack([first, second]))


def test_each_part_has_its_own_sphere_about_the_priors_mean(tiny_generator: Generator) -> None:
    generator = Generator(tiny_generator.module, (8,), code_mean=1.0, code_std=torch.arange(1.0, 9.0))
    on_spheres(generator, {"units": (0, 3)}, {"units": (3, 6), "inside": True})
    path = (interpolate(generator, ENDS[0], ENDS[1], SHARES) - 1) / torch.arange(1.0, 9.0)
    for part in (path[:, :3], path[:, 3:6]):
        norms = part.norm(dim=1)
        assert torch.allclose(norms, torch.lerp(norms[0], norms[-1], SHARES), atol=1e-5)
    assert torch.allclose(path[2, 6:], (path[0, 6:] + path[4, 6:]) / 2, atol=1e-6)


@pytest.mark.parametrize("second", [ENDS[0], -ENDS[0], torch.zeros(8)])
def test_ends_without_an_arc_between_them(tiny_generator: Generator, second: Tensor) -> None:
    path = interpolate(on_spheres(tiny_generator, {}), ENDS[0], second, SHARES)
    assert path.isfinite().all()
    assert torch.equal(path[-1], second)


def test_codes_of_another_shape_are_refused(tiny_generator: Generator) -> None:
    with pytest.raises(OptionError, match=r"codes of \[8\], got \[7\]"):
        interpolate(tiny_generator, ENDS[0], ENDS[1, :7], SHARES)


def test_a_morph_begins_and_ends_at_its_ends(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    made = morph(tiny_classifier, ["bee", "cup", "bee"], tiny_generator, frames=4, steps=5)
    assert made.images.shape == (7, 3, 16, 16)
    assert made.positions.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    assert made.units == ["bee", "cup"]
    assert torch.equal(made.images[0], made.images[6]), "a target that comes twice has one code"
    bee, cup = made.activations.T
    logits = tiny_classifier(made.images)
    assert torch.allclose(bee, logits[:, 1], atol=1e-4)
    assert torch.allclose(cup, logits[:, 4], atol=1e-4)
    assert bee[0] > bee[3]
    assert cup[3] > cup[0]


def test_a_photograph_and_a_code(tiny_classifier: Classifier, tiny_generator: Generator, photograph: Tensor) -> None:
    made = morph(tiny_classifier, [photograph, ENDS[0]], tiny_generator, frames=2)
    assert made.names == ["image 1", "code 2"]
    assert torch.equal(made.codes[1], ENDS[0])
    seen = tiny_classifier(made.images).argmax(1)
    assert made.units == list(dict.fromkeys(tiny_classifier.class_name(int(one)) for one in seen))


def test_a_folder_goes_on_where_it_was(
    tiny_classifier: Classifier, tiny_generator: Generator, photograph: Tensor, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ends: list[Any] = [photograph, "bee"]
    straight = morph(tiny_classifier, ends, tiny_generator, frames=3, steps=4)

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(morphing, "_measured", stopped)
        with pytest.raises(KeyboardInterrupt):
            morph(tiny_classifier, ends, tiny_generator, frames=3, steps=4, out=tmp_path)
    monkeypatch.setattr(morphing, "encode", stopped)
    made = morph(tiny_classifier, ends, tiny_generator, frames=3, steps=4, out=tmp_path)
    assert torch.equal(made.images, straight.images)
    again = morph(tiny_classifier, ends, tiny_generator, frames=3, steps=4, out=tmp_path)
    assert torch.equal(again.activations, straight.activations)
    assert again.units == straight.units
    with (tmp_path / "numbers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["activation"]) for row in rows] == straight.activations.flatten().tolist()
    assert read_image(tmp_path / rows[-1]["image"]).shape == (3, 16, 16)


def test_another_morph_is_refused_or_replaced(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    morph(tiny_classifier, ["bee", "cup"], tiny_generator, frames=3, steps=2, out=tmp_path)
    for others in ({"ends": ["bee", "ant"]}, {"frames": 4}, {"seed": 1}, {"steps": 3}):
        given: dict[str, Any] = {"ends": ["bee", "cup"], "frames": 3, "seed": 0, "steps": 2} | others
        with pytest.raises(OptionError, match=f"holds a morph with (an)?other {next(iter(others))}"):
            morph(tiny_classifier, given.pop("ends"), tiny_generator, out=tmp_path, **given)
    morph(tiny_classifier, ["bee", "ant"], tiny_generator, frames=2, steps=2, out=tmp_path, overwrite=True)
    assert len(list(tmp_path.glob("frame-*.png"))) == 2
    strip, frame = read_image(tmp_path / "morph-strip.png"), read_image(tmp_path / "frame-0000.png")
    assert strip.shape[1] > frame.shape[1] + 5, "the activations stand below the frames"
    assert strip[:, frame.shape[1] :].min() < 0.5
    (tmp_path / "morph.json").write_text("{}")
    with pytest.raises(OutputError, match="damaged"):
        morph(tiny_classifier, ["bee", "ant"], tiny_generator, frames=2, steps=2, out=tmp_path)


@pytest.mark.parametrize("ends", [["bee"], ["bee", "conv1:0-1"]])
def test_ends_that_make_no_sense_are_refused(
    tiny_classifier: Classifier, tiny_generator: Generator, ends: list[str]
) -> None:
    with pytest.raises(OptionError):
        morph(tiny_classifier, ends, tiny_generator, frames=2)
