"""Adversarial flow models: equal to diffusers' DiT on random weights in the published layout, decoded by diffusers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from checkpoints import pickled, saved_folder
from hub_server import Hub
from torch import Tensor

from gen_prior.applications.doctor import examine
from gen_prior.applications.publish import export
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import GenPriorError, OptionError, UnknownNameError, WeightsError
from gen_prior.generators import load_described, load_generator
from gen_prior.generators.afm.network import VARIANTS, FlowTransformer, Variant
from gen_prior.hub import registry
from gen_prior.optimise.synthesize import synthesize

library: Any = diffusers  # its constructors are not typed
REPO = "ByteDance-Seed/Adversarial-Flow-Models"
TINY = {"B": Variant(2, 16, 2, side=8), "XL-56": Variant(2, 16, 2, repeats=2, side=8)}
NOISE, WIDTH = 4 * 8 * 8, 16


def random_state(sizes: Variant) -> dict[str, Tensor]:
    """Random weights under the names of DiT's published state dict."""
    width, patch = sizes.width, sizes.patch
    linear = {"final_layer.linear": (patch**2 * 4, width), "final_layer.adaLN_modulation.1": (2 * width, width)}
    for layer in range(sizes.layers):
        for name, rows, columns in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
            ("adaLN_modulation.1", 6 * width, width),
        ):
            linear[f"blocks.{layer}.{name}"] = (rows, columns)
    if sizes.repeats > 1:
        linear |= {"t_embedder.mlp.0": (width, 256), "t_embedder.mlp.2": (width, width)}
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in linear.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    shapes |= {"x_embedder.proj.weight": (width, 4, patch, patch), "x_embedder.proj.bias": (width,)}
    shapes |= {"pos_embed": (1, (sizes.side // patch) ** 2, width), "y_embedder.embedding_table.weight": (1000, width)}
    source = torch.Generator().manual_seed(0)
    return {key: 0.3 * torch.randn(shape, generator=source) for key, shape in shapes.items()}


def reference(state: dict[str, Tensor], sizes: Variant, noise: Tensor, label: int) -> Tensor:
    """The latent by the layers of diffusers' DiTTransformer2DModel, in the order that the paper describes."""
    network = library.DiTTransformer2DModel(
        num_attention_heads=sizes.heads,
        attention_head_dim=sizes.width // sizes.heads,
        out_channels=4,
        num_layers=sizes.layers,
        sample_size=sizes.side,
        patch_size=sizes.patch,
    ).eval()
    own = dict(network.state_dict())
    own |= {
        "pos_embed.proj.weight": state["x_embedder.proj.weight"],
        "pos_embed.proj.bias": state["x_embedder.proj.bias"],
    }
    for end in ("weight", "bias"):
        own[f"proj_out_1.{end}"] = state[f"final_layer.adaLN_modulation.1.{end}"]
        own[f"proj_out_2.{end}"] = state[f"final_layer.linear.{end}"]
    table = torch.cat([state["y_embedder.embedding_table.weight"], torch.zeros(1, sizes.width)])
    for layer in range(sizes.layers):
        base, theirs = f"transformer_blocks.{layer}", f"blocks.{layer}"
        own[f"{base}.norm1.emb.class_embedder.embedding_table.weight"] = table
        for end in ("weight", "bias"):
            for first, name in (("linear_1", "0"), ("linear_2", "2")):
                key = f"{base}.norm1.emb.timestep_embedder.{first}.{end}"
                own[key] = state.get(f"t_embedder.mlp.{name}.{end}", torch.zeros_like(own[key]))
            parts = state[f"{theirs}.attn.qkv.{end}"].chunk(3)
            own |= {f"{base}.attn1.to_{name}.{end}": part for name, part in zip("qkv", parts, strict=True)}
            own[f"{base}.attn1.to_out.0.{end}"] = state[f"{theirs}.attn.proj.{end}"]
            own[f"{base}.ff.net.0.proj.{end}"] = state[f"{theirs}.mlp.fc1.{end}"]
            own[f"{base}.ff.net.2.{end}"] = state[f"{theirs}.mlp.fc2.{end}"]
            own[f"{base}.norm1.linear.{end}"] = state[f"{theirs}.adaLN_modulation.1.{end}"]
    network.load_state_dict(own)
    network.pos_embed.pos_embed = state["pos_embed"]
    for block in network.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0  # DiT's own frequencies; diffusers' differ slightly
    x, labels = network.pos_embed(noise), torch.full((len(noise),), label)
    for turn in range(sizes.repeats):
        times = torch.full((len(noise),), 1000 * (1 - turn / sizes.repeats))
        for block in network.transformer_blocks:
            x = block(x, timestep=times, class_labels=labels)
    shift, scale = network.proj_out_1(torch.nn.functional.silu(table[labels])).chunk(2, 1)
    x = network.proj_out_2(network.norm_out(x) * (1 + scale[:, None]) + shift[:, None])
    grid = sizes.side // sizes.patch
    x = x.view(-1, grid, grid, sizes.patch, sizes.patch, 4)
    latent: Tensor = torch.einsum("nhwpqc->nchpwq", x).reshape(noise.shape)
    return latent


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, dict[str, bytes | Path]]]:
    """Tiny autoencoders of factor 8 in diffusers' own layout."""
    torch.manual_seed(3)
    four = (8, 8, 8, 8)
    ones = (1, 1, 1, 1)
    tiny = library.AutoencoderTiny(
        encoder_block_out_channels=four,
        decoder_block_out_channels=four,
        num_encoder_blocks=ones,
        num_decoder_blocks=ones,
    )
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    kl = library.AutoencoderKL(block_out_channels=four, norm_num_groups=4, **kinds)
    made = {"madebyollin/taesd": tiny, "stabilityai/sd-vae-ft-mse": kl}
    return {name: (net.eval(), saved_folder(net, tmp_path_factory.mktemp("x"))) for name, net in made.items()}


@pytest.fixture
def published(hub: Hub, decoders: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`published("B", state)` publishes both decoders and that state dict under its name, and returns the commit."""
    for name, sizes in TINY.items():
        monkeypatch.setitem(VARIANTS, name, sizes)
    for repo, (_, files) in decoders.items():
        hub.publish(repo, files)

    def publish(variant: str, state: Any, folder: str = "afm/models") -> str:
        data = state if isinstance(state, bytes) else pickled(state)
        file = registry.find(f"afm:{variant}").files[0].rpartition("/")[2]
        return hub.publish(REPO, {f"{folder}/{file}": data})

    return publish


@pytest.mark.parametrize("variant", TINY)
@torch.no_grad()
def test_equal_to_the_reference(published: Any, decoders: Any, variant: str) -> None:
    state = random_state(TINY[variant])
    commit = published(variant, state)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    latent = reference(state, TINY[variant], noise, 7)
    assert latent.std() > 0.1
    generator = load_generator(f"afm:{variant}", device="cpu", class_label=7, optimise="noise")
    assert generator.code_shape == (NOISE,)
    assert generator.provenance.revision == commit
    module: Any = generator.module
    torch.testing.assert_close(module[0](noise.flatten(1)), latent, atol=1e-5, rtol=1e-5)
    tiny, kl = (network for network, _ in decoders.values())
    fast, full = tiny.decode(latent).sample, kl.decode(latent / 0.18215).sample
    torch.testing.assert_close(generator(noise.flatten(1)), (fast / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        generator.final_images(noise.flatten(1)), (full / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0
    )
    slow = load_generator(f"afm:{variant}", device="cpu", class_label=7, optimise="noise", decoder="full")
    assert torch.equal(slow(noise.flatten(1)), generator.final_images(noise.flatten(1)))


@torch.no_grad()
def test_the_class_is_fixed_optimised_or_free(published: Any) -> None:
    state = random_state(TINY["B"])
    published("B", state)
    fixed = load_generator("afm:B", device="cpu", class_label=7, optimise="noise")
    both = load_generator("afm:B", device="cpu", class_label="7")
    free = load_generator("afm:B", device="cpu")
    by_class = load_generator("afm:B", device="cpu", optimise="class", noise_seed=5, class_label=7)
    assert both.code_shape == free.code_shape == (NOISE + WIDTH,)
    assert by_class.code_shape == (WIDTH,)
    start = both.initial_code(5)
    torch.testing.assert_close(both(start[None]), fixed(start[None, :NOISE]))
    torch.testing.assert_close(by_class(by_class.initial_code(0)[None]), both(start[None]))
    table = state["y_embedder.embedding_table.weight"]
    module: Any = both.module
    torch.testing.assert_close(module[0].mean + module[0].std * start[NOISE:], table[7])
    near = free.initial_code(0)[NOISE:]
    assert 0 < near.std() < 0.3
    low, high = both.prior.minimum, both.prior.maximum
    assert isinstance(low, Tensor)
    assert isinstance(high, Tensor)
    assert low[:NOISE].isinf().all()
    assert torch.isfinite(high[NOISE:]).all()
    assert (start[NOISE:] >= low[NOISE:]).all()
    assert (start[NOISE:] <= high[NOISE:]).all()


def test_results_are_drawn_with_the_full_decoder(published: Any, tiny_classifier: Classifier) -> None:
    published("B", random_state(TINY["B"]))
    generator = load_generator("afm:B", device="cpu")
    result = synthesize(tiny_classifier, "bee", generator, steps=3)
    code = result.codes[0]
    with torch.no_grad():
        torch.testing.assert_close(result.images[0], generator.final_images(code))
        assert (result.images[0] - generator(code)).abs().max() > 0.01
        shown = tiny_classifier(result.images[0])[0, 1]
    torch.testing.assert_close(result.activations[0, 0], shown)
    again = load_described(json.loads(json.dumps(generator.describe())), device="cpu")
    assert again.describe() == generator.describe()
    assert "madebyollin/taesd@" in str(generator.options["taesd"])


def test_exported(published: Any, tmp_path: Path) -> None:
    published("XL-56", random_state(TINY["XL-56"]), "models")  # the model card's folder, where the code names the other
    assert examine("afm:XL-56", tmp_path / "doctor", device="cpu")["ok"]
    export("afm:XL-56", tmp_path / "out", samples=1)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "config.json", "README.md"} <= files
    ours, theirs = (
        load_generator(f"local-dir:{tmp_path / 'out'}", device="cpu"),
        load_generator("afm:XL-56", device="cpu"),
    )
    assert torch.equal(ours(ours.initial_code(0)[None]), theirs(theirs.initial_code(0)[None]))


def test_a_decoder_that_fails_leaves_the_transformer_in_the_cache(published: Any, hub: Hub, tmp_path: Path) -> None:
    published("B", random_state(TINY["B"]))
    with pytest.raises(GenPriorError, match="no repository a/none"):
        load_generator("afm:B", device="cpu", taesd="a/none")
    seen = sum(count for request, count in hub.requests.items() if "b2_1nfe" in request and "GET" in request)
    load_generator("afm:B", device="cpu")
    assert seen == sum(count for request, count in hub.requests.items() if "b2_1nfe" in request and "GET" in request)


def test_half_precision_and_nesting(published: Any) -> None:
    state = random_state(TINY["B"])
    published("B", {"model": {key: value.half() for key, value in state.items()}})
    assert load_generator("afm:B", device="cpu").image_shape() == (64, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {key: state[key] for key in state if key != "pos_embed"}, "lacks pos_embed"),
        (lambda state: state | {"t_embedder.mlp.0.bias": torch.zeros(16)}, r"unexpected t_embedder\.mlp\.0\.bias"),
        (lambda state: state | {"blocks.2.attn.qkv.bias": torch.zeros(48)}, r"unexpected blocks\.2"),
        (lambda state: state | {"pos_embed": torch.zeros(1, 9, 16)}, r"pos_embed \[1, 9, 16\] where \[1, 16, 16\]"),
        (lambda state: b"PK\x03\x04 an archive of arrays", "not a pickled dictionary"),
    ],
)
def test_another_layout_is_refused_in_one_line(published: Any, change: Any, message: str) -> None:
    published("B", change(random_state(TINY["B"])))
    with pytest.raises(WeightsError, match=message) as raised:
        load_generator("afm:B", device="cpu")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("afm:S", {}, UnknownNameError, "XL-112"),
        ("afm:B", {"decoder": "slow"}, OptionError, "redraw, fast, full"),
        ("afm:B", {"optimise": "noise"}, OptionError, "class_label"),
        ("afm:B", {"class_label": 1000}, OptionError, "0 to 999"),
    ],
)
def test_options_are_checked(name: str, options: dict[str, Any], kind: type[GenPriorError], message: str) -> None:
    with pytest.raises(kind, match=message):
        load_generator(name, device="cpu", **options)


PUBLISHED = {"B": 130, "M": 306, "L": 457, "XL": 673, "XL-56": 675, "XL-112": 675}
"""Millions of parameters in the paper's table of results."""


@pytest.mark.parametrize("variant", PUBLISHED)
def test_published_sizes(variant: str) -> None:
    sizes = VARIANTS[variant]
    with torch.device("meta"):
        network = FlowTransformer(sizes)
        assert network(torch.empty(1, 4, 32, 32), torch.empty(1, sizes.width)).shape == (1, 4, 32, 32)
    count = sum(value.numel() for value in network.parameters()) + 1000 * sizes.width
    assert abs(count / 1e6 - PUBLISHED[variant]) < 1, math.floor(count / 1e4)
