"""The networks of DeePSim (Dosovitskiy & Brox 2016, arXiv 1602.02644), as published, from a table of layers."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gen_prior.hub.strict_loading import build_on_meta, load_frozen, rename_tensors
from gen_prior.util.resample import centre_crop

SLOPE = 0.3
MEAN_RGB = (123.0, 117.0, 104.0)


class Layer(NamedTuple):
    """One layer; `kind` is "linear", "conv" or "up" (transposed convolution); if `active`, a leaky ReLU follows."""

    name: str
    kind: str
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    active: bool = True


class Variant(NamedTuple):
    """Code shape, side of the image, layers, whether tanh follows them, and the layer of CaffeNet that is the code."""

    code_shape: tuple[int, ...]
    side: int
    layers: tuple[Layer, ...]
    tanh: bool
    encoder_layer: str


def _up(name: str, inputs: int, outputs: int, active: bool = True) -> Layer:
    return Layer(name, "up", inputs, outputs, 4, 2, 1, active)


def _same(name: str, inputs: int, outputs: int) -> Layer:
    return Layer(name, "up", inputs, outputs, 3, 1, 1)


def _conv(
    name: str, inputs: int, outputs: int, kernel: int, padding: int, stride: int = 1, active: bool = True
) -> Layer:
    return Layer(name, "conv", inputs, outputs, kernel, stride, padding, active)


def _from_spatial(inputs: int) -> tuple[Layer, ...]:
    """4x4 features -> 256 px, shared by the fully connected generators and pool5."""
    return (
        _up("deconv5", inputs, 256),
        _same("conv5_1", 256, 512),
        _up("deconv4", 512, 256),
        _same("conv4_1", 256, 256),
        _up("deconv3", 256, 128),
        _same("conv3_1", 128, 128),
        _up("deconv2", 128, 64),
        _up("deconv1", 64, 32),
        _up("deconv0", 32, 3, active=False),
    )


def _fully_connected(code: int) -> tuple[Layer, ...]:
    return (
        Layer("defc7", "linear", code, 4096),
        Layer("defc6", "linear", 4096, 4096),
        Layer("defc5", "linear", 4096, 4096),
        *_from_spatial(256),
    )


_POOL5 = (
    _conv("Rconv6", 256, 512, 3, 1),
    _conv("Rconv7", 512, 512, 3, 1),
    _conv("Rconv8", 512, 512, 3, 0),
    *_from_spatial(512),
)
_CONV = (
    _conv("Rconv6", 384, 384, 3, 0),
    _conv("Rconv7", 384, 512, 3, 0),
    _conv("Rconv8", 512, 512, 2, 0),
    _up("deconv5", 512, 256),
    _same("conv5_1", 256, 256),
    _up("deconv4", 256, 128),
    _same("conv4_1", 128, 128),
    _up("deconv3", 128, 128),
    _same("conv3_1", 128, 128),
    _up("deconv2", 128, 64),
    _conv("conv2_1", 64, 32, 3, 1),
    _up("deconv1", 32, 16),
    _conv("conv1_1", 16, 3, 3, 1, active=False),
)
_NORM_END = (
    _conv("Rconv8", 128, 128, 3, 1),
    _up("deconv4", 128, 128),
    _conv("conv4_1", 128, 128, 3, 1),
    _up("deconv3", 128, 64),
    _conv("conv3_1", 64, 64, 3, 1),
    _up("deconv2", 64, 32),
    _conv("conv2_1", 32, 32, 3, 1),
    _up("deconv1", 32, 16, active=False),
    _conv("conv1_1", 16, 3, 3, 1, active=False),
)
_NORM2 = (_conv("Rconv6", 256, 256, 3, 2), _conv("Rconv7", 256, 128, 3, 1), *_NORM_END)
_NORM1 = (_conv("Rconv6", 96, 128, 3, 2, stride=2), _conv("Rconv7", 128, 128, 3, 1), *_NORM_END)

VARIANTS: dict[str, Variant] = {
    "deepsim-fc6": Variant((4096,), 256, _fully_connected(4096), False, "relu6"),
    "deepsim-fc6-eucl": Variant((4096,), 256, _fully_connected(4096), False, "relu6"),
    "deepsim-fc7": Variant((4096,), 256, _fully_connected(4096), False, "relu7"),
    "deepsim-fc8": Variant((1000,), 256, _fully_connected(1000), False, "fc8"),
    "deepsim-pool5": Variant((256, 6, 6), 256, _POOL5, False, "pool5"),
    "deepsim-conv4": Variant((384, 13, 13), 256, _CONV, True, "relu4"),
    "deepsim-conv3": Variant((384, 13, 13), 256, _CONV, True, "relu3"),
    "deepsim-norm2": Variant((256, 13, 13), 240, _NORM2, True, "norm2"),
    "deepsim-norm1": Variant((96, 27, 27), 240, _NORM1, True, "norm1"),
}


class UpconvNetwork(nn.Module):
    """Features `[B, *code_shape]` -> RGB `[B, 3, side, side]`, nominally in [0, 1] (not clamped)."""

    mean: Tensor

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.layers = nn.Sequential(_build(variant.layers))
        self.tanh = variant.tanh
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(3, 1, 1) / 255, persistent=False)

    def forward(self, code: Tensor) -> Tensor:
        image: Tensor = self.layers(code)
        return (image.tanh() if self.tanh else image) + self.mean


def _build(layers: tuple[Layer, ...]) -> OrderedDict[str, nn.Module]:
    kinds = {"conv": nn.Conv2d, "up": nn.ConvTranspose2d}
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for index, layer in enumerate(layers):
        if layer.kind == "linear":
            modules[layer.name] = nn.Linear(layer.inputs, layer.outputs)
        else:
            modules[layer.name] = kinds[layer.kind](
                layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding
            )
        if layer.active:
            modules[f"relu_{layer.name}"] = nn.LeakyReLU(SLOPE)
        if layer.kind == "linear" and layers[index + 1].kind != "linear":
            modules["reshape"] = nn.Unflatten(1, (layer.outputs // 16, 4, 4))
    return modules


def plain_key(key: str) -> str:
    """A published key without the extra segment that some have from the conversion from Caffe."""
    return key.replace(".1.", ".")


def build(name: str, published: dict[str, Tensor], file: str) -> UpconvNetwork:
    """The network `name` from its published tensors, which are emptied.

    The published output is BGR in 0 to 255 (or tanh) without the mean; the channel order and the factor are folded into
    the last layer. Raises `WeightsError` unless names and shapes are those of the layer table.
    """
    variant = VARIANTS[name]
    tensors = rename_tensors(published, lambda key: f"layers.{plain_key(key)}", file)
    network = build_on_meta(lambda: UpconvNetwork(variant), file)
    load_frozen(network, tensors, file, name)
    last = network.get_submodule(f"layers.{variant.layers[-1].name}")
    assert isinstance(last, nn.Conv2d | nn.ConvTranspose2d)
    assert last.bias is not None
    axis, scale = (1 if isinstance(last, nn.ConvTranspose2d) else 0), (1.0 if variant.tanh else 1 / 255)
    last.weight = nn.Parameter(last.weight.flip(axis) * scale, requires_grad=False)
    last.bias = nn.Parameter(last.bias.flip(0) * scale, requires_grad=False)
    assert isinstance(network, UpconvNetwork)
    network.mean = torch.tensor(MEAN_RGB).view(3, 1, 1) / 255
    return network


class CentreCrop(nn.Module):
    """Images `[B, 3, H, W]` -> their centre `[B, 3, side, side]`."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        return centre_crop(images, self.side, self.side)


def recognise(shapes: dict[str, tuple[int, ...]]) -> str | None:
    """Name of the generator with tensors of these names and shapes, or None; fc6-eucl and fc7 are taken for fc6."""
    plain = {f"layers.{plain_key(key)}": shape for key, shape in shapes.items()}
    for name, variant in VARIANTS.items():
        with torch.device("meta"):
            state = UpconvNetwork(variant).state_dict()
        if {key: tuple(value.shape) for key, value in state.items()} == plain:
            return name
    return None
