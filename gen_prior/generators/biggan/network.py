"""The network of BigGAN-deep (Brock et al. 2019, arXiv 1809.11096, appendix B) for one truncation.

`format.prepare` converts the published weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.biggan.format import Block, Config, attention_convolutions


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

    def forward(self, code: Tensor, side: int = 4) -> Tensor:
        """`side`: side of the first feature map, 4 for the whole image; less generates a corner of it."""
        x = self.entry(code).view(-1, 16 * self.config.width, 4, 4)[:, :, :side, :side]
        for index, block in enumerate(self.blocks):
            if index == self.config.attention and self.attention is not None:
                x = self.attention(x)
            x = block(x, code)
        image: Tensor = self.exit(torch.addcmul(self.offset, x, self.gain).relu()).tanh()
        return image


class ConditionalNorm(nn.Module):
    """Batch norm with fixed statistics, folded into a gain and an offset that are linear in the code."""

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
    """Bottleneck of four convolutions; the skip connection drops channels and is enlarged by nearest neighbours."""

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
        sizes = {name: (inputs, outputs) for name, inputs, outputs in attention_convolutions(channels)}
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


class Held(nn.Module):
    """A BigGAN with one half of its code fixed: the other half `[B, noise]` -> images."""

    def __init__(self, network: BigGAN, held: Tensor, noise_is_held: bool) -> None:
        super().__init__()
        self.network = network
        self.held = nn.Buffer(held)
        self.noise_is_held = noise_is_held

    def forward(self, code: Tensor) -> Tensor:
        held = self.held.expand_as(code)
        image: Tensor = self.network(torch.cat([held, code] if self.noise_is_held else [code, held], 1))
        return image
