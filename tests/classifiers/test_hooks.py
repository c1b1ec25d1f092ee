"""Reading layers: the right values, at the right run, and no hook left behind."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import Tensor, nn

from gen_prior.classifiers.hooks import record_layers
from gen_prior.classifiers.layouts import find_layouts
from gen_prior.classifiers.outputs import LOGITS, as_tensor
from gen_prior.errors import OptionError, UnknownNameError


def shapes_of(network: nn.Module, inputs: Tensor) -> dict[str, tuple[int, ...]]:
    return {layer: layout.shape for layer, layout in find_layouts(network, inputs).items()}


def hooks(network: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in network.modules())


class Reused(nn.Module):
    """One in-place ReLU runs three times; `idle` never does; `late` fails if it is ever reached with a NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.idle = nn.Linear(2, 2)
        self.fc = nn.Linear(4, 5)
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        y = self.relu(self.first(x))
        z = self.second(y)
        z += y
        z = self.relu(z)
        logits: Tensor = self.fc(z.mean((2, 3)))
        return self.relu(logits)


def test_values_are_those_of_the_layer_even_if_later_layers_write_into_them() -> None:
    network = Reused().eval()
    inputs = torch.randn(2, 3, 6, 6)
    first = network.first(inputs)
    second = network.second(first.clamp(min=0))
    for layers in (["first"], ["second"], ["first", "second"], ["first", "second", LOGITS]):
        for stop_early in (True, False):
            with record_layers(network, layers, stop_early=stop_early) as read:
                for _ in range(3):
                    caught = read(inputs)
                    assert set(caught) == set(layers)
                    torch.testing.assert_close(caught["first"], first) if "first" in caught else None
                    torch.testing.assert_close(caught["second"], second) if "second" in caught else None


def test_a_layer_that_runs_often_is_read_at_its_last_run() -> None:
    network = Reused().eval()
    inputs = torch.randn(2, 3, 6, 6)
    logits = network(inputs)
    for stop_early in (True, False):
        with record_layers(network, ["relu"], stop_early=stop_early) as read:
            for _ in range(3):
                torch.testing.assert_close(read(inputs)["relu"], logits)


def test_gradients_are_the_same_with_and_without_stopping(make_tiny_network: Callable[..., nn.Module]) -> None:
    network = make_tiny_network()
    gradients = []
    for stop_early in (True, False):
        inputs = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16).requires_grad_()
        with record_layers(network, ["bn1"], stop_early=stop_early) as read:
            read(inputs)
            gradients.append(torch.autograd.grad(read(inputs)["bn1"][:, 2].sum(), inputs)[0])
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0


def test_later_passes_stop_at_the_last_wanted_layer(make_tiny_network: Callable[..., nn.Module]) -> None:
    network = make_tiny_network()
    reached = []
    network.get_submodule("fc").register_forward_pre_hook(lambda *_: reached.append(True))
    inputs = torch.randn(1, 3, 16, 16)
    with record_layers(network, ["relu1", "bn1"]) as read:
        for _ in range(3):
            read(inputs)
    assert len(reached) == 1
    with record_layers(network, ["relu1", LOGITS]) as read:
        read(inputs)
    assert len(reached) == 2


def test_hooks_are_removed_also_after_exceptions(make_tiny_network: Callable[..., nn.Module]) -> None:
    network = make_tiny_network()
    with record_layers(network, ["conv1", "fc"]):
        assert hooks(network) == 2
    assert hooks(network) == 0
    with pytest.raises(RuntimeError), record_layers(network, ["conv1"]) as read:
        read(torch.randn(1, 7, 16, 16))
    assert hooks(network) == 0
    with pytest.raises(KeyboardInterrupt), record_layers(network, ["conv1"]):
        raise KeyboardInterrupt
    assert hooks(network) == 0
    with pytest.raises(UnknownNameError, match="conv1"), record_layers(network, ["conv1", "conv9"]):
        pass
    assert hooks(network) == 0
    with pytest.raises(RuntimeError):
        shapes_of(network, torch.randn(1, 7, 16, 16))
    assert hooks(network) == 0


def test_a_layer_that_does_not_run_is_an_error() -> None:
    network = Reused().eval()
    with pytest.raises(OptionError, match="'idle' did not run"), record_layers(network, ["idle"]) as read:
        read(torch.randn(1, 3, 6, 6))
    assert hooks(network) == 0


def test_shapes_of_layers() -> None:
    shapes = shapes_of(Reused().eval(), torch.randn(2, 3, 6, 8))
    maps, runs = (4, 6, 8), {"relu#0": (4, 6, 8), "relu#1": (4, 6, 8), "relu#2": (5,)}
    assert shapes == {"first": maps, "second": maps, "fc": (5,), **runs, "relu": (5,), LOGITS: (5,)}
    assert list(shapes)[-1] == LOGITS


class Odd(nn.Module):
    """Outputs that are no plain batch: a tuple, a constant, tokens before the batch, nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)  # tokens first
        self.attention_by_image = nn.MultiheadAttention(8, 2, batch_first=True)
        self.nothing, self.constant, self.logits = Nothing(), Constant(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> SimpleNamespace:
        tokens = x.flatten(2).transpose(1, 2)
        y = self.attention_by_image(tokens, tokens, tokens)[0]
        y = self.attention(y.transpose(0, 1), y.transpose(0, 1), y.transpose(0, 1))[0].transpose(0, 1)
        self.nothing(y)
        return SimpleNamespace(logits=self.logits(y.mean(1) + self.constant(y)) * 2)


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> None:
        return None


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(1, 8)


def test_odd_outputs() -> None:
    network, inputs = Odd().eval(), torch.randn(2, 8, 3, 3)
    shapes = shapes_of(network, inputs)
    assert shapes == {"attention_by_image": (9, 8), LOGITS: (3,)}
    with record_layers(network, ["attention_by_image", LOGITS]) as read:
        caught = read(inputs)
        assert caught["attention_by_image"].shape == (2, 9, 8)
        torch.testing.assert_close(caught[LOGITS], network(inputs).logits)
    with pytest.raises(OptionError, match="NoneType"), record_layers(network, ["nothing"]) as read:
        read(inputs)


def test_the_tensor_of_an_output() -> None:
    x = torch.zeros(1)
    assert all(
        as_tensor(output) is x
        for output in (x, (x, None), [None, x], {"logits": x, "a": None}, {"out": x}, SimpleNamespace(logits=x))
    )
    for output in (None, (), {"a": 1}, "text"):
        with pytest.raises(OptionError, match="not a tensor"):
            as_tensor(output)


def test_a_vision_transformer_has_tokens() -> None:
    network = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5).eval()
    shapes = shapes_of(network, torch.randn(2, 3, 32, 32))
    assert shapes["encoder.layers.encoder_layer_1"] == (17, 16)
    assert shapes["encoder.layers.encoder_layer_1.self_attention"] == (17, 16)
    assert shapes["conv_proj"] == (16, 4, 4)
