"""The published BigGAN-deep checkpoint: its configuration, tensor shapes, and conversion for one truncation.

Conversion divides by the spectral norms, selects and folds the batch-norm statistics and keeps three output channels,
so that a forward pass of `BigGAN` computes only what depends on the code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gen_prior.errors import WeightsError
from gen_prior.hub.strict_loading import pop_float

CONFIG_KEYS = frozenset({"z_dim", "channel_width", "num_classes", "layers", "attention_layer_position", "n_stats"})
REDUCTION = 4


class Block(NamedTuple):
    """Channels of one residual block."""

    upsample: bool
    inputs: int
    outputs: int

    @property
    def middle(self) -> int:
        """Channels of the inner convolutions."""
        return self.inputs // REDUCTION

    @property
    def norms(self) -> tuple[int, int, int, int]:
        """Channels of the four batch norms, each before its convolution."""
        return (self.inputs, self.middle, self.middle, self.middle)

    @property
    def convolutions(self) -> tuple[tuple[int, int, int], ...]:
        """(inputs, outputs, kernel) of the four convolutions."""
        middle = self.middle
        return ((self.inputs, middle, 1), (middle, middle, 3), (middle, middle, 3), (middle, self.outputs, 1))


class Config(NamedTuple):
    """A BigGAN-deep `config.json`; `attention` is the index of the self-attention in the list of layers."""

    noise: int
    classes: int
    width: int
    blocks: tuple[Block, ...]
    attention: int
    eps: float
    statistics: int

    @property
    def condition(self) -> int:
        """Length of the code: noise and embedding, which are equally long."""
        return 2 * self.noise

    def layer(self, index: int) -> int:
        """Index, in the checkpoint's list of layers, of block `index`."""
        return index + (index >= self.attention)

    @property
    def attention_channels(self) -> int | None:
        """Channels of the self-attention, or None without one."""
        return self.blocks[self.attention].inputs if 0 <= self.attention < len(self.blocks) else None


