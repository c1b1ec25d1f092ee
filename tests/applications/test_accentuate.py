"""Feature accentuation: the unit rises, the layer stays near, and the numbers say by how much."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from skimage import data
from torch import Tensor

from gen_prior.applications.accentuate import accentuate
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.generators import Generator, load_generator
from gen_prior.generators.fourier import EDGE, FourierImage
from gen_prior.util.image_io import read_image


@pytest.fixture
def photo() -> Tensor:
    return torch.from_numpy(data.coffee()).permute(2, 0, 1).float()[:, 100:164, 200:264] / 255


@pytest.mark.parametrize("size", [(16, 24), (15, 17)])
@pytest.mark.parametrize("channels", [1, 3])
def test_fourier_coefficients_of_an_image_give_the_image(size: tuple[int, int], channels: int) -> None:
    image = torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0))
    network = FourierImage(*size, channels)
    assert torch.allclose(network(network.code_of(image)), image.clamp(EDGE, 1 - EDGE), atol=1e-5)


def test_the_unit_rises_and_nearness_keeps_the_layer_near(tiny_classifier: Classifier, photo: Tensor) -> None:
    near, far = (
        accentuate(tiny_classifier, photo, "bee", layer="conv2", nearness=weight, steps=30).images[0]
        for weight in (100.0, 0.0)
    )
    assert near.activation > near.start_activation
    assert far.activation > near.activation
    assert near.distance < 0.5 * far.distance
    assert 0 < near.pixel_distance < far.pixel_distance


def test_a_photograph_that_cannot_be_bettered_is_left_alone(tiny_classifier: Classifier, photo: Tensor) -> None:
    made = accentuate(tiny_classifier, photo, "bee", layer="conv1", nearness=1e9, steps=3)
    (one,) = made.images
    assert torch.equal(one.image, made.start)
    assert (one.activation, one.distance) == (one.start_activation, 0)


def test_its_numbers_are_those_of_its_images(tiny_classifier: Classifier, photo: Tensor) -> None:
    made = accentuate(tiny_classifier, photo, ["bee", "conv2:3@mean"], layer="conv1", steps=5)
    assert made.start.shape == (3, 32, 32)
    assert (made.start - made.photograph).abs().max() <= EDGE + 1e-5
    logits = tiny_classifier(torch.stack([made.start, made.images[0].image]))[:, 1]
    assert [made.images[0].start_activation, made.images[0].activation] == pytest.approx(logits.tolist(), rel=1e-3)
    pair = tiny_classifier.activations(torch.stack([made.images[1].image, made.start]), ["conv1"])["conv1"]
    assert made.images[1].distance == pytest.approx(((pair[0] - pair[1]).norm() / pair[1].norm()).item(), rel=1e-3)
    again = accentuate(tiny_classifier, photo, "bee", layer="conv1", steps=5)
    assert torch.equal(again.images[0].image, made.images[0].image), "alone or among others"


@pytest.mark.parametrize("name", ["tiny", "pixel"])
def test_through_a_prior_and_in_pixels(
    tiny_classifier: Classifier, tiny_generator: Generator, photo: Tensor, name: str
) -> None:
    generator = tiny_generator if name == "tiny" else load_generator("pixel", device="cpu")
    made = accentuate(tiny_classifier, photo, "bee", generator, layer="conv1", nearness=1.0, steps=10)
    assert made.images[0].activation > made.images[0].start_activation
    assert torch.allclose(made.images[0].image, generator_image(generator, made.images[0].code), atol=1e-5)


def generator_image(generator: Generator, code: Tensor) -> Tensor:
    return generator(code[None])[0] if generator.domain == "code" else code


def test_a_folder_holds_the_images_and_their_numbers(
    tiny_classifier: Classifier, photo: Tensor, tmp_path: Path
) -> None:
    made = accentuate(tiny_classifier, photo, ["bee", "cup"], layer="conv1", steps=3)
    made.save(tmp_path)
    with (tmp_path / "numbers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["activation"]) for row in rows] == [one.activation for one in made.images]
    for row in rows:
        assert read_image(tmp_path / row["image"]).shape == (3, 32, 32)
    assert read_image(tmp_path / "accentuation-sheet.png").ndim == 3


def test_what_makes_no_sense_is_refused(tiny_classifier: Classifier, photo: Tensor) -> None:
    with pytest.raises(OptionError, match="nearness"):
        accentuate(tiny_classifier, photo, "bee", layer="conv1", nearness=-1)
    with pytest.raises(UnknownNameError, match="conv1"):
        accentuate(tiny_classifier, photo, "bee", layer="conv7")
    with pytest.raises(OptionError, match="maco cannot show a photograph"):
        accentuate(tiny_classifier, photo, "bee", "maco", layer="conv1")
