"""BigGAN-deep: noise and class embedding -> RGB image (Brock et al. 2019, arXiv 1809.11096).

Takes checkpoints in the published PyTorch format and prepares them for one truncation: spectral norms divided
out, batch-norm statistics chosen and folded, the output cut to three channels, so a forward pass holds nothing
that does not depend on the code. The class embedding is part of the code and may leave the known classes, which
is the point of BigGAN-AM (Li et al. 2020, arXiv 1910.04760).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.hub import Files
from gen_prior.labels import imagenet
from gen_prior.recipes import Recipe
from gen_prior.strict_loading import check_shapes, fill, on_meta
from gen_prior.tensor_files import read_shapes, read_tensors
from gen_prior.weights import registry

CONFIG_KEYS = frozenset({"z_dim", "channel_width", "num_classes", "layers", "attention_layer_position", "n_stats"})
REDUCTION = 4
NOISE_LIMIT = 2.0
OPTIMISE = ("both", "noise", "class")
RECIPE = Recipe(
    steps=200,
    rate=0.1,
    final_rate=0.01,
    score="log_probability",
    domain="code",
    source="after BigGAN-AM, Li et al. 2020, arXiv 1910.04760: Adam at 0.1, embedding within the known classes' range",
)


class Block(NamedTuple):
    """One residual block, in channels."""

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
    """What a BigGAN-deep `config.json` says. `attention`: the index of the self-attention in the list of layers."""

    noise: int
    classes: int
    width: int
    blocks: tuple[Block, ...]
    attention: int
    eps: float
    statistics: int

    @property
    def condition(self) -> int:
        """Length of the code: noise and embedding, which are of one length."""
        return 2 * self.noise

    def layer(self, index: int) -> int:
        """Index, in the checkpoint's list of layers, of block `index`."""
        return index + (index >= self.attention)

    @property
    def attention_channels(self) -> int | None:
        """Channels at the self-attention, None where there is none."""
        return self.blocks[self.attention].inputs if 0 <= self.attention < len(self.blocks) else None


def read_config(values: Mapping[str, Any], file: str) -> Config:
    """The configuration in the published format. Raises `WeightsError` where it makes no network."""
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
        raise WeightsError(f"{file} is no BigGAN-deep configuration: {error!r}") from error
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
        for name, inputs, outputs in _attention_convolutions(channels):
            spectral(f"{layer}.snconv1x1_{name}", (outputs, inputs, 1, 1), False)
    for name in ("running_means", "running_vars"):
        shapes[f"generator.bn.{name}"] = (config.statistics, config.width)
    shapes["generator.bn.weight"] = shapes["generator.bn.bias"] = (config.width,)
    spectral("generator.conv_to_rgb", (config.width, config.width, 3, 3), True)
    return shapes


