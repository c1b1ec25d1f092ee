"""What a network answers when a layer is filled, against forward passes of its own later layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gen_prior.atlas.filled_layer import class_effects, names_classes
from gen_prior.classifiers import Classifier


@pytest.mark.parametrize(("layer", "units", "side"), [("relu1", 8, 32), ("conv2", 12, 16), ("conv1", 8, 32)])
def test_effects_are_differences_of_logits(
    make_tiny_network: Callable[..., nn.Module], layer: str, units: int, side: int
) -> None:
    """`conv1` and `conv2` are recorded without the norms that are folded into them."""
    network = make_tiny_network()
    vectors = torch.randn(3, units, generator=torch.Generator().manual_seed(0))
    reference = torch.full((units,), 0.5)
    found = class_effects(Classifier(network, input_size=32), layer, vectors, reference)
    names = [name for name, _ in network.named_children()]
    later = nn.Sequential(*list(network.children())[names.index(layer) + 1 :])
    with torch.no_grad():
        logits = later(torch.cat([vectors, reference[None]])[:, :, None, None].expand(-1, -1, side, side))
    expected = logits[:-1] - logits[-1]
    torch.testing.assert_close(found, expected - expected.mean(1, keepdim=True), rtol=1e-4, atol=1e-5)


def test_a_layer_with_units_last_and_one_image_at_a_time(channels_last: Classifier) -> None:
    vectors = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    found = class_effects(channels_last, "block", vectors, torch.zeros(6), batch=1)
    head = channels_last.network.get_submodule("head")
    expected = head(vectors) - head(torch.zeros(1, 6))
    torch.testing.assert_close(found, expected - expected.mean(1, keepdim=True), rtol=1e-4, atol=1e-5)


class SharedInTuples(nn.Module):
    """A layer that runs twice and puts out a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.same = _Pair()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        first, _ = self.same(x.mean((2, 3))[:, [0, 1, 2, 0]])
        second, _ = self.same(first)
        logits: Tensor = self.head(first + second)
        return logits


class _Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        return self.linear(x), 1


def test_runs_of_a_layer_are_told_apart() -> None:
    torch.manual_seed(0)
    classifier = Classifier(SharedInTuples(), input_size=8, name="shared")
    head = classifier.network.get_submodule("head")
    linear = classifier.network.get_submodule("same.linear")
    vector, zero = torch.randn(1, 4), torch.zeros(4)
    first = class_effects(classifier, "same#0", vector, zero)
    second = class_effects(classifier, "same", vector, zero)
    straight = head(vector) - head(zero)
    through = head(vector + linear(vector)) - head(linear(zero[None]))
    torch.testing.assert_close(second, straight - straight.mean(1, keepdim=True), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first, through - through.mean(1, keepdim=True), rtol=1e-4, atol=1e-5)


def test_only_hidden_layers_of_networks_with_classes_name_some(tiny_classifier: Classifier) -> None:
    assert names_classes(tiny_classifier, "conv2")
    assert not names_classes(tiny_classifier, "logits")
    bare = Classifier(tiny_classifier.network, input_size=32, has_classes=False)
    assert not names_classes(bare, "conv2")
