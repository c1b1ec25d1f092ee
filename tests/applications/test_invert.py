"""Inversion: the feature error falls, and is what it says it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from skimage import data
from torch import Tensor

from gen_prior.applications.invert import invert
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.generators import Generator, load_generator
from gen_prior.objectives import gram
from gen_prior.report.film import Recorder
from gen_prior.util.image_io import read_image


@pytest.fixture
def photo() -> Tensor:
    return torch.from_numpy(data.coffee()).permute(2, 0, 1).float()[:, 100:164, 200:280] / 255


def test_reconstructions_from_shallow_to_deep_in_pixels_and_through_a_prior(
    tiny_classifier: Classifier, tiny_generator: Generator, photo: Tensor, tmp_path: Path
) -> None:
    generators = {"tiny": tiny_generator, "pixel": load_generator("pixel", device="cpu", image_size=32)}
    found = invert(tiny_classifier, photo, ["logits", "conv1", "conv2"], generators, steps=60)
    assert found.layers == ["conv1", "conv2", "logits"]
    pixels = found.reconstructions["pixel"]
    assert pixels["conv1"].error < 0.1
    assert pixels["conv1"].error < found.reconstructions["tiny"]["conv1"].error
    wanted, values = (
        tiny_classifier.activations(image[None], ["conv2"])["conv2"]
        for image in (found.original, pixels["conv2"].image)
    )
    assert pixels["conv2"].error == pytest.approx(
        float((values - wanted).square().sum() / wanted.square().sum()), rel=1e-4
    )
    found.save(tmp_path)
    record = json.loads((tmp_path / "inversion.json").read_text())
    assert record["feature_error"]["pixel"]["conv1"] == pixels["conv1"].error
    sheet = read_image(tmp_path / "inversion.png")
    assert sheet.shape[2] > 4 * 144
    assert sheet.shape[1] > 2 * 144
    assert len(list(tmp_path.glob("*.png"))) == 2 + 6


def test_a_prior_with_an_encoder_starts_from_the_code_of_the_image(
    tiny_classifier: Classifier, tiny_generator: Generator, photo: Tensor
) -> None:
    seen = []

    def encode(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.full((len(images), 8), 0.25)

    prior = Generator(tiny_generator.module, (8,), name="with an encoder", encode=encode)
    pixel = load_generator("pixel", device="cpu", image_size=32)
    found = invert(
        tiny_classifier, photo, ["conv2"], {"prior": prior, "blind": tiny_generator, "pixel": pixel}, steps=1
    )
    assert [image.shape[-2:] for image in seen] == [(32, 32)]
    start = prior(torch.full((1, 8), 0.25))
    error = tiny_classifier.activations(start, ["conv2"])["conv2"]
    wanted = tiny_classifier.activations(found.original[None], ["conv2"])["conv2"]
    before = float((error - wanted).square().sum() / wanted.square().sum())
    assert found.reconstructions["prior"]["conv2"].error == pytest.approx(before, rel=0.2), "one step from there"
    assert found.reconstructions["prior"]["conv2"].code.mean() == pytest.approx(0.25, abs=0.1)
    started = {"prior": "the encoder's code of the image", "blind": "seed", "pixel": "seed"}
    assert found.settings["started_from"] == started


def test_a_style_term_brings_the_textures_nearer(tiny_classifier: Classifier, photo: Tensor, tmp_path: Path) -> None:
    pixel = {"pixel": load_generator("pixel", device="cpu", image_size=32)}
    rows = {}
    for weight in (0.0, 3.0):
        found = invert(
            tiny_classifier, photo, ["logits"], pixel, style_layers=["conv1", "conv2"], style_weight=weight, steps=200
        )
        rows[weight] = found.reconstructions["pixel"]["logits"]
    strong, none = rows[3.0].style_error, rows[0.0].style_error
    assert strong is not None
    assert none is not None
    assert strong < 0.1 * none
    grams = []
    for image in (rows[3.0].image, found.original):
        seen = tiny_classifier.activations(image[None], ["conv1", "conv2"])
        grams.append([gram(seen, layer) for layer in seen])
    errors = [float((a - b).square().sum() / b.square().sum()) for a, b in zip(*grams, strict=True)]
    assert rows[3.0].style_error == pytest.approx(sum(errors) / 2, rel=1e-3)
    found.save(tmp_path)
    record = json.loads((tmp_path / "inversion.json").read_text())
    assert record["style_error"]["pixel"]["logits"] == rows[3.0].style_error
    assert record["settings"]["style_layers"] == ["conv1", "conv2"]
    plain = invert(tiny_classifier, photo, ["logits"], pixel, steps=1)
    assert plain.reconstructions["pixel"]["logits"].style_error is None
    assert "style_error" not in plain.to_dict()


def test_every_reconstruction_can_be_filmed(
    tiny_classifier: Classifier, tiny_generator: Generator, photo: Tensor
) -> None:
    generators = {"tiny": tiny_generator, "pixel": load_generator("pixel", device="cpu", image_size=32)}
    recorder = Recorder(1)
    found = invert(tiny_classifier, photo, ["conv1", "logits"], generators, steps=2, record=recorder)
    made = [row.image for method in found.methods for row in found.reconstructions[method].values()]
    assert {item: len(frames) for item, frames in recorder.frames.items()} == {0: 3, 1: 3, 2: 3, 3: 3}
    for item, image in enumerate(made):
        assert (recorder.frames[item][-1].float() / 255 - image).abs().max() < 0.003


def test_strange_styles_are_refused(tiny_classifier: Classifier, tiny_generator: Generator, photo: Tensor) -> None:
    with pytest.raises(UnknownNameError, match="conv3"):
        invert(tiny_classifier, photo, ["conv2"], {"tiny": tiny_generator}, style_layers=["conv3"])
    for weight in (-1.0, float("nan")):
        with pytest.raises(OptionError, match="style_weight"):
            invert(tiny_classifier, photo, ["conv2"], {"tiny": tiny_generator}, style_weight=weight)


def test_unknown_layers_and_nothing_to_do_are_refused(
    tiny_classifier: Classifier, tiny_generator: Generator, photo: Tensor
) -> None:
    with pytest.raises(UnknownNameError, match="conv3"):
        invert(tiny_classifier, photo, ["conv3"], {"tiny": tiny_generator})
    with pytest.raises(OptionError, match="at least one"):
        invert(tiny_classifier, photo, [], {"tiny": tiny_generator})
    with pytest.raises(OptionError, match="at least one"):
        invert(tiny_classifier, photo, ["conv2"], {})


def test_the_real_classifiers_shallow_layer_gives_the_photograph_back(lite0: Classifier) -> None:
    photo = torch.from_numpy(data.chelsea()).permute(2, 0, 1).float() / 255
    found = invert(lite0, photo, ["blocks.0"], {"pixel": load_generator("pixel", device="cpu")}, steps=40)
    back = found.reconstructions["pixel"]["blocks.0"]
    assert back.error < 0.2
    centred = [image.mean(0).flatten() - image.mean() for image in (back.image, found.original)]
    assert torch.nn.functional.cosine_similarity(centred[0], centred[1], dim=0) > 0.7
