"""Folding never changes what a network computes, nor what its layers are called or read as."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from gen_prior.classifiers.efficientnet_lite import EfficientNetLite, Variant
from gen_prior.classifiers.folding import fold_batch_norm, unfolded
from gen_prior.classifiers.hooks import record_layers
from gen_prior.classifiers.same_padding import SameConv2d

Lively = Callable[[nn.Module], nn.Module]


def norms(network: nn.Module) -> list[str]:
    return [name for name, part in network.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


def folded_equals(network: nn.Module, inputs: Tensor) -> nn.Module:
    names = {name for name, _ in network.named_modules()}
    with torch.no_grad():
        before = network.eval()(inputs)
        after = fold_batch_norm(network)(inputs)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5 * float(before.abs().max()))
    assert names <= {name for name, _ in network.named_modules()}
    return network


class Block(nn.Module):
    """A residual block in plain attributes, whose one ReLU runs twice."""

    def __init__(self, convolution: type[nn.Conv2d] = nn.Conv2d) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = convolution(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        return self.relu(y)


def test_a_sequence_folds(make_tiny_network: Callable[..., nn.Module]) -> None:
    network = folded_equals(make_tiny_network(), torch.randn(2, 3, 32, 32))
    assert norms(network) == []


@pytest.mark.parametrize("convolution", [nn.Conv2d, SameConv2d])
def test_attributes_fold(convolution: type[nn.Conv2d], with_lively_norms: Lively) -> None:
    network = folded_equals(with_lively_norms(Block(convolution)), torch.randn(2, 3, 9, 9))
    assert norms(network) == []


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_torchvision_networks(name: str, with_lively_norms: Lively) -> None:
    options = {"init_weights": False} if name == "googlenet" else {}
    network = with_lively_norms(torchvision.models.get_model(name, weights=None, **options)).eval()
    count = len(norms(network))
    folded_equals(network, torch.randn(2, 3, 64, 64))
    # In a densenet most norms come before their convolution, where they cannot be folded.
    assert len(norms(network)) == (62 if name == "densenet121" else 0) < count


def test_efficientnet_lite_folds_entirely(with_lively_norms: Lively) -> None:
    network = with_lively_norms(EfficientNetLite(Variant(0.5, 0.5, 64))).eval()
    assert norms(folded_equals(network, torch.randn(2, 3, 64, 64))) == []


def test_a_folded_convolution_still_reads_as_itself(with_lively_norms: Lively) -> None:
    network = with_lively_norms(Block()).eval()
    inputs = torch.randn(2, 3, 9, 9)
    layers = ["conv1", "bn1", "conv2", "bn2", "relu"]
    with torch.no_grad(), record_layers(network, layers) as read:
        before = read(inputs)
    fold_batch_norm(network)
    assert unfolded(network.get_submodule("conv1")) is not None
    assert unfolded(network.get_submodule("relu")) is None
    with torch.no_grad(), record_layers(network, layers) as read:
        after = read(inputs)
    for layer in layers:
        torch.testing.assert_close(after[layer], before[layer], rtol=1e-4, atol=1e-5)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.other = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)


class RunTwice(Shared):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.bn(self.conv(x)))


class ReadTwice(Shared):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) + y


class NormRunsTwice(Shared):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.bn(self.conv(x)))


class WeightReadByHand(Shared):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) * self.conv.weight.sum()


class Branching(Shared):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) if x.mean() > 0 else self.other(y)


class OtherName(Shared):
    def __init__(self) -> None:
        super().__init__()
        self.twin = self.conv

    def forward(self, x: Tensor) -> Tensor:
        return self.twin(self.bn(self.conv(x)))


class TiedWeight(Shared):
    def __init__(self) -> None:
        super().__init__()
        self.tied = nn.Conv2d(3, 3, 1)
        self.tied.weight = self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.bn(self.conv(x)))


class Stem(Shared):
    """A sequence whose last convolution feeds a norm outside it, as in deep stems."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.stem(x))


class StemTwice(Stem):
    def forward(self, x: Tensor) -> Tensor:
        return self.stem(self.bn(self.stem(x)))


class StemRunInside(Stem):
    """The sequence's own graph ends in the convolution, but another module runs that convolution too."""

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.stem(x)) + self.stem[0](x).mean(1, keepdim=True) + self.stem[2](self.stem[0](x))


class Standardised(nn.Conv2d):
    """Its weight is normalised in the forward, so new weights would not act as a fold expects."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / self.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return self._conv_forward(x, weight, self.bias)


class WithStandardised(Shared):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Standardised(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class FlaggedChild(Shared):
    """Its default path folds, but its parent takes the other."""

    def forward(self, x: Tensor, skip: bool = False) -> Tensor:
        y = self.conv(x)
        return y if skip else self.bn(y)


class FlaggedParent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.child = FlaggedChild()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.child(x, skip=True)
        return y


UNFOLDABLE = (
    *(RunTwice, ReadTwice, NormRunsTwice, WeightReadByHand, Branching),
    *(OtherName, TiedWeight, WithStandardised, FlaggedParent, StemTwice, StemRunInside),
)


@pytest.mark.parametrize("network", UNFOLDABLE)
@pytest.mark.parametrize("sign", [1, -1])
def test_what_cannot_be_folded_is_left_alone(network: type[nn.Module], sign: int, with_lively_norms: Lively) -> None:
    inputs = sign * torch.rand(2, 3, 8, 8)
    left = norms(folded_equals(with_lively_norms(network()), inputs))
    assert any(name.endswith("bn") for name in left)


def test_hooks_training_and_missing_statistics_prevent_folding(make_tiny_network: Callable[..., nn.Module]) -> None:
    hooked = make_tiny_network()
    hooked.get_submodule("conv1").register_forward_hook(lambda *_: None)
    assert norms(folded_equals(hooked, torch.randn(2, 3, 32, 32))) == ["bn1"]
    assert norms(fold_batch_norm(make_tiny_network().train())) == ["bn1", "bn2"]
    without = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))
    assert norms(folded_equals(without, torch.randn(2, 3, 8, 8))) == ["1"]
    broken = make_tiny_network()
    broken.get_submodule("bn1").running_var[0] = torch.nan  # type: ignore[operator]
    assert norms(fold_batch_norm(broken)) == ["bn1"]


def test_a_root_that_branches_on_its_flags_folds(with_lively_norms: Lively) -> None:
    assert norms(folded_equals(with_lively_norms(FlaggedChild()), torch.randn(2, 3, 8, 8))) == ["other"]


def test_a_norm_after_a_sequence_folds(with_lively_norms: Lively) -> None:
    assert norms(folded_equals(with_lively_norms(Stem()), torch.randn(2, 3, 8, 8))) == ["other"]


def test_folding_twice_and_state_dicts(make_tiny_network: Callable[..., nn.Module]) -> None:
    network = fold_batch_norm(make_tiny_network())
    keys = set(network.state_dict())
    assert "conv1.bias" in keys
    assert not any("before" in key for key in keys)
    folded_equals(network, torch.randn(1, 3, 32, 32))
    assert set(network.state_dict()) == keys
