"""The network of adversarial flow models, a diffusion transformer (Peebles & Xie 2023, arXiv 2212.09748) in one pass.

Written from the paper and the names of the published tensors. Each block is modulated by the class embedding alone;
the deep variants run through all blocks two or four times, and add an embedding of the time left, which falls from 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 256
"""Sines and cosines that describe a time."""


class Variant(NamedTuple):
    """A published checkpoint: the sizes of its transformer, and how often its blocks are repeated."""

    layers: int
    width: int
    heads: int
    repeats: int = 1
    side: int = 32
    patch: int = 2
    channels: int = 4


VARIANTS: dict[str, Variant] = {
    "B": Variant(12, 768, 12),
    "M": Variant(16, 1024, 16),
    "L": Variant(24, 1024, 16),
    "XL": Variant(28, 1152, 16),
    "XL-56": Variant(28, 1152, 16, repeats=2),
    "XL-112": Variant(28, 1152, 16, repeats=4),
}


class Attention(nn.Module):
    """Self-attention `[B, L, W]` -> `[B, L, W]`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return mixed


class Modulation(nn.Sequential):
    """Condition `[B, W]` -> `parts` vectors `[B, 1, W]`."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, parts * width))
        self.parts = parts

    def vectors(self, condition: Tensor) -> tuple[Tensor, ...]:
        values: Tensor = self(condition)[:, None]
        return values.chunk(self.parts, 2)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


class Block(nn.Module):
    """Transformer block whose two halves are shifted, scaled and gated by the condition (adaLN-Zero)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.adaLN_modulation = Modulation(width, 6)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.adaLN_modulation.vectors(condition)
        x = x + gate * self.attn(_modulated(x, shift, scale))
        hidden = F.gelu(self.mlp["fc1"](_modulated(x, mlp_shift, mlp_scale)), approximate="tanh")
        changed: Tensor = x + mlp_gate * self.mlp["fc2"](hidden)
        return changed


class FinalLayer(nn.Module):
    """Tokens `[B, L, W]` -> the values of each patch `[B, L, outputs]`."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = Modulation(width, 2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        values: Tensor = self.linear(_modulated(x, *self.adaLN_modulation.vectors(condition)))
        return values


class TimeEmbedder(nn.Module):
    """Times `[B]` in [0, 1] -> `[B, W]`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        half = FREQUENCIES // 2
        rates = torch.exp(-math.log(10_000) / half * torch.arange(half, device=time.device))
        angles = 1000 * time[:, None] * rates  # as diffusion models count time
        embedded: Tensor = self.mlp(torch.cat([angles.cos(), angles.sin()], 1))
        return embedded


class FlowTransformer(nn.Module):
    """Noise `[B, C, S, S]` and class embedding `[B, W]` -> latent of the image `[B, C, S, S]`, of unit variance."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        width, patch, channels = variant.width, variant.patch, variant.channels
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, patch)})
        self.pos_embed = nn.Parameter(torch.empty(1, (variant.side // patch) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, variant.heads) for _ in range(variant.layers))
        self.final_layer = FinalLayer(width, patch**2 * channels)
        self.t_embedder = TimeEmbedder(width) if variant.repeats > 1 else None

    def forward(self, noise: Tensor, embedding: Tensor) -> Tensor:
        repeats, grid, patch = self.variant.repeats, self.variant.side // self.variant.patch, self.variant.patch
        x = self.x_embedder["proj"](noise).flatten(2).transpose(1, 2) + self.pos_embed
        for turn in range(repeats):
            condition = embedding
            if self.t_embedder is not None:
                condition = condition + self.t_embedder(torch.full_like(embedding[:, 0], 1 - turn / repeats))
            for block in self.blocks:
                x = block(x, condition)
        # Values of a patch are ordered row, column, channel.
        values = self.final_layer(x, embedding).unflatten(2, (patch, patch, -1)).unflatten(1, (grid, grid))
        return values.permute(0, 5, 1, 3, 2, 4).reshape(noise.shape)


__all__ = ["VARIANTS", "FlowTransformer", "Variant"]