def read_config(values: Mapping[str, Any], file: str) -> Config:
    """Read a configuration in the published format. Raises `WeightsError` for one that makes no network."""
    try:
        width = int(values["channel_width"])
        blocks = tuple(Block(bool(up), int(a) * width, int(b) * width) for up, a, b in values["layers"])
        config = Config(
            noise=int(values["z_dim"]),
            classes=int(values["num_classes"]),
            width=width,
            blocks=blocks,
            attention=int(values["attention_layer_position"]),
            eps=float(values.get("eps", 1e-4)),
            statistics=int(values["n_stats"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{file} is not a BigGAN-deep configuration: {error!r}") from error
    chained = all(a.outputs == b.inputs for a, b in pairwise(blocks))
    halved = all(block.outputs in (block.inputs, block.inputs // 2) for block in blocks)
    if not 1 <= len(blocks) <= 32 or not chained or not halved or blocks[0].inputs != 16 * width:
        raise WeightsError(f"{file}: the layers do not form a BigGAN-deep: {values['layers']}")
    if (
        blocks[-1].outputs != width
        or min(width - 7, config.noise, config.classes, config.statistics - 1, config.attention + 1) < 1
    ):
        raise WeightsError(f"{file}: channel_width, z_dim, num_classes or n_stats make no BigGAN-deep")
    return config


def published_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the checkpoint of `config`."""
    shapes: dict[str, tuple[int, ...]] = {"embeddings.weight": (config.noise, config.classes)}

    def spectral(name: str, shape: tuple[int, ...], bias: bool) -> None:
        shapes[f"{name}.weight_orig"] = shape
        shapes[f"{name}.weight_u"] = shape[:1]
        shapes[f"{name}.weight_v"] = (math.prod(shape[1:]),)
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    spectral("generator.gen_z", (256 * config.width, config.condition), True)
    for index, block in enumerate(config.blocks):
        layer = f"generator.layers.{config.layer(index)}"
        for number, channels in enumerate(block.norms):
            shapes[f"{layer}.bn_{number}.running_means"] = (config.statistics, channels)
            shapes[f"{layer}.bn_{number}.running_vars"] = (config.statistics, channels)
            spectral(f"{layer}.bn_{number}.scale", (channels, config.condition), False)
            spectral(f"{layer}.bn_{number}.offset", (channels, config.condition), False)
        for number, (inputs, outputs, kernel) in enumerate(block.convolutions):
            spectral(f"{layer}.conv_{number}", (outputs, inputs, kernel, kernel), True)
    if (channels := config.attention_channels) is not None:  # type: ignore[assignment]
        layer = f"generator.layers.{config.attention}"
        shapes[f"{layer}.gamma"] = (1,)
        for name, inputs, outputs in attention_convolutions(channels):
            spectral(f"{layer}.snconv1x1_{name}", (outputs, inputs, 1, 1), False)
    for name in ("running_means", "running_vars"):
        shapes[f"generator.bn.{name}"] = (config.statistics, config.width)
    shapes["generator.bn.weight"] = shapes["generator.bn.bias"] = (config.width,)
    spectral("generator.conv_to_rgb", (config.width, config.width, 3, 3), True)
    return shapes


def attention_convolutions(channels: int) -> tuple[tuple[str, int, int], ...]:
    """(name, inputs, outputs) of the 1x1 convolutions of the self-attention."""
    return (
        ("theta", channels, channels // 8),
        ("phi", channels, channels // 8),
        ("g", channels, channels // 2),
        ("o_conv", channels // 2, channels),
    )


def prepare(tensors: dict[str, Tensor], config: Config, truncation: float, file: str) -> dict[str, Tensor]:
    """Tensors of `BigGAN` for one truncation from published ones, which are popped as they are used."""
    ours: dict[str, Tensor] = {}

    def spectral(name: str) -> Tensor:
        weight = pop_float(tensors, f"{name}.weight_orig", file)
        left, right = pop_float(tensors, f"{name}.weight_u", file), pop_float(tensors, f"{name}.weight_v", file)
        return weight / torch.dot(left, torch.mv(weight.flatten(1), right))

    def statistics(name: str) -> tuple[Tensor, Tensor]:
        mean = at_truncation(pop_float(tensors, f"{name}.running_means", file), truncation)
        variance = at_truncation(pop_float(tensors, f"{name}.running_vars", file), truncation)
        return mean, (variance + config.eps).rsqrt()

    # The checkpoint orders these rows by height, width, channel.
    rows = spectral("generator.gen_z").view(4, 4, -1, config.condition)
    ours["entry.weight"] = rows.permute(2, 0, 1, 3).reshape(-1, config.condition)
    ours["entry.bias"] = pop_float(tensors, "generator.gen_z.bias", file).view(4, 4, -1).permute(2, 0, 1).reshape(-1)
    for index, block in enumerate(config.blocks):
        theirs, own = f"generator.layers.{config.layer(index)}", f"blocks.{index}"
        for number in range(len(block.norms)):
            mean, scale = statistics(f"{theirs}.bn_{number}")
            ours[f"{own}.norms.{number}.mean"] = mean
            ours[f"{own}.norms.{number}.gain.weight"] = spectral(f"{theirs}.bn_{number}.scale") * scale[:, None]
            ours[f"{own}.norms.{number}.gain.bias"] = scale
            ours[f"{own}.norms.{number}.offset.weight"] = spectral(f"{theirs}.bn_{number}.offset")
            ours[f"{own}.convolutions.{number}.weight"] = spectral(f"{theirs}.conv_{number}")
            ours[f"{own}.convolutions.{number}.bias"] = pop_float(tensors, f"{theirs}.conv_{number}.bias", file)
    if (channels := config.attention_channels) is not None:
        theirs = f"generator.layers.{config.attention}"
        for name, _, _ in attention_convolutions(channels):
            ours[f"attention.{name}.weight"] = spectral(f"{theirs}.snconv1x1_{name}")
        ours["attention.o_conv.weight"] *= pop_float(tensors, f"{theirs}.gamma", file)
    mean, scale = statistics("generator.bn")
    gain = pop_float(tensors, "generator.bn.weight", file) * scale
    ours["gain"] = gain[:, None, None]
    ours["offset"] = (pop_float(tensors, "generator.bn.bias", file) - mean * gain)[:, None, None]
    ours["exit.weight"] = spectral("generator.conv_to_rgb")[:3].contiguous()
    ours["exit.bias"] = pop_float(tensors, "generator.conv_to_rgb.bias", file)[:3].contiguous()
    return ours


def at_truncation(table: Tensor, truncation: float) -> Tensor:
    """Statistics `[C]` at one truncation, from a table `[S, C]` for S truncations from 0 to 1.

    Between two rows, the nearer one has the smaller weight, as in the published network, to reproduce its images.
    """
    coefficient, row = math.modf(truncation / (1.0 / (len(table) - 1)))
    start = int(row)
    if coefficient == 0.0:
        return table[start]
    return table[start] * coefficient + table[start + 1] * (1 - coefficient)
