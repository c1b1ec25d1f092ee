"""The encoder and decoder of a TiTok VAE tokeniser (Yu et al. 2024, arXiv 2406.07550), with the published tensor names.

An image is described by N latent tokens of 16 numbers. Both halves are plain vision transformers over a class token,
one token a patch, and the latent tokens; the decoder sees one learnt mask token in place of every patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.errors import WeightsError

SIZES = {"small": (512, 8, 8), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""Name of a transformer -> (width, layers, heads)."""
LARGEST_SIDE, MOST_TOKENS = 1024, 4096


class Transformer(NamedTuple):
    """Sizes of one half; the image has `side` pixels, each patch `patch`."""

    side: int
    patch: int
    width: int
    layers: int
    heads: int
    tokens: int

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.side // self.patch


class Config(NamedTuple):
    """A published `config.json`: both halves, and the numbers of one latent token."""

    encoder: Transformer
    decoder: Transformer
    numbers: int


def read_config(values: Mapping[str, Any], file: str) -> Config:
    """Read a published configuration. Raises `WeightsError` for one that is no continuous (VAE) TiTok tokeniser."""
    try:
        model, side = values["model"]["vq_model"], int(values["dataset"]["preprocessing"]["crop_size"])
        mode, legacy = model.get("quantize_mode", "vq"), bool(model.get("is_legacy", True))
        halves = []
        for half in ("enc", "dec"):
            size, patch = SIZES[model[f"vit_{half}_model_size"]], int(model[f"vit_{half}_patch_size"])
            halves.append(Transformer(side, patch, *size, int(model["num_latent_tokens"])))
        encoder, decoder = halves
        config = Config(encoder, decoder, int(model["token_size"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{file} is not a TiTok configuration: {error!r}") from error
    if mode != "vae" or legacy:
        raise WeightsError(
            f"{file} describes a TiTok of discrete tokens (quantize_mode {mode!r}, is_legacy {legacy})",
            fix="use a continuous one: titok:ll32, titok:bl64 or titok:bl128",
        )
    fits = all(1 <= half.patch <= side <= LARGEST_SIDE and side % half.patch == 0 for half in halves)
    if not fits or not 1 <= encoder.tokens <= MOST_TOKENS or not 1 <= config.numbers <= encoder.width:
        raise WeightsError(f"{file}: crop_size, patch size, num_latent_tokens or token_size make no TiTok")
    return config


class Attention(nn.Module):
    """Self-attention with the tensor names of `torch.nn.MultiheadAttention`: `[B, L, W]` -> `[B, L, W]`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = projected.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """Pre-norm transformer block with a GELU network of four times the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        hidden = F.gelu(self.mlp["c_fc"](self.ln_2(x)))
        mixed: Tensor = self.mlp["c_proj"](hidden)
        return x + mixed


class Half(nn.Module):
    """Base of encoder and decoder: position tables, norms and blocks."""

    def __init__(self, sizes: Transformer) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.width
        self.class_embedding = nn.Parameter(torch.empty(1, width))
        self.positional_embedding = nn.Parameter(torch.empty(sizes.grid**2 + 1, width))
        self.latent_token_positional_embedding = nn.Parameter(torch.empty(sizes.tokens, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.ModuleList(Block(width, sizes.heads) for _ in range(sizes.layers))

    def transformed(self, patches: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens `[B, G^2, W]` and latent tokens `[B, N, W]` after all blocks."""
        first = self.class_embedding.expand(len(patches), 1, -1)
        grid = torch.cat([first, patches], 1) + self.positional_embedding
        x = self.ln_pre(torch.cat([grid, latents + self.latent_token_positional_embedding], 1))
        for block in self.transformer:
            x = block(x)
        count = patches.shape[1]
        return self.ln_post(x[:, 1 : count + 1]), self.ln_post(x[:, count + 1 :])


class Encoder(Half):
    """Images `[B, 3, S, S]` in [0, 1] and learnt tokens `[N, W]` -> mean and log variance `[B, 2C, 1, N]` of codes."""

    def __init__(self, sizes: Transformer, numbers: int) -> None:
        super().__init__(sizes)
        self.patch_embed = nn.Conv2d(3, sizes.width, sizes.patch, sizes.patch)
        self.conv_out = nn.Conv2d(sizes.width, 2 * numbers, 1)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        _, latents = self.transformed(patches, tokens.expand(len(images), -1, -1))
        code: Tensor = self.conv_out(latents.transpose(1, 2)[:, :, None])
        return code


class Decoder(Half):
    """Code `[B, C, 1, N]` -> images `[B, 3, S, S]`, nominally in [0, 1]."""

    def __init__(self, sizes: Transformer, numbers: int) -> None:
        super().__init__(sizes)
        self.decoder_embed = nn.Linear(numbers, sizes.width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, sizes.width))
        self.ffn = nn.Sequential(nn.Conv2d(sizes.width, 3 * sizes.patch**2, 1))
        self.conv_out = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        grid, patch = self.sizes.grid, self.sizes.patch
        latents = self.decoder_embed(code.flatten(2).transpose(1, 2))
        patches, _ = self.transformed(self.mask_token.expand(len(code), grid**2, -1), latents)
        pixels = self.ffn(patches.transpose(1, 2).unflatten(2, (grid, grid)))
        # Channels of a patch are ordered row, column, colour.
        pixels = pixels.unflatten(1, (patch, patch, 3)).permute(0, 3, 4, 1, 5, 2)
        image: Tensor = self.conv_out(pixels.reshape(len(code), 3, grid * patch, grid * patch))
        return image


class TiTok(nn.Module):
    """Code `[B, C, 1, N]` -> images `[B, 3, S, S]`, nominally in [0, 1]; `encode` is the inverse."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder, config.numbers)
        self.decoder = Decoder(config.decoder, config.numbers)
        self.latent_tokens = nn.Parameter(torch.empty(config.encoder.tokens, config.encoder.width))

    def forward(self, code: Tensor) -> Tensor:
        image: Tensor = self.decoder(code)
        return image

    def encode(self, images: Tensor) -> Tensor:
        """Mean of the code of images `[B, 3, S, S]` in [0, 1]."""
        code: Tensor = self.encoder(images, self.latent_tokens)[:, : self.config.numbers]
        return code


__all__ = ["SIZES", "Config", "TiTok", "Transformer", "read_config"]
