"""CaffeNet: against a forward pass written here in Caffe's own terms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.classifiers import caffenet
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import WeightsError

SHAPES = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
    "fc8": (1000, 4096),
}
QUIRKY = ("conv2", "conv4", "conv5")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(8)
    tensors = {}
    for name, shape in SHAPES.items():
        key = f"{name}.1" if name in QUIRKY else name
        scale = (2 / math.prod(shape[1:])) ** 0.5 / (40 if name == "conv1" else 1)
        tensors[f"{key}.weight"] = torch.randn(shape, generator=source) * scale
        tensors[f"{key}.bias"] = torch.randn(shape[0], generator=source) * 0.05
    return tensors


def lrn(x: Tensor) -> Tensor:
    """Across channels: x / (1 + alpha / n * sum of the squares of n = 5 neighbours) ** beta."""
    squares = F.pad(x.square(), (0, 0, 0, 0, 2, 2))
    window = sum(squares[:, shift : shift + x.shape[1]] for shift in range(5))
    return x / (1 + 1e-4 / 5 * window) ** 0.75


def caffe_activations(state: dict[str, Tensor], rgb: Tensor) -> dict[str, Tensor]:
    """Every layer that DeePSim decodes, from RGB in [0, 1]: split groups, pools that cover the edge, BGR."""
    w = {key.replace(".1.", "."): value for key, value in state.items()}

    def conv(name: str, x: Tensor, groups: int = 1, **options: int) -> Tensor:
        parts = zip(x.chunk(groups, 1), w[f"{name}.weight"].chunk(groups), w[f"{name}.bias"].chunk(groups), strict=True)
        return torch.cat([F.conv2d(part, weight, bias, **options) for part, weight, bias in parts], 1)

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    found: dict[str, Tensor] = {}
    x = (rgb * 255)[:, [2, 1, 0]] - torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1)
    found["norm1"] = x = lrn(pool(conv("conv1", x, stride=4).relu()))
    found["norm2"] = x = lrn(pool(conv("conv2", x, 2, padding=2).relu()))
    found["relu3"] = x = conv("conv3", x, padding=1).relu()
    found["relu4"] = x = conv("conv4", x, 2, padding=1).relu()
    found["pool5"] = x = pool(conv("conv5", x, 2, padding=1).relu())
    found["fc6"] = x = F.linear(x.flatten(1), w["fc6.weight"], w["fc6.bias"])
    found["relu6"] = x = x.relu()
    found["relu7"] = x = F.linear(x, w["fc7.weight"], w["fc7.bias"]).relu()
    found["fc8"] = F.linear(x, w["fc8.weight"], w["fc8.bias"])
    return found


@torch.no_grad()
def test_equal_to_caffe_at_every_decoded_layer(state: dict[str, Tensor]) -> None:
    network = caffenet.build(dict(state), "caffenet.pt")
    mean = [value / 255 for value in caffenet.MEAN_RGB]
    classifier = Classifier(network, mean=mean, std=(1 / 255,) * 3, input_size=227)
    images = torch.rand(2, 3, 227, 227, generator=torch.Generator().manual_seed(9))
    expected = caffe_activations(state, images)
    found = classifier.activations(images, list(expected))
    shapes = {
        "norm1": (96, 27, 27),
        "norm2": (256, 13, 13),
        "relu3": (384, 13, 13),
        "pool5": (256, 6, 6),
        "fc8": (1000,),
    }
    for layer, values in expected.items():
        assert found[layer].shape[1:] == shapes.get(layer, values.shape[1:])
        assert values.std() > 0
        torch.testing.assert_close(found[layer], values, atol=2e-5 * float(values.abs().max()), rtol=0)
    torch.testing.assert_close(
        classifier(images), expected["fc8"], atol=2e-5 * float(expected["fc8"].abs().max()), rtol=0
    )


def test_other_networks_are_refused(state: dict[str, Tensor]) -> None:
    wrong = dict(state)
    del wrong["fc8.bias"]
    with pytest.raises(WeightsError, match=r"caffenet\.pt does not fit caffenet: it lacks fc8\.bias"):
        caffenet.build(wrong, "caffenet.pt")
