"""The network of pixel mean flows (Lu et al. 2026, arXiv 2601.22158): one pass from noise to pixels, no autoencoder.

Written from the paper and the layout of the published tensors, which `format.prepare` converts: what does not depend
on the code (time, guidance, positions, the scales of branches) is computed or folded in once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6


class Variant(NamedTuple):
    """A published checkpoint: its sizes, the std of its noise, and the guidance that its authors sample with."""

    side: int
    patch: int
    width: int
    heads: int
    shared: int
    """Blocks before those of the head."""
    noise_std: float
    guidance: float
    interval: tuple[float, float]
    head: int = 8
    bottleneck: int = 128
    """Channels of the first linear map of a patch."""
    class_tokens: int = 8

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.side // self.patch

    @property
    def hidden(self) -> int:
        """Width inside the feed-forward networks."""
        hidden = int(self.width * 8 / 3)
        return hidden if self.width <= 1024 else -(-hidden // 8) * 8


VARIANTS: dict[str, Variant] = {
    "B-16": Variant(256, 16, 768, 12, 8, 1.0, 7.5, (0.1, 0.8)),
    "L-16": Variant(256, 16, 1024, 16, 24, 1.0, 7.0, (0.2, 0.7)),
    "H-16": Variant(256, 16, 1280, 16, 40, 2.0, 7.0, (0.2, 0.6), bottleneck=256),
    "B-32": Variant(512, 32, 768, 12, 8, 2.0, 6.5, (0.1, 0.7)),
    "L-32": Variant(512, 32, 1024, 16, 24, 4.0, 7.5, (0.2, 0.6)),
    "H-32": Variant(512, 32, 1280, 16, 40, 4.0, 5.5, (0.1, 0.6), bottleneck=256),
}
"""Side 256 px with patches of 16, 512 px with patches of 32."""


def rotation(variant: Variant) -> tuple[Tensor, Tensor]:
    """Cosine and sine `[P, D / 2]` of the angles of pairs of channels: half turn with the row, half with the column."""
    size = variant.width // variant.heads // 2
    rates = 1.0 / 10_000 ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
    angles = torch.arange(variant.grid, dtype=torch.float32)[:, None] * rates
    rows = angles[:, None].expand(-1, variant.grid, -1)
    both = torch.cat([rows, rows.transpose(0, 1)], 2).flatten(0, 1)
    return both.cos(), both.sin()


class Block(nn.Module):
    """Pre-norm transformer block: attention with normed queries and keys and rotary positions, then a gated network."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        width, hidden = variant.width, variant.hidden
        self.heads = variant.heads
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=EPS), nn.RMSNorm(width, eps=EPS)
        self.query_norm = nn.RMSNorm(width // variant.heads, eps=EPS)
        self.key_norm = nn.RMSNorm(width // variant.heads, eps=EPS)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate_and_value = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = (_rotated(part, cosine, sine) for part in (self.query_norm(query), self.key_norm(key)))
        attended = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        gate, hidden = self.gate_and_value(self.norm2(x)).chunk(2, 2)
        changed: Tensor = x + self.down(F.silu(gate) * hidden)
        return changed


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn neighbouring channels of the last P tokens, those of the image, of `[B, H, L, D]`."""
    prefix, patches = x[:, :, : -len(cosine)], x[:, :, -len(cosine) :]
    a, b = patches.unflatten(3, (-1, 2)).unbind(4)
    turned = torch.stack([a * cosine - b * sine, a * sine + b * cosine], 4).flatten(3)
    return torch.cat([prefix, turned], 2)


class PixelFlow(nn.Module):
    """Noise and class embedding `[B, W]` -> images `[B, 3, S, S]`, nominally in [-1, 1].

    `projected`: the noise is the whitened bottleneck of the patches `[B, C, G, G]`; otherwise it is an image
    `[B, 3, S, S]`.
    """

    def __init__(self, variant: Variant, projected: bool) -> None:
        super().__init__()
        self.variant = variant
        width, patch = variant.width, variant.patch
        self.enter = nn.Conv2d(variant.bottleneck, width, 1) if projected else nn.Conv2d(3, width, patch, patch)
        self.class_tokens = nn.Buffer(torch.empty(1, variant.class_tokens, width))
        self.condition = nn.Buffer(torch.empty(1, 12, width))
        self.positions = nn.Buffer(torch.empty(1, variant.grid**2, width))
        self.cosine, self.sine = (nn.Buffer(torch.empty_like(value)) for value in rotation(variant))
        self.blocks = nn.ModuleList(Block(variant) for _ in range(variant.shared + variant.head))
        self.norm = nn.RMSNorm(width, eps=EPS)
        self.exit = nn.Linear(width, 3 * patch**2)

    def forward(self, noise: Tensor, embedding: Tensor) -> Tensor:
        variant, count = self.variant, len(noise)
        patches = self.enter(noise).flatten(2).transpose(1, 2) + self.positions
        condition = self.condition.expand(count, -1, -1)
        x = torch.cat([self.class_tokens + embedding[:, None], condition, patches], 1)
        for block in self.blocks:
            x = block(x, self.cosine, self.sine)
        # Values of a patch are ordered row, column, colour.
        values = self.exit(self.norm(x[:, -(variant.grid**2) :]))
        pixels = values.unflatten(2, (variant.patch, variant.patch, 3)).unflatten(1, (variant.grid, variant.grid))
        return pixels.permute(0, 5, 1, 3, 2, 4).reshape(count, 3, variant.side, variant.side)


__all__ = ["EPS", "VARIANTS", "PixelFlow", "Variant", "rotation"]
