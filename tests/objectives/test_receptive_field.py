"""Receptive fields against arithmetic done by hand."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from gen_prior import objectives
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.objectives.receptive_field import Box, ReceptiveFields, receptive_field
from gen_prior.objectives.targets import parse_target


@pytest.mark.parametrize(
    ("target", "box"),
    [
        ("conv1:0@10,12", (9, 11, 12, 14)),  # 3 x 3, stride 1: 3 pixels around the place
        ("conv1:0@0,31", (0, 30, 2, 32)),  # cut off at the border
        ("conv2:3@5,5", (8, 8, 13, 13)),  # then 3 x 3, stride 2: 5 pixels around (10, 10)
        ("conv2:3@mean", (0, 0, 32, 32)),
        ("bee", (0, 0, 32, 32)),
    ],
)
def test_boxes_are_what_the_strides_say(
    tiny_classifier: Classifier, target: str, box: tuple[int, int, int, int]
) -> None:
    assert receptive_field(tiny_classifier, target) == Box(*box, 32, 32)


@pytest.mark.parametrize(
    ("target", "side"), [("blocks.0:3", 7), ("blocks.2:1", 19), ("blocks.4:0", 67), ("blocks.6:1", 115)]
)
def test_the_real_classifiers_deep_units_see_as_much_as_kernels_and_strides_say(
    lite0: Classifier, target: str, side: int
) -> None:
    box = receptive_field(lite0, target)
    assert (box.bottom - box.top, box.right - box.left) == (side, side)


def test_changing_pixels_outside_changes_nothing_and_inside_something(tiny_classifier: Classifier) -> None:
    target = parse_target("conv2:3@5,5", tiny_classifier)
    box = receptive_field(tiny_classifier, target)
    images = torch.rand(3, 3, 32, 32)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[box.top : box.bottom, box.left : box.right] = True
    images[1] = torch.where(inside, images[0], images[1])
    images[2] = torch.where(inside, images[2], images[0])
    values = target.read(tiny_classifier.activations(images, ["conv2"]))
    assert values[0] == pytest.approx(values[1].item(), abs=1e-6)
    assert abs(values[0] - values[2]) > 1e-3


def test_the_classifier_keeps_its_weights(tiny_classifier: Classifier) -> None:
    image = torch.rand(1, 3, 32, 32)
    before = tiny_classifier(image)
    receptive_field(tiny_classifier, "conv2:3")
    assert torch.equal(tiny_classifier(image), before)


def test_a_unit_that_attends_to_every_token_sees_the_whole_image() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, stride=4)
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.block(self.patches(x).flatten(2).transpose(1, 2)).mean(1))

    classifier = Classifier(Attending(), input_size=16)
    assert receptive_field(classifier, "block:2@token=3") == Box(0, 0, 16, 16, 16, 16)
    assert receptive_field(classifier, "patches:2@1,2") == Box(4, 8, 8, 12, 16, 16)


def test_cropping_follows_the_images_own_size() -> None:
    box = Box(8, 16, 24, 32, 32, 32)
    assert box.crop(torch.zeros(2, 3, 64, 64)).shape == (2, 3, 32, 32)
    assert box.crop(torch.zeros(3, 16, 16)).shape == (3, 8, 8)
    assert Box(0, 0, 1, 1, 224, 224).crop(torch.zeros(3, 16, 16)).shape == (3, 1, 1)


def test_a_class_has_no_positions(tiny_classifier: Classifier) -> None:
    with pytest.raises(OptionError, match="no positions"):
        parse_target("bee", tiny_classifier).with_position((0, 0))


def test_maps_with_channels_last(channels_last: Classifier) -> None:
    assert receptive_field(channels_last, "block:5@7,1") == Box(28, 4, 32, 8, 32, 32)
    assert receptive_field(channels_last, "patches:5@7,1") == Box(28, 4, 32, 8, 32, 32)
    target = parse_target("block:5@7,1", channels_last).with_position((0, 2))
    assert receptive_field(channels_last, target) == Box(0, 8, 4, 12, 32, 32)
    values = channels_last.activations(torch.rand(1, 3, 32, 32), ["block"])
    assert target.read(values) == values["block"][0, 0, 2, 5]


def test_swin() -> None:
    torch.manual_seed(0)
    classifier = Classifier(torchvision.models.swin_t(weights=None), input_size=64, name="swin")
    assert receptive_field(classifier, "features.0:3@4,5") == Box(16, 20, 20, 24, 64, 64)
    field = receptive_field(classifier, "features.1.0:3@4,4")
    assert (field.top, field.left, field.bottom, field.right) == (0, 0, 28, 28)  # a window of 7 x 7 patches
    images = torch.rand(2, 3, 64, 64)
    seen = classifier.activations(images, ["features.2"])
    expected = seen["features.2"][:, 4, 4, 150]
    torch.testing.assert_close(objectives.neuron("features.2", 150)(seen, images, images), expected)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "bn2"])
def test_fields_of_many_positions_are_those_of_each(tiny_classifier: Classifier, layer: str) -> None:
    fields, sides = ReceptiveFields(tiny_classifier), tiny_classifier.layer_shape(layer)[1:]
    for position in [(0, 0), (0, 7), (3, 1), (9, 15), (sides[0] - 1, 2), (sides[0] - 1, sides[1] - 1)]:
        target = parse_target(f"{layer}:1@{position[0]},{position[1]}", tiny_classifier)
        assert fields.of(target) == receptive_field(tiny_classifier, target), position


def test_fields_that_do_not_move_evenly_are_measured_one_by_one() -> None:
    class Uneven(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3, padding=1)
            self.shuffle = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.shuffle(y[:, :, [0, 1, 5, 4, 3, 2, 6, 7]]).mean((2, 3))

    classifier = Classifier(Uneven(), input_size=8, unit_axis={"shuffle": 1})
    fields = ReceptiveFields(classifier)
    for row in range(8):
        target = parse_target(f"shuffle:0@{row},3", classifier)
        assert fields.of(target) == receptive_field(classifier, target), row
