"""Targets: what is written is what is read, and everything else is refused with the layer's true shape."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from gen_prior.classifiers import Classifier
from gen_prior.errors import GenPriorError, TargetError, UnknownNameError
from gen_prior.objectives.targets import Target, parse_target


@pytest.fixture
def vit() -> Classifier:
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    return Classifier(network, input_size=32, name="vit")


def test_classes(tiny_classifier: Classifier) -> None:
    expected = Target("logits", 3, None, "golden retriever")
    for text in ("golden retriever", "Golden_Retriever", "3", 3, "logits:3", "logits:golden retriever", expected):
        assert parse_target(text, tiny_classifier) == expected
    assert str(expected) == "logits:3"
    assert expected.is_class
    assert expected.slug == "golden-retriever"


@pytest.mark.parametrize(
    ("text", "position", "canonical"),
    [
        ("conv2:7", (8, 8), "conv2:7@8,8"),
        ("conv2:7@centre", (8, 8), "conv2:7@8,8"),
        (" conv2 : 7 @ 0, 15 ", (0, 15), "conv2:7@0,15"),
        ("conv2:7@mean", "mean", "conv2:7@mean"),
        ("pool:11", (0, 0), "pool:11@0,0"),
        ("flatten:11", None, "flatten:11"),
    ],
)
def test_units(text: str, position: object, canonical: str, tiny_classifier: Classifier) -> None:
    target = parse_target(text, tiny_classifier)
    assert target.position == position
    assert str(target) == canonical
    assert parse_target(canonical, tiny_classifier) == target
    assert parse_target(target, tiny_classifier) == target
    values = tiny_classifier.activations(torch.rand(3, 3, 40, 50), [target.layer])
    read, map_ = target.read(values), values[target.layer][:, target.unit]
    if isinstance(position, tuple):
        expected = map_[:, position[0], position[1]]
    else:
        expected = map_ if position is None else map_.mean((1, 2))
    torch.testing.assert_close(read, expected)
    assert read.shape == (3,)


def test_tokens(vit: Classifier) -> None:
    layer = "encoder.layers.encoder_layer_1"
    values = vit.activations(torch.rand(2, 3, 32, 32), [layer])
    for text, expected in (
        (f"{layer}:3@token=16", values[layer][:, 16, 3]),
        (f"{layer}:3", values[layer][:, 0, 3]),
        (f"{layer}:3@mean", values[layer][:, :, 3].mean(1)),
    ):
        target = parse_target(text, vit)
        torch.testing.assert_close(target.read(values), expected)
        assert parse_target(str(target), vit) == target
    with pytest.raises(TargetError, match=r"17 x 16 tokens x units; allowed: @mean, @centre, @token=0 to @token=16"):
        parse_target(f"{layer}:3@token=17", vit)
    with pytest.raises(TargetError, match="units 0 to 15"):
        parse_target(f"{layer}:16", vit)


def test_maps_with_channels_last(channels_last: Classifier) -> None:
    classifier = channels_last
    values = classifier.activations(torch.rand(2, 3, 32, 32), ["block", "norm", "patches"])
    for text, expected in (
        ("block:5@7,1", values["block"][:, 7, 1, 5]),
        ("block:5@mean", values["block"][..., 5].mean((1, 2))),
        ("norm:0", values["norm"][:, 4, 4, 0]),
        ("patches:5@7,1", values["patches"][:, 5, 7, 1]),
    ):
        torch.testing.assert_close(parse_target(text, classifier).read(values), expected)
    with pytest.raises(TargetError, match="8 x 8 x 6 height x width x units, units 0 to 5"):
        parse_target("block:6", classifier)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty target"),
        ("antt", "ant"),
        ("-1", "classes 0 to 4"),
        ("5", "classes 0 to 4"),
        ("²", "unknown class"),
        ("logits:5", "units 0 to 4"),
        ("logits:", "unknown class"),
        ("ant@mean", "a class has no position"),
        ("logits:ant@mean", "no positions"),
        ("conv2", "is a layer, not a unit: layer 'conv2' has 12 x 16 x 16"),
        ("conv2", "gen-prior dream IMAGE --layer conv2, in Python objectives.layer_l2('conv2')"),
        ("conv3:1", "did you mean conv2, conv1? Fix:"),
        ("conv2:12", "12 x 16 x 16 units x height x width, units 0 to 11"),
        ("conv2:-1", "must be a number"),
        ("conv2:one", "12 x 16 x 16"),
        ("conv2:1@16,0", "@0,0 to @15,15"),
        ("conv2:1@token=3", "allowed: @mean"),
        ("conv2:1@", "allowed: @mean"),
        ("flatten:1@mean", "no positions"),
        (":1", "unknown layer"),
        ("idle:1", "does not run"),
    ],
)
def test_refusals_name_what_is_allowed(text: str, says: str, tiny_classifier: Classifier) -> None:
    class WithIdle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Linear(1, 1)
            for name, child in tiny_classifier.network.named_children():
                self.add_module(name, child)

        def forward(self, x: Tensor) -> Tensor:
            for name, child in self.named_children():
                x = x if name == "idle" else child(x)
            return x

    classifier = Classifier(WithIdle(), input_size=32, labels=tiny_classifier.labels, name="tiny")
    with pytest.raises(GenPriorError) as caught:
        parse_target(text, classifier)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, TargetError | UnknownNameError)


def test_a_target_of_another_classifier_is_checked(tiny_classifier: Classifier, vit: Classifier) -> None:
    with pytest.raises(UnknownNameError, match="unknown layer of vit 'conv2'"):
        parse_target(parse_target("conv2:7", tiny_classifier), vit)


def test_without_labels_only_numbers(vit: Classifier) -> None:
    assert parse_target("4", vit) == Target("logits", 4, None, "4")
    with pytest.raises(TargetError, match="no class names, only classes 0 to 4"):
        parse_target("goldfish", vit)


def test_labels_may_hold_colons(tiny_classifier: Classifier) -> None:
    labels = ("a:1", "b@home", "c", "d", "e")
    classifier = Classifier(tiny_classifier.network, input_size=32, labels=labels)
    assert [parse_target(text, classifier).unit for text in labels] == [0, 1, 2, 3, 4]


def test_slugs_are_safe_file_names(vit: Classifier) -> None:
    assert Target("logits", 0, None, "<script>alert('x')</script>/../é").slug == "script-alert-x-script-..-é"
    assert Target("a.b", 3, (1, 2)).slug == "a.b-3-1-2"
    assert Target("logits", 0, None, "../..").slug == "target"


def test_efficientnet_lite0_names(lite0: Classifier) -> None:
    layers = lite0.layers()
    assert [f"blocks.{index}" for index in range(16)] == [n for n in layers if n.count(".") == 1 and "blocks" in n]
    assert str(parse_target("blocks.10:42", lite0)) == "blocks.10:42@7,7"
    for text in ("goldfish", "n01443537", "1", "Carassius auratus"):
        assert parse_target(text, lite0) == Target("logits", 1, None, "goldfish")
    with pytest.raises(UnknownNameError, match=r"did you mean .*blocks\.15"):
        parse_target("blocks.16:0", lite0)
    with pytest.raises(TargetError, match=r"134.*517"):
        parse_target("crane", lite0)


def test_the_old_name_works_and_warns(tiny_classifier: Classifier) -> None:
    target = parse_target("conv1:2@mean", tiny_classifier)
    caught = tiny_classifier.activations(torch.rand(2, 3, 32, 32), ["conv1"])
    with pytest.warns(DeprecationWarning, match=r"Target\.at_position"):
        assert torch.equal(target.at_place(target.everywhere(caught)), target.read(caught))
