"""Networks of torch.jit and torch.export: their classes work; of their layers the true reason is said."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import gen_prior as gp
from gen_prior.errors import TargetError

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated, and says so often


def loaded(network: nn.Module) -> Any:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(network), buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def program(network: nn.Module) -> Any:
    batch = ({0: torch.export.Dim("batch", min=1, max=64)},)
    return torch.export.export(network, (torch.rand(2, 3, 32, 32),), dynamic_shapes=batch)


def exported(network: nn.Module) -> Any:
    return program(network).module()


@pytest.mark.parametrize("compile_network", [torch.jit.script, loaded, exported, program])
def test_classes_but_no_layers(
    compile_network: Callable[[nn.Module], Any], make_tiny_network: Callable[..., nn.Module]
) -> None:
    network = make_tiny_network()
    compiled = compile_network(network)
    classifier = gp.Classifier(compiled, input_size=32)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(classifier(images), gp.Classifier(network, input_size=32)(images), rtol=1e-4, atol=1e-5)
    result = gp.synthesize(classifier, "1", gp.load_generator("pixel-raw", image_size=32), steps=3, rate=0.01)
    assert result.activations[0, 0] > result.history[0, 0, 0]
    assert list(classifier.layers()) == ["logits"]
    with pytest.raises(TargetError, match=r"was compiled by torch\.jit or torch\.export: .* only its output"):
        gp.parse_target("conv2:1", classifier)
    assert any(parameter.requires_grad for parameter in compiled.parameters())  # the user's own is as it was
