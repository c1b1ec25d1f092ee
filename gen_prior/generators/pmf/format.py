"""The published checkpoint of a pixel mean flow in PyTorch: tensor shapes, and conversion for one guidance."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.errors import WeightsError
from gen_prior.generators.pmf.network import Variant, rotation
from gen_prior.hub.strict_loading import pop_float

FREQUENCIES = 256
"""Sines and cosines that describe a scalar condition."""
CLASSES = 1000
TABLE = "y_embedder.embedding_table._flax_embedding.weight"
CONDITIONS = (("omega", "omega", 4), ("t_min", "cfg_t_start", 2), ("t_max", "cfg_t_end", 2), ("time", "h", 4))
"""Name of the tokens, of their embedder, and their number, in the order of the sequence after the class tokens."""
TRAINING = ("v_heads.", "v_final_layer.")
"""Parts that only training uses: the head that predicts the velocity at one instant."""


def published_shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    """Names, without their prefix "net.", and shapes of the tensors that sampling uses."""
    width, hidden, patch = variant.width, variant.hidden, variant.patch
    shapes: dict[str, tuple[int, ...]] = {
        "x_embedder.proj1.weight": (variant.bottleneck, 3, patch, patch),
        "x_embedder.proj1.bias": (variant.bottleneck,),
        "x_embedder.proj2.weight": (width, variant.bottleneck, 1, 1),
        "x_embedder.proj2.bias": (width,),
        TABLE: (CLASSES + 1, width),
        "class_tokens": (1, variant.class_tokens, width),
        "pos_embed": (1, variant.class_tokens + sum(count for *_, count in CONDITIONS) + variant.grid**2, width),
        "u_final_layer.norm.weight": (width,),
        "u_final_layer.linear._flax_linear.weight": (3 * patch**2, width),
        "u_final_layer.linear._flax_linear.bias": (3 * patch**2,),
    }
    for tokens, embedder, count in CONDITIONS:
        shapes[f"{tokens}_tokens"] = (1, count, width)
        for layer, inputs in ((0, FREQUENCIES), (2, width)):
            shapes[f"{embedder}_embedder.mlp.{layer}._flax_linear.weight"] = (width, inputs)
            shapes[f"{embedder}_embedder.mlp.{layer}._flax_linear.bias"] = (width,)
    for block in block_names(variant):
        for name in ("norm1.weight", "norm2.weight", "attn_scale", "mlp_scale"):
            shapes[f"{block}.{name}"] = (width,)
        for name in ("q_norm", "k_norm"):
            shapes[f"{block}.attn.{name}.weight"] = (width // variant.heads,)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{block}.attn.{name}._flax_linear.weight"] = (width, width)
        for name, size in (("w1", (hidden, width)), ("w3", (hidden, width)), ("w2", (width, hidden))):
            shapes[f"{block}.mlp.{name}._flax_linear.weight"] = size
    return shapes


def block_names(variant: Variant) -> list[str]:
    """Published names of the blocks, in order."""
    parts = (("shared_blocks", variant.shared), ("u_heads", variant.head))
    return [f"{part}.{index}" for part, count in parts for index in range(count)]


def used_for_sampling(name: str) -> bool:
    """True if sampling needs the published tensor `name`: not the table of rotations, nor the head of training."""
    own = name.removeprefix("net.")
    return own != "rope_freqs" and not own.startswith(TRAINING)


def embedded(tensors: dict[str, Tensor], embedder: str, value: float, file: str) -> Tensor:
    """The embedding `[W]` of a scalar, by the embedder's two linear layers, which are popped."""
    half = FREQUENCIES // 2
    angles = value * torch.exp(-math.log(10_000) / half * torch.arange(half))
    x = torch.cat([angles.cos(), angles.sin()])
    for layer in (0, 2):
        base = f"{embedder}_embedder.mlp.{layer}._flax_linear"
        weight, bias = pop_float(tensors, f"{base}.weight", file), pop_float(tensors, f"{base}.bias", file)
        x = F.linear(F.silu(x) if layer else x, weight, bias)
    return x


