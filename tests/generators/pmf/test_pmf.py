"""Pixel mean flows: equal to a reference written from the paper and the published layout, on random weights."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import pickled
from hub_server import Hub
from torch import Tensor
from torch.nn import functional as F

from gen_prior.applications.doctor import examine
from gen_prior.applications.publish import export
from gen_prior.errors import GenPriorError, OptionError, UnknownNameError, WeightsError
from gen_prior.generators import load_described, load_generator
from gen_prior.generators.pmf.format import published_shapes
from gen_prior.generators.pmf.network import VARIANTS, PixelFlow, Variant

REPO = "Lyy0725/pMF"
TINY = Variant(8, 4, 16, 2, 2, 2.0, 3.0, (0.2, 0.7), head=1, bottleneck=6)
PREFIX = 20
LINEAR = "_flax_linear.weight"


def random_state(sizes: Variant = TINY) -> dict[str, Tensor]:
    """Random weights under the published names: a module `net`, wrapped linear layers, the table of rotations."""
    width, patch, heads = sizes.width, sizes.patch, sizes.heads
    tokens = {"class": 8, "omega": 4, "t_min": 2, "t_max": 2, "time": 4}
    shapes: dict[str, tuple[int, ...]] = {f"{name}_tokens": (1, count, width) for name, count in tokens.items()}
    shapes |= {
        "x_embedder.proj1.weight": (sizes.bottleneck, 3, patch, patch),
        "x_embedder.proj1.bias": (sizes.bottleneck,),
        "x_embedder.proj2.weight": (width, sizes.bottleneck, 1, 1),
        "x_embedder.proj2.bias": (width,),
        "y_embedder.embedding_table._flax_embedding.weight": (1001, width),
        "pos_embed": (1, PREFIX + 4, width),
        "u_final_layer.norm.weight": (width,),
        f"u_final_layer.linear.{LINEAR}": (3 * patch**2, width),
        "u_final_layer.linear._flax_linear.bias": (3 * patch**2,),
    }
    for embedder in ("h", "omega", "cfg_t_start", "cfg_t_end"):
        for layer, inputs in (("0", 256), ("2", width)):
            shapes[f"{embedder}_embedder.mlp.{layer}.{LINEAR}"] = (width, inputs)
            shapes[f"{embedder}_embedder.mlp.{layer}._flax_linear.bias"] = (width,)
    for block in ("shared_blocks.0", "shared_blocks.1", "u_heads.0"):
        shapes |= {f"{block}.{name}": (width,) for name in ("norm1.weight", "norm2.weight", "attn_scale", "mlp_scale")}
        shapes |= {f"{block}.attn.{name}_norm.weight": (width // heads,) for name in "qk"}
        shapes |= {f"{block}.attn.{name}_proj.{LINEAR}": (width, width) for name in ("q", "k", "v", "out")}
        hidden = int(width * 8 / 3)
        shapes |= {f"{block}.mlp.{name}.{LINEAR}": (hidden, width) for name in ("w1", "w3")}
        shapes[f"{block}.mlp.w2.{LINEAR}"] = (width, hidden)
    source = torch.Generator().manual_seed(0)
    state = {f"net.{key}": 0.3 * torch.randn(shape, generator=source) for key, shape in shapes.items()}
    return state | {"net.rope_freqs": turns(sizes)}


def turns(sizes: Variant) -> Tensor:
    """Complex rotations `[P, D / 2]`, rows before columns, as the checkpoint keeps them."""
    size = sizes.width // sizes.heads // 2
    rates = [10_000 ** (-2 * k / size) for k in range(size // 2)]
    places = [(row, column) for row in range(sizes.side // sizes.patch) for column in range(sizes.side // sizes.patch)]
    angles = torch.tensor([[p * rate for p in place for rate in rates] for place in places])
    return torch.polar(torch.ones_like(angles), angles)


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def scalar(state: dict[str, Tensor], embedder: str, value: float) -> Tensor:
    angles = torch.tensor([value * math.exp(-math.log(10_000) * k / 128) for k in range(128)])
    x = torch.cat([angles.cos(), angles.sin()])
    for layer in ("0", "2"):
        base = f"net.{embedder}_embedder.mlp.{layer}._flax_linear"
        x = state[f"{base}.weight"] @ (F.silu(x) if layer == "2" else x) + state[f"{base}.bias"]
    return x


def attention(state: dict[str, Tensor], block: str, x: Tensor, sizes: Variant) -> Tensor:
    parts = {}
    for name in "qkv":
        parts[name] = (x @ state[f"{block}.attn.{name}_proj.{LINEAR}"].T).unflatten(2, (sizes.heads, -1))
    for name in "qk":
        normed = rms(parts[name], state[f"{block}.attn.{name}_norm.weight"])
        pairs = torch.view_as_complex(normed.unflatten(3, (-1, 2)).contiguous())
        turned = torch.cat([pairs[:, :PREFIX], pairs[:, PREFIX:] * state["net.rope_freqs"][:, None]], 1)
        parts[name] = torch.view_as_real(turned).flatten(3)
    weights = torch.einsum("bqhd,bkhd->bhqk", parts["q"], parts["k"]) / math.sqrt(sizes.width // sizes.heads)
    mixed = torch.einsum("bhqk,bkhd->bqhd", weights.softmax(3), parts["v"]).flatten(2)
    return mixed @ state[f"{block}.attn.out_proj.{LINEAR}"].T


def reference(
    state: dict[str, Tensor], sizes: Variant, noise: Tensor, label: int, guidance: tuple[float, ...]
) -> Tensor:
    """The image drawn from noise of unit variance: at t = 1, the network's prediction of x is the sample."""
    omega, start, end = guidance
    patches = F.conv2d(
        sizes.noise_std * noise, state["net.x_embedder.proj1.weight"], state["net.x_embedder.proj1.bias"], sizes.patch
    )
    patches = F.conv2d(patches, state["net.x_embedder.proj2.weight"], state["net.x_embedder.proj2.bias"])
    groups = [
        state["net.class_tokens"] + state["net.y_embedder.embedding_table._flax_embedding.weight"][label],
        state["net.omega_tokens"] + scalar(state, "omega", 1 - 1 / omega),
        state["net.t_min_tokens"] + scalar(state, "cfg_t_start", start),
        state["net.t_max_tokens"] + scalar(state, "cfg_t_end", end),
        state["net.time_tokens"] + scalar(state, "h", 1.0),
    ]
    prefix = torch.cat(groups, 1).expand(len(noise), -1, -1)
    x = torch.cat([prefix, patches.flatten(2).transpose(1, 2)], 1) + state["net.pos_embed"]
    for block in ("net.shared_blocks.0", "net.shared_blocks.1", "net.u_heads.0"):
        normed = rms(x, state[f"{block}.norm1.weight"])
        x = x + attention(state, block, normed, sizes) * state[f"{block}.attn_scale"]
        normed = rms(x, state[f"{block}.norm2.weight"])
        gate, value = (normed @ state[f"{block}.mlp.{name}.{LINEAR}"].T for name in ("w1", "w3"))
        x = x + (F.silu(gate) * value) @ state[f"{block}.mlp.w2.{LINEAR}"].T * state[f"{block}.mlp_scale"]
    x = rms(x[:, PREFIX:], state["net.u_final_layer.norm.weight"])
    linear = "net.u_final_layer.linear._flax_linear"
    values = x @ state[f"{linear}.weight"].T + state[f"{linear}.bias"]
    grid = sizes.side // sizes.patch
    values = values.view(-1, grid, grid, sizes.patch, sizes.patch, 3)
    return torch.einsum("nhwpqc->nchpwq", values).reshape(noise.shape)


