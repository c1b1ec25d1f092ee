"""Published architectures with random weights: layers listed, and units of the first, middle and last one raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import gen_prior as gp

ZOO: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: torchvision.models.resnet18(weights=None, num_classes=10),
    "convnext_atto": lambda: timm.create_model("convnext_atto", num_classes=10),
    "vit_tiny": lambda: timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=64),
}


@pytest.mark.parametrize("name", ZOO)
def test_units_of_three_layers_rise_with_the_values_of_a_plain_hook(name: str) -> None:
    torch.manual_seed(0)
    classifier = gp.Classifier(ZOO[name](), input_size=64, name=name, fold=False)
    layouts = {layer: classifier.layout(layer) for layer in classifier.main_layers()}
    known = [layer for layer, layout in layouts.items() if layout.unit_axis is not None and layer != "logits"]
    assert len(known) > 0.8 * len(layouts)
    maps = [layer for layer in known if len(layouts[layer].shape) > 1]
    chosen = [known[0], maps[len(maps) // 2], known[-1]]
    pixels = gp.load_generator("pixel-raw", device="cpu")
    options: dict[str, Any] = {"optimiser": "sgd", "momentum": 0.0, "gradient_limit": 1e-6, "rate": 1e6}
    places = ["@mean" if len(layouts[layer].shape) > 1 else "" for layer in chosen]
    targets = [f"{layer}:{layouts[layer].units(layer) - 1}{place}" for layer, place in zip(chosen, places, strict=True)]
    result = gp.synthesize(classifier, targets, pixels, steps=2, scale="image", **options)
    assert (result.activations > result.start_activations).all()
    for layer, image, value in zip(chosen, result.images, result.activations, strict=True):
        seen: list[Tensor] = []
        handle = classifier.network.get_submodule(layer).register_forward_hook(lambda m, i, o, s=seen: s.append(o))
        with torch.no_grad():
            classifier(image)
        handle.remove()
        units = seen[-1].movedim(layouts[layer].known_axis(layer), 1)
        torch.testing.assert_close(value, units[:, -1:].flatten(1).mean(1))