def prepare(
    tensors: dict[str, Tensor],
    variant: Variant,
    projected: bool,
    guidance: float,
    interval: tuple[float, float],
    file: str,
) -> tuple[dict[str, Tensor], Tensor]:
    """Tensors of `PixelFlow` from published ones, which are popped as they are used, and the class embeddings `[K, W]`.

    Raises `WeightsError` where the first linear map has dependent rows, so that no code can be whitened.
    """

    def take(name: str) -> Tensor:
        return pop_float(tensors, name, file)

    ours = _entrance(take("x_embedder.proj1.weight"), take("x_embedder.proj1.bias"), variant, projected, file)
    second = take("x_embedder.proj2.weight")[:, :, 0, 0]
    first, shift = ours.pop("map"), ours.pop("shift")
    ours["enter.weight"] = torch.einsum("wc,cikl->wikl", second, first)
    ours["enter.bias"] = second @ shift + take("x_embedder.proj2.bias")
    # At one pass from pure noise, the step and the time left are 1.
    values = {"omega": 1 - 1 / guidance, "t_min": interval[0], "t_max": interval[1], "time": 1.0}
    positions, count = take("pos_embed"), variant.class_tokens
    condition = [
        take(f"{tokens}_tokens") + embedded(tensors, embedder, values[tokens], file)
        for tokens, embedder, _ in CONDITIONS
    ]
    patches = variant.grid**2
    ours["class_tokens"] = take("class_tokens") + positions[:, :count]
    ours["condition"] = torch.cat(condition, 1) + positions[:, count:-patches]
    ours["positions"] = positions[:, -patches:].contiguous()
    ours["cosine"], ours["sine"] = rotation(variant)
    for index, theirs in enumerate(block_names(variant)):
        own = f"blocks.{index}"
        qkv = [take(f"{theirs}.attn.{name}_proj._flax_linear.weight") for name in "qkv"]
        ours[f"{own}.qkv.weight"] = torch.cat(qkv)
        mlp = {name: take(f"{theirs}.mlp.{name}._flax_linear.weight") for name in ("w1", "w2", "w3")}
        ours[f"{own}.gate_and_value.weight"] = torch.cat([mlp["w1"], mlp["w3"]])
        out = take(f"{theirs}.attn.out_proj._flax_linear.weight")
        ours[f"{own}.out.weight"] = out * take(f"{theirs}.attn_scale")[:, None]
        ours[f"{own}.down.weight"] = mlp["w2"] * take(f"{theirs}.mlp_scale")[:, None]
        ours[f"{own}.query_norm.weight"] = take(f"{theirs}.attn.q_norm.weight")
        ours[f"{own}.key_norm.weight"] = take(f"{theirs}.attn.k_norm.weight")
        for name in ("norm1", "norm2"):
            ours[f"{own}.{name}.weight"] = take(f"{theirs}.{name}.weight")
    ours["norm.weight"] = take("u_final_layer.norm.weight")
    for end in ("weight", "bias"):
        ours[f"exit.{end}"] = take(f"u_final_layer.linear._flax_linear.{end}")
    return ours, take(TABLE)[:CLASSES].contiguous()


def _entrance(weight: Tensor, bias: Tensor, variant: Variant, projected: bool, file: str) -> dict[str, Tensor]:
    """`map` `[C, inputs, k, k]` and `shift` `[C]` from the code, noise of unit variance, to the bottleneck."""
    if not projected:
        return {"map": variant.noise_std * weight, "shift": bias}
    rows = weight.flatten(1).double()
    factor, failed = torch.linalg.cholesky_ex(rows @ rows.T)
    if failed:
        raise WeightsError(f"{file}: the rows of x_embedder.proj1 depend on each other", fix="pass code='noise'")
    return {"map": (variant.noise_std * factor).float()[:, :, None, None], "shift": bias}


__all__ = ["CLASSES", "TABLE", "TRAINING", "prepare", "published_shapes", "used_for_sampling"]