@pytest.fixture
def published(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    """Publishes a state dict, or bytes, in place of pMF-B/16, and returns the commit."""
    monkeypatch.setitem(VARIANTS, "B-16", TINY)
    return lambda state: hub.publish(REPO, {"pMF-B-16.pt": state if isinstance(state, bytes) else pickled(state)})


def whitened(weight: Tensor, noise: Tensor) -> Tensor:
    """The code `[B, C, G, G]` of noise images `[B, 3, S, S]` of unit variance: its projection, made standard normal."""
    rows = weight.flatten(1).double()
    factor = torch.linalg.cholesky(rows @ rows.T)
    projected = F.conv2d(noise.double(), weight.double(), stride=weight.shape[-1])
    return torch.linalg.solve_triangular(factor, projected.flatten(2), upper=False).view_as(projected).to(noise.dtype)


@torch.no_grad()
def test_equal_to_the_reference(published: Any) -> None:
    state = random_state()
    commit = published(state)
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for options, guidance in (({}, (3.0, 0.2, 0.7)), ({"guidance": 5, "interval": (0, 1)}, (5.0, 0.0, 1.0))):
        expected = reference(state, TINY, noise, 7, guidance)
        assert expected.std() > 0.1
        held = {"class_label": 7, "optimise": "noise"} | options
        direct = load_generator("pmf:B-16", device="cpu", code="noise", **held)
        assert direct.provenance.revision == commit
        torch.testing.assert_close(direct.module(noise.flatten(1)), expected, atol=1e-5, rtol=1e-5)
        projected = load_generator("pmf:B-16", device="cpu", **held)
        code = whitened(state["net.x_embedder.proj1.weight"], noise).flatten(1)
        assert projected.code_shape == (6 * 2 * 2,)
        torch.testing.assert_close(projected.module(code), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(projected(code), (expected / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)


def test_projected_noise_is_standard_normal(published: Any) -> None:
    noise = torch.randn(2000, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    codes = whitened(random_state()["net.x_embedder.proj1.weight"], noise).permute(0, 2, 3, 1).reshape(-1, 6)
    torch.testing.assert_close(torch.cov(codes.T), torch.eye(6), atol=0.06, rtol=0)


@torch.no_grad()
def test_the_class_is_fixed_optimised_or_free(published: Any) -> None:
    state = random_state()
    published(state)
    both = load_generator("pmf:B-16", device="cpu", class_label=7)
    fixed = load_generator("pmf:B-16", device="cpu", class_label=7, optimise="noise")
    start = both.initial_code(0)
    assert both.code_shape == (24 + 16,)
    torch.testing.assert_close(both(start[None]), fixed(start[None, :24]))
    assert load_generator("pmf:B-16", device="cpu", optimise="class").code_shape == (16,)
    described = json.loads(json.dumps(both.describe()))
    assert load_described(described, device="cpu").describe() == both.describe()
    assert "not stated" in described["licence"]


def test_exported(published: Any, tmp_path: Path) -> None:
    published(random_state())
    assert examine("pmf:B-16", tmp_path / "doctor", device="cpu")["ok"]
    export("pmf:B-16", tmp_path / "out", samples=1)
    ours, theirs = (
        load_generator(f"local-dir:{tmp_path / 'out'}", device="cpu"),
        load_generator("pmf:B-16", device="cpu"),
    )
    assert torch.equal(ours(ours.initial_code(0)[None]), theirs(theirs.initial_code(0)[None]))


def test_half_precision_training_heads_and_bare_names(published: Any) -> None:
    state = random_state() | {"net.v_heads.0.attn_scale": torch.zeros(16)}
    published({key.removeprefix("net."): value.half() for key, value in state.items() if not value.is_complex()})
    assert load_generator("pmf:B-16", device="cpu").image_shape() == (8, 8)


def jax_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("pMF-B-16/checkpoint_0", b"msgpack")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {key: s[key] for key in s if key != "net.pos_embed"}, "lacks pos_embed"),
        (lambda s: s | {"net.u_heads.1.attn_scale": torch.zeros(16)}, r"unexpected u_heads\.1\.attn_scale"),
        (lambda s: s | {"net.pos_embed": torch.zeros(1, 23, 16)}, r"pos_embed \[1, 23, 16\] where \[1, 24, 16\]"),
        (lambda s: s | {"net.x_embedder.proj1.weight": torch.ones(6, 3, 4, 4)}, r"depend on each other.*code='noise'"),
        (lambda s: s | {"pos_embed": s["net.pos_embed"]}, "twice"),
        (lambda s: jax_archive(), "a zip archive that PyTorch did not write"),
    ],
)
def test_another_layout_is_refused_in_one_line(published: Any, change: Any, message: str) -> None:
    published(change(random_state()))
    with pytest.raises(WeightsError, match=message) as raised:
        load_generator("pmf:B-16", device="cpu")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("pmf:B", {}, UnknownNameError, "B-16"),
        ("pmf:B-16", {"code": "pixels"}, OptionError, "projection, noise"),
        ("pmf:B-16", {"guidance": 0.5}, OptionError, "at least 1"),
        ("pmf:B-16", {"interval": (0.7, 0.2)}, OptionError, "start <= end"),
        ("pmf:B-16", {"interval": 0.2}, OptionError, "start <= end"),
    ],
)
def test_options_are_checked(
    published: Any, name: str, options: dict[str, Any], kind: type[GenPriorError], message: str
) -> None:
    published(random_state())
    with pytest.raises(kind, match=message):
        load_generator(name, device="cpu", **options)


PUBLISHED = {"B-16": 118, "L-16": 410, "H-16": 956, "B-32": 120, "L-32": 413, "H-32": 959}
"""Millions of parameters in the tables of results at 256 and 512 px (arXiv 2601.22158)."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_published_sizes(variant: str) -> None:
    sizes = VARIANTS[variant]
    for projected, shape in ((True, (sizes.bottleneck, 16, 16)), (False, (3, sizes.side, sizes.side))):
        with torch.device("meta"):
            network = PixelFlow(sizes, projected)
            drawn = network(torch.empty(1, *shape), torch.empty(1, sizes.width))
        assert drawn.shape == (1, 3, sizes.side, sizes.side)
    count = sum(math.prod(shape) for shape in published_shapes(sizes).values())
    assert abs(count / 1e6 - PUBLISHED[variant]) < 1, count