def _attention_convolutions(channels: int) -> tuple[tuple[str, int, int], ...]:
    return (
        ("theta", channels, channels // 8),
        ("phi", channels, channels // 8),
        ("g", channels, channels // 2),
        ("o_conv", channels // 2, channels),
    )


class ConditionalNorm(nn.Module):
    """Batch norm with fixed statistics; gain and offset are linear in the code, the statistics folded into them."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.gain = nn.Linear(condition, channels)
        self.offset = nn.Linear(condition, channels, bias=False)
        self.mean = nn.Buffer(torch.empty(channels))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        gain = self.gain(code)
        offset = self.offset(code) - self.mean * gain
        return torch.addcmul(offset[:, :, None, None], x, gain[:, :, None, None])


class ResidualBlock(nn.Module):
    """Four convolutions in a bottleneck; the skip drops channels and is enlarged by repeating pixels."""

    def __init__(self, condition: int, block: Block) -> None:
        super().__init__()
        self.block = block
        self.norms = nn.ModuleList(ConditionalNorm(condition, channels) for channels in block.norms)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2) for inputs, outputs, kernel in block.convolutions
        )

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        skip = x[:, : self.block.outputs]
        for number, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            x = norm(x, code).relu()
            if number == 1 and self.block.upsample:
                x = F.interpolate(x, scale_factor=2.0)
            x = convolution(x)
        return x + (F.interpolate(skip, scale_factor=2.0) if self.block.upsample else skip)


class SelfAttention(nn.Module):
    """Every position attends to the 2x2-pooled positions (Zhang et al. 2019, arXiv 1805.08318)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        sizes = {name: (inputs, outputs) for name, inputs, outputs in _attention_convolutions(channels)}
        self.theta = nn.Conv2d(*sizes["theta"], 1, bias=False)
        self.phi = nn.Conv2d(*sizes["phi"], 1, bias=False)
        self.g = nn.Conv2d(*sizes["g"], 1, bias=False)
        self.o_conv = nn.Conv2d(*sizes["o_conv"], 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query = self.theta(x).flatten(2).transpose(1, 2)
        key = F.max_pool2d(self.phi(x), 2).flatten(2).transpose(1, 2)
        value = F.max_pool2d(self.g(x), 2).flatten(2).transpose(1, 2)
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        update: Tensor = self.o_conv(attended.transpose(1, 2).reshape(len(x), -1, *x.shape[2:]))
        return x + update


class BigGAN(nn.Module):
    """Code `[B, 2 * noise]`, noise then embedding -> RGB `[B, 3, H, W]` in (-1, 1)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.entry = nn.Linear(config.condition, 256 * config.width)
        self.blocks = nn.ModuleList(ResidualBlock(config.condition, block) for block in config.blocks)
        channels = config.attention_channels
        self.attention = SelfAttention(channels) if channels is not None else None
        self.gain = nn.Buffer(torch.empty(config.width, 1, 1))
        self.offset = nn.Buffer(torch.empty(config.width, 1, 1))
        self.exit = nn.Conv2d(config.width, 3, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        x = self.entry(code).view(-1, 16 * self.config.width, 4, 4)
        for index, block in enumerate(self.blocks):
            if index == self.config.attention and self.attention is not None:
                x = self.attention(x)
            x = block(x, code)
        image: Tensor = self.exit(torch.addcmul(self.offset, x, self.gain).relu()).tanh()
        return image


def prepare(tensors: dict[str, Tensor], config: Config, truncation: float) -> dict[str, Tensor]:
    """Published tensors (emptied as they are used) -> those of `BigGAN` for one truncation."""
    ours: dict[str, Tensor] = {}

    def spectral(name: str) -> Tensor:
        weight = tensors.pop(f"{name}.weight_orig").float()
        left, right = tensors.pop(f"{name}.weight_u").float(), tensors.pop(f"{name}.weight_v").float()
        return weight / torch.dot(left, torch.mv(weight.flatten(1), right))

    def statistics(name: str) -> tuple[Tensor, Tensor]:
        mean = at_truncation(tensors.pop(f"{name}.running_means").float(), truncation)
        variance = at_truncation(tensors.pop(f"{name}.running_vars").float(), truncation)
        return mean, (variance + config.eps).rsqrt()

    # The checkpoint orders these rows by height, width, channel.
    rows = spectral("generator.gen_z").view(4, 4, -1, config.condition)
    ours["entry.weight"] = rows.permute(2, 0, 1, 3).reshape(-1, config.condition)
    ours["entry.bias"] = tensors.pop("generator.gen_z.bias").float().view(4, 4, -1).permute(2, 0, 1).reshape(-1)
    for index, block in enumerate(config.blocks):
        theirs, own = f"generator.layers.{config.layer(index)}", f"blocks.{index}"
        for number in range(len(block.norms)):
            mean, scale = statistics(f"{theirs}.bn_{number}")
            ours[f"{own}.norms.{number}.mean"] = mean
            ours[f"{own}.norms.{number}.gain.weight"] = spectral(f"{theirs}.bn_{number}.scale") * scale[:, None]
            ours[f"{own}.norms.{number}.gain.bias"] = scale
            ours[f"{own}.norms.{number}.offset.weight"] = spectral(f"{theirs}.bn_{number}.offset")
            ours[f"{own}.convolutions.{number}.weight"] = spectral(f"{theirs}.conv_{number}")
            ours[f"{own}.convolutions.{number}.bias"] = tensors.pop(f"{theirs}.conv_{number}.bias")
    if (channels := config.attention_channels) is not None:
        theirs = f"generator.layers.{config.attention}"
        for name, _, _ in _attention_convolutions(channels):
            ours[f"attention.{name}.weight"] = spectral(f"{theirs}.snconv1x1_{name}")
        ours["attention.o_conv.weight"] *= tensors.pop(f"{theirs}.gamma").float()
    mean, scale = statistics("generator.bn")
    gain = tensors.pop("generator.bn.weight").float() * scale
    ours["gain"] = gain[:, None, None]
    ours["offset"] = (tensors.pop("generator.bn.bias").float() - mean * gain)[:, None, None]
    ours["exit.weight"] = spectral("generator.conv_to_rgb")[:3].contiguous()
    ours["exit.bias"] = tensors.pop("generator.conv_to_rgb.bias")[:3].contiguous()
    return ours


def at_truncation(table: Tensor, truncation: float) -> Tensor:
    """Row of a table of statistics `[S, C]`, one row for each of S truncations from 0 to 1.

    Between two rows, the nearer one has the smaller weight: so does the published network, whose images these are.
    """
    coefficient, row = math.modf(truncation / (1.0 / (len(table) - 1)))
    start = int(row)
    if coefficient == 0.0:
        return table[start]
    return table[start] * coefficient + table[start + 1] * (1 - coefficient)


class Held(nn.Module):
    """A BigGAN with one half of its code held: takes the other half, `[B, noise]`."""

    def __init__(self, network: BigGAN, held: Tensor, noise_is_held: bool) -> None:
        super().__init__()
        self.network = network
        self.held = nn.Buffer(held)
        self.noise_is_held = noise_is_held

    def forward(self, code: Tensor) -> Tensor:
        held = self.held.expand_as(code)
        image: Tensor = self.network(torch.cat([held, code] if self.noise_is_held else [code, held], 1))
        return image


def load(name: str, *, revision: str | None = None, **options: Any) -> Generator:
    """The generator `name` ("biggan-deep-128", ...) from the Hub, on the CPU. Options as of `assemble`."""
    entry = registry.find(name)
    files = Files.from_hub(entry.repo or "", revision=revision or entry.revision, sha256=entry.sha256)
    return from_files(files, name=name, **options)


def from_files(files: Files, *, name: str, **options: Any) -> Generator:
    """The generator in a repository or folder of this format: `config.json` and the weights."""
    with files.loading():
        config = read_config(files.json("config.json"), f"{files.source}/config.json")
        path = files.weights("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")
        check_shapes(published_shapes(config), read_shapes(path), f"{files.source}/{path.name}", "this BigGAN-deep")
        return assemble(config, read_tensors(path), files, name=name, **options)


def assemble(
    config: Config,
    published: dict[str, Tensor],
    files: Files,
    *,
    name: str,
    truncation: float = 0.5,
    class_label: int | str | None = None,
    optimise: str = "both",
    noise_seed: int = 0,
) -> Generator:
    """The generator from published tensors.

    Args:
        truncation: in (0, 1]: scale of the starting noise and choice of the batch-norm statistics; smaller is
            more typical, larger more varied.
        class_label: class to start from (or to hold), by number or ImageNet name; without one, the start is the
            mean embedding plus a tenth of the embeddings' deviation.
        optimise: "both" (code: noise and embedding), "noise" (the class is held) or "class" (the noise is held,
            drawn from `noise_seed`).

    Raises:
        OptionError: an option out of range. UnknownNameError: no such class.
    """
    if not 0 < truncation <= 1:
        raise OptionError(f"truncation must be above 0 and at most 1, got {truncation}")
    if optimise not in OPTIMISE:
        raise OptionError(f"optimise must be one of {', '.join(OPTIMISE)}, got {optimise!r}")
    if optimise == "noise" and class_label is None:
        raise OptionError("optimise='noise' holds the class, so it needs one", fix="pass class_label=...")
    embeddings = published.pop("embeddings.weight").float().T.contiguous()
    label = None if class_label is None else class_index(class_label, config.classes)
    network = on_meta(lambda: BigGAN(config), files.source)
    fill(network, prepare(published, config, truncation), files.source, "BigGAN-deep")
    assert isinstance(network, BigGAN)
    centre, spread = embeddings.mean(0), embeddings.std(0, unbiased=False)

    def noise(source: torch.Generator) -> Tensor:
        return truncation * truncated_normal(config.noise, source)

    def embedding(source: torch.Generator) -> Tensor:
        return (
            embeddings[label]
            if label is not None
            else centre + 0.1 * torch.randn(len(centre), generator=source) * spread
        )

    def both(source: torch.Generator) -> Tensor:
        return torch.cat([noise(source), embedding(source)])

    size, scale = config.noise, torch.full((config.noise,), truncation)
    low, high = embeddings.min().expand(size), embeddings.max().expand(size)
    parts = {  # start, mean, deviation, lower and upper bound
        "noise": (noise, torch.zeros(size), scale, -NOISE_LIMIT * scale, NOISE_LIMIT * scale),
        "class": (embedding, centre, spread, low, high),
    }
    if optimise == "both":
        start = both
        mean, std, low, high = (torch.cat([a, b]) for a, b in zip(parts["noise"][1:], parts["class"][1:], strict=True))
        module: nn.Module = network
    else:
        start, mean, std, low, high = parts[optimise]
        other = noise if optimise == "class" else embedding
        module = Held(network, other(torch.Generator().manual_seed(noise_seed)), noise_is_held=optimise == "class")
    options = {"truncation": truncation, "class_label": label, "optimise": optimise}
    entry = next((entry for entry in registry.ENTRIES if entry.repo and entry.repo in files.source), None)
    return Generator(
        module,
        mean.shape,
        code_mean=mean,
        code_std=std.clamp_min(1e-6),
        code_min=low,
        code_max=high,
        name=name,
        recipe=RECIPE,
        start=start,
        provenance=files.provenance(licence=entry.licence if entry else None, paper=registry.BIGGAN_PAPER),
        options=options | ({"noise_seed": noise_seed} if optimise == "class" else {}),
    )


def truncated_normal(count: int, source: torch.Generator) -> Tensor:
    """Standard normal numbers within +-2, `[count]`, by the inverse of their distribution function."""
    edge = math.erf(NOISE_LIMIT / math.sqrt(2))
    uniform = torch.rand(count, generator=source, dtype=torch.float64)
    return (math.sqrt(2) * torch.erfinv((2 * uniform - 1) * edge)).float()


def class_index(label: int | str, classes: int) -> int:
    """Class number of a number or, with the 1000 of ImageNet, a name. Raises `OptionError`, `UnknownNameError`."""
    text = str(label).strip()
    if text.isdigit():
        if int(text) >= classes:
            raise OptionError(f"class_label must be from 0 to {classes - 1}, got {text}")
        return int(text)
    if classes != len(imagenet()):
        raise OptionError(f"this generator has {classes} classes without names, got {label!r}", fix="pass a number")
    return imagenet().index(text)


__all__ = ["RECIPE", "BigGAN", "Config", "assemble", "from_files", "load", "prepare", "published_shapes", "read_config"]
