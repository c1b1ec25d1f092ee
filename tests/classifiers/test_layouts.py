"""Which axis holds the units: what is asked for is what rises, over a zoo of small networks; guesses are refused."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import gen_prior as gp
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.layouts import find_layouts
from gen_prior.errors import OptionError, TargetError, UnknownNameError


class Reshape(nn.Module):
    """Any function of the tensor as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """`x + body(x)`, whose output no layer makes."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Heads(nn.Module):
    """Scores of attention `[B, heads, T, T]`, by functions alone."""

    def forward(self, x: Tensor) -> Tensor:
        parts = x.unflatten(-1, (2, -1)).transpose(1, 2)
        return (parts @ parts.mT).softmax(-1)


def named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def conv1d() -> nn.Module:
    """Rows of the image as a sequence: more positions than units, then as many."""
    return named(
        rows=Reshape(lambda x: x.mean(3)),
        c=nn.Conv1d(3, 5, 3, stride=2, padding=1),
        res=Residual(nn.Conv1d(5, 5, 3, padding=1), nn.Tanh()),
        square=nn.Conv1d(5, 8, 1),
        pool=nn.AvgPool1d(2),
        head=Reshape(lambda x: x.mean(2)),
    )


def conv2d() -> nn.Module:
    """Asymmetric strides; as many units as rows and columns."""
    return named(
        wide=nn.Conv2d(3, 4, 3, stride=(2, 1), padding=1),
        norm=nn.BatchNorm2d(4),
        act=nn.GELU(),
        res=Residual(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh()),
        cube=nn.Conv2d(4, 8, 3, stride=(1, 2), padding=1),
        pool=nn.AdaptiveAvgPool2d((2, 3)),
        head=nn.Flatten(),
    )


def conv3d() -> nn.Module:
    """Three copies of the image as frames."""
    return named(
        frames=Reshape(lambda x: torch.stack([x, x.flip(2), 0.5 * x], 2)),
        c=nn.Conv3d(3, 4, 3, padding=1, stride=(1, 2, 2)),
        res=Residual(nn.Conv3d(4, 4, 1), nn.Tanh()),
        norm=nn.BatchNorm3d(4),
        pool=nn.MaxPool3d((1, 2, 1)),
        head=Reshape(lambda x: x.mean((2, 3, 4))),
    )


def channels_last() -> nn.Module:
    """As Swin and ConvNeXt have it; 8 units on maps of 8 x 8 as well."""
    return named(
        patches=nn.Conv2d(3, 8, 2, 2),
        last=Reshape(lambda x: x.permute(0, 2, 3, 1)),
        block=Residual(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)),
        second=Residual(nn.LayerNorm(8), nn.Linear(8, 8)),
        norm=nn.LayerNorm(8),
        first=Reshape(lambda x: x.permute(0, 3, 1, 2)),
        down=nn.Conv2d(8, 6, 2, 2),
        head=Reshape(lambda x: x.mean((2, 3))),
    )


def tokens() -> nn.Module:
    """Tokens of one size of image only, as vision transformers have them: 16 tokens of 16 units for square ones."""
    return named(
        patches=nn.Conv2d(3, 16, 4, 4),
        flat=nn.Flatten(2),
        tokens=Reshape(lambda x: x.transpose(1, 2)),
        position=Reshape(lambda x: x + torch.linspace(-1, 1, 16 * 16).view(16, 16)),
        block=Residual(nn.LayerNorm(16), nn.Linear(16, 16)),
        mlp=Residual(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)),
        norm=nn.LayerNorm(16),
        head=Reshape(lambda x: x.mean(1)),
    )


def mixer() -> nn.Module:
    """A linear layer along tokens: its own outputs are the units there."""
    return named(
        patches=nn.Conv2d(3, 6, 4, 4),
        flat=nn.Flatten(2),
        along=nn.Linear(16, 9),
        back=Reshape(lambda x: x.transpose(1, 2)),
        norm=nn.LayerNorm(6),
        head=Reshape(lambda x: x.mean(1)),
    )


ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], dict[str, int]]] = {
    "conv1d": (conv1d, (16, 10), {"rows": 1, "c": 1, "res": 1, "square": 1, "pool": 1}),
    "conv2d": (conv2d, (8, 16), {"wide": 1, "norm": 1, "act": 1, "res": 1, "cube": 1, "pool": 1}),
    "conv2d square": (conv2d, (16, 16), {"wide": 1, "norm": 1, "act": 1, "res": 1, "cube": 1, "pool": 1}),
    "conv3d": (conv3d, (12, 8), {"frames": 1, "c": 1, "res": 1, "norm": 1, "pool": 1}),
    "channels last": (channels_last, (16, 24), {"last": 3, "block": 3, "second": 3, "norm": 3, "first": 1, "down": 1}),
    "channels last, cube": (channels_last, (16, 16), {"last": 3, "block": 3, "second": 3, "norm": 3, "first": 1}),
    "tokens": (tokens, (16, 16), {"patches": 1, "flat": 1, "tokens": 2, "position": 2, "block": 2, "mlp": 2}),
    "tokens, oblong": (tokens, (8, 32), {"patches": 1, "flat": 1, "tokens": 2, "position": 2, "block": 2, "mlp": 2}),
    "along tokens": (mixer, (16, 16), {"patches": 1, "flat": 1, "along": 2, "back": 2, "norm": 2}),
}


def zoo(name: str) -> tuple[Classifier, dict[str, int]]:
    make, size, axes = ZOO[name]
    torch.manual_seed(0)
    return Classifier(make(), mean=(0.5,) * 3, std=(0.25,) * 3, input_size=size, name=name), axes


@pytest.mark.parametrize("name", ZOO)
def test_axes_are_found(name: str) -> None:
    classifier, axes = zoo(name)
    assert {layer: classifier.layout(layer).unit_axis for layer in axes} == axes
    assert all(layout.unit_axis is not None for layout in classifier.layouts().values())


@pytest.mark.parametrize("name", ZOO)
def test_the_unit_that_is_named_is_the_unit_that_rises(name: str) -> None:
    """No other target raises a unit as its own name does; its value is that of a plain forward hook."""
    classifier, axes = zoo(name)
    pixels = gp.Generator(
        lambda code: code, (3, *classifier.input_size), output_range=(0, 1), code_mean=0.5, code_std=0.05
    )
    # Steps of equal length along the gradient: for a small one, no other direction raises the unit as much.
    options: dict[str, Any] = {"steps": 2, "optimiser": "sgd", "momentum": 0.0, "gradient_limit": 1e-6, "rate": 1e4}
    options |= {"scale": "image", "batch": 64}
    for layer in axes:
        units = range(classifier.layout(layer).units(layer))
        result = gp.synthesize(classifier, [f"{layer}:{unit}@mean" for unit in units], pixels, **options)
        reached = by_hand(classifier, layer, axes, result.images[:, 0])
        assert reached.shape == (len(units), len(units))
        torch.testing.assert_close(result.activations[:, 0], reached.diagonal())
        assert reached.argmax(0).tolist() == list(units), layer
        read = classifier.activations(result.images[:, 0], [layer])
        channel = gp.objectives.channel(layer, units[-1])(read, result.images[:, 0], result.codes[:, 0])
        torch.testing.assert_close(channel, reached[:, -1])
        box = gp.receptive_field(classifier, f"{layer}:{units[-1]}")
        assert 0 <= box.top < box.bottom <= classifier.input_size[0]


def by_hand(classifier: Classifier, layer: str, axes: dict[str, int], images: Tensor) -> Tensor:
    """Mean over positions of each unit `[B, U]`, by a plain forward hook."""
    seen: list[Tensor] = []
    handle = classifier.network.get_submodule(layer).register_forward_hook(lambda m, i, output: seen.append(output))
    with torch.no_grad():
        classifier(images)
    handle.remove()
    return seen[0].movedim(axes[layer], 1).flatten(2).mean(2)


def test_swin_reads_channels_for_oblong_images() -> None:
    network = torchvision.models.swin_t(weights=None).eval()
    classifier = Classifier(network, input_size=(64, 96), in_place=True)
    image = torch.rand(1, 3, 64, 96)
    seen: list[Tensor] = []
    handle = classifier.network.get_submodule("features.3.1").register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.no_grad():
        classifier(image)
    handle.remove()
    assert str(classifier.layout("features.3.1")) == "8 x 12 x 192 height x width x units"
    target = gp.parse_target("features.3.1:3@mean", classifier)
    torch.testing.assert_close(target.read(classifier.activations(image, [target.layer])), seen[0][..., 3].mean((1, 2)))
    with pytest.raises(TargetError, match="units 0 to 191"):
        gp.parse_target("features.3.1:192", classifier)


def test_units_of_one_dimensional_convolutions_are_channels() -> None:
    classifier, _ = zoo("conv1d")
    with pytest.raises(TargetError, match="5 x 8 units x positions, units 0 to 4"):
        gp.parse_target("c:7@mean", classifier)
    image = torch.rand(2, 3, 16, 10)
    values = classifier.activations(image, ["c"])
    for text, expected in (("c:4", 4), ("c:4@centre", 4), ("c:4@7", 7), ("c:4@token=7", 7)):
        torch.testing.assert_close(gp.parse_target(text, classifier).read(values), values["c"][:, 4, expected])


def test_three_axes_of_positions() -> None:
    classifier, _ = zoo("conv3d")
    image = torch.rand(2, 3, 12, 8)
    values = classifier.activations(image, ["c"])
    c = values["c"].detach()
    for text, expected in (
        ("c:2@mean", c[:, 2].mean((1, 2, 3))),
        ("c:2", c[:, 2, 1, 3, 2]),
        ("c:2@0,5,3", c[:, 2, 0, 5, 3]),
    ):
        target = gp.parse_target(text, classifier)
        torch.testing.assert_close(target.read(values), expected)
        assert gp.parse_target(str(target), classifier) == target
    for position, expected in (((0, 5, 3), c[:, 2, 0, 5, 3]), ("centre", c[:, 2, 1, 3, 2])):
        torch.testing.assert_close(gp.objectives.neuron("c", 2, position)(values, image, image), expected)
    with pytest.raises(TargetError, match=r"3 x 6 x 4 units x time x height x width; allowed: .* @0,0,0 to @2,5,3"):
        gp.parse_target("c:2@5,3", classifier)
    with pytest.raises(OptionError, match=r"positions \(t, y, x\) up to \(2, 5, 3\)"):
        gp.objectives.neuron("c", 2, (5, 3))(values, image, image)


def silent() -> nn.Module:
    """For one size of image only, a layer of which neither its kind, its neighbours nor another size tell the axis."""
    return named(
        patches=nn.Conv2d(3, 16, 4, 4),
        mixed=Reshape(lambda x: x.flatten(2) @ torch.linspace(-1, 1, 256).view(16, 16)),
        head=Reshape(lambda x: x.mean(2)),
    )


def test_an_axis_that_nothing_tells_is_refused_until_the_user_says_it() -> None:
    torch.manual_seed(0)
    network = silent()
    classifier = Classifier(network, input_size=16)
    image = torch.rand(1, 3, 16, 16)
    says = r"output \[B, 16, 16\], .* which axis holds its units: 1 with 16, 2 with 16. Fix: .*unit_axis"
    with pytest.raises(TargetError, match=says):
        gp.parse_target("mixed:3", classifier)
    with pytest.raises(TargetError, match=says):
        gp.objectives.channel("mixed", 3)(classifier.activations(image, ["mixed"]), image, image)
    assert gp.parse_target("head:3", classifier).unit == 3
    for axis, expected in ((1, 1), (2, 2), (-1, 2), (-2, 1)):
        told = Classifier(network, input_size=16, unit_axis={"mixed": axis})
        assert told.layout("mixed").unit_axis == expected
        values = told.activations(image, ["mixed"])
        read = gp.parse_target("mixed:3@token=5", told).read(values)
        torch.testing.assert_close(read, values["mixed"][:, 3, 5] if expected == 1 else values["mixed"][:, 5, 3])
    for axis in (0, 3, -3):
        with pytest.raises(OptionError, match=r"unit_axis of 'mixed' must be 1 to 2, or -1"):
            Classifier(network, input_size=16, unit_axis={"mixed": axis}).layers()
    with pytest.raises(UnknownNameError, match="in unit_axis 'mix'; did you mean mixed"):
        Classifier(network, input_size=16, unit_axis={"mix": 1}).layers()


def test_attention_scores_are_units_by_head_where_another_size_moves_the_tokens() -> None:
    network = named(
        patches=nn.Conv2d(3, 8, 4, 4),
        tokens=Reshape(lambda x: x.flatten(2).transpose(1, 2)),
        scores=Heads(),
        head=Reshape(lambda x: x.mean((2, 3))),
    )
    layouts = find_layouts(network, torch.rand(2, 3, 8, 8), torch.rand(1, 3, 16, 16))
    assert str(layouts["scores"]) == "2 x 4 x 4 units x height x width"
    assert layouts["tokens"].unit_axis == 2
    assert find_layouts(network, torch.rand(2, 3, 8, 8))["scores"].unit_axis is None


def test_layers_that_run_several_times_are_listed_by_run() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.narrow = nn.ReLU(), nn.Conv2d(3, 5, 3, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.narrow(self.relu(x))).mean((2, 3))

    classifier = Classifier(Twice(), input_size=9)
    shapes = {"relu#0": (3, 9, 9), "narrow": (5, 4, 4), "relu#1": (5, 4, 4), "relu": (5, 4, 4), "logits": (5,)}
    assert classifier.layers() == shapes
    image = torch.rand(2, 3, 9, 9)
    first = classifier.normalise(image).relu()
    second = classifier.network.get_submodule("narrow")(first).relu()
    expected = {"relu#0": first, "relu#1": second, "relu": second}
    for layers in (["relu#0"], ["relu#1"], ["relu"], ["relu#0", "relu"], list(expected)):
        with classifier.record_layers(layers) as read:
            for _ in range(3):
                caught = read(classifier.normalise(image))
                assert set(caught) == set(layers)
                for layer in layers:
                    torch.testing.assert_close(caught[layer], expected[layer])
    target = gp.parse_target("relu#0:2@mean", classifier)
    assert str(target) == "relu#0:2@mean"
    torch.testing.assert_close(target.read(classifier.activations(image, ["relu#0"])), first[:, 2].mean((1, 2)))
    with pytest.raises(UnknownNameError, match="did you mean relu"):
        gp.parse_target("relu#2:0", classifier)


def test_changes_in_two_corners_tell_positions_from_units() -> None:
    """For one size of image only, and read by no layer: as the patch embedding of vision transformers is."""
    network = named(
        fixed=Reshape(lambda x: x + torch.zeros(16, 16)),
        patches=nn.Conv2d(3, 16, 4, 4),
        embed=Reshape(lambda x: x.flatten(2).transpose(1, 2)),
        last=Reshape(lambda x: x.unflatten(1, (4, 4)).sin()),
        head=Reshape(lambda x: x.mean((1, 2))),
    )
    classifier = Classifier(network, input_size=16)
    found = {layer: str(layout) for layer, layout in classifier.layouts().items()}
    assert found["embed"] == "16 x 16 tokens x units"
    assert found["last"] == "4 x 4 x 16 height x width x units"
    assert found["fixed"] == "3 x 16 x 16 units x height x width"
