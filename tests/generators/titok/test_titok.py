"""TiTok tokenisers: equal to a reference built from PyTorch's own transformer layers, in the published layout."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from hub_server import Hub
from safetensors.torch import save
from torch import Tensor, nn

from gen_prior.applications.doctor import examine
from gen_prior.applications.dream import dream_through
from gen_prior.applications.encode import encode
from gen_prior.applications.publish import export
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import UnknownNameError, WeightsError
from gen_prior.generators import load_generator
from gen_prior.generators.code_statistics import calibrate
from gen_prior.generators.code_statistics import save as save_statistics
from gen_prior.generators.titok import network as layout
from gen_prior.optimise.synthesize import synthesize
from gen_prior.util.image_io import write_png

REPO = "yucornetto/tokenizer_titok_ll32_vae_c16_imagenet"
TINY = {"small": (8, 1, 2), "base": (12, 2, 2), "large": (16, 3, 4)}
CONFIG: dict[str, Any] = {
    "experiment": {"tokenizer_checkpoint": "titok_ll32_vae_c16.bin"},
    "model": {
        "vq_model": {
            "quantize_mode": "vae",
            "token_size": 5,
            "vit_enc_model_size": "base",
            "vit_dec_model_size": "large",
            "vit_enc_patch_size": 4,
            "vit_dec_patch_size": 8,
            "num_latent_tokens": 3,
            "finetune_decoder": False,
            "is_legacy": False,
        }
    },
    "dataset": {"preprocessing": {"crop_size": 16}},
}


@pytest.fixture(autouse=True)
def tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SIZES", TINY)


def random_state(config: dict[str, Any] = CONFIG) -> dict[str, Tensor]:
    """Random weights under the published names, written down from the published description of the layout."""
    model, side = config["model"]["vq_model"], config["dataset"]["preprocessing"]["crop_size"]
    count, numbers = model["num_latent_tokens"], model["token_size"]
    shapes: dict[str, tuple[int, ...]] = {}
    for half, key in (("encoder", "enc"), ("decoder", "dec")):
        width, layers, _ = TINY[model[f"vit_{key}_model_size"]]
        patch = model[f"vit_{key}_patch_size"]
        shapes |= {
            f"{half}.class_embedding": (1, width),
            f"{half}.positional_embedding": ((side // patch) ** 2 + 1, width),
            f"{half}.latent_token_positional_embedding": (count, width),
        }
        norms = ["ln_pre", "ln_post"]
        for layer in range(layers):
            base = f"transformer.{layer}"
            norms += [f"{base}.ln_1", f"{base}.ln_2"]
            for name, rows, columns in (
                ("attn.in_proj_", 3 * width, width),
                ("attn.out_proj.", width, width),
                ("mlp.c_fc.", 4 * width, width),
                ("mlp.c_proj.", width, 4 * width),
            ):
                shapes[f"{half}.{base}.{name}weight"], shapes[f"{half}.{base}.{name}bias"] = (rows, columns), (rows,)
        for norm in norms:
            shapes[f"{half}.{norm}.weight"] = shapes[f"{half}.{norm}.bias"] = (width,)
        if half == "encoder":
            shapes |= {"encoder.patch_embed.weight": (width, 3, patch, patch), "encoder.patch_embed.bias": (width,)}
            shapes |= {"encoder.conv_out.weight": (2 * numbers, width, 1, 1), "encoder.conv_out.bias": (2 * numbers,)}
            shapes["latent_tokens"] = (count, width)
        else:
            shapes |= {"decoder.decoder_embed.weight": (width, numbers), "decoder.decoder_embed.bias": (width,)}
            shapes |= {"decoder.mask_token": (1, 1, width)}
            shapes |= {"decoder.ffn.0.weight": (3 * patch**2, width, 1, 1), "decoder.ffn.0.bias": (3 * patch**2,)}
            shapes |= {"decoder.conv_out.weight": (3, 3, 3, 3), "decoder.conv_out.bias": (3,)}
    source = torch.Generator().manual_seed(0)
    return {key: 0.3 * torch.randn(shape, generator=source) for key, shape in shapes.items()}


def blocks(state: dict[str, Tensor], half: str, sizes: tuple[int, int, int]) -> nn.Module:
    """PyTorch's encoder layers with the weights of `half`."""
    width, layers, heads = sizes
    names = {"self_attn.": "attn.", "linear1.": "mlp.c_fc.", "linear2.": "mlp.c_proj.", "norm1.": "ln_1."}
    names["norm2."] = "ln_2."
    layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    made = nn.ModuleList(copy.deepcopy(layer) for _ in range(layers))
    for index, block in enumerate(made):
        weights = {}
        for own in block.state_dict():
            theirs = next(own.replace(a, b) for a, b in names.items() if own.startswith(a))
            weights[own] = state[f"{half}.transformer.{index}.{theirs}"]
        block.load_state_dict(weights)
    return nn.Sequential(*made).train()  # in training mode PyTorch takes no fused path


def norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return nn.functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def sequence(state: dict[str, Tensor], half: str, size: str, patches: Tensor, latents: Tensor) -> Tensor:
    first = state[f"{half}.class_embedding"][None].expand(len(patches), -1, -1)
    grid = torch.cat([first, patches], 1) + state[f"{half}.positional_embedding"]
    latents = latents + state[f"{half}.latent_token_positional_embedding"]
    tokens = norm(state, f"{half}.ln_pre", torch.cat([grid, latents], 1))
    return norm(state, f"{half}.ln_post", blocks(state, half, TINY[size])(tokens))


def reference_decode(state: dict[str, Tensor], code: Tensor) -> Tensor:
    latents = code[:, :, 0].transpose(1, 2) @ state["decoder.decoder_embed.weight"].T
    masks = state["decoder.mask_token"].expand(len(code), 4, -1)
    tokens = sequence(state, "decoder", "large", masks, latents + state["decoder.decoder_embed.bias"])[:, 1:5]
    image = torch.zeros(len(code), 3, 16, 16)
    weight, bias = state["decoder.ffn.0.weight"][:, :, 0, 0], state["decoder.ffn.0.bias"]
    for place in range(4):  # each patch is stored row by row, with the three colours of a pixel together
        patch = (tokens[:, place] @ weight.T + bias).view(-1, 8, 8, 3)
        row, column = 8 * (place // 2), 8 * (place % 2)
        image[:, :, row : row + 8, column : column + 8] = patch.permute(0, 3, 1, 2)
    return nn.functional.conv2d(image, state["decoder.conv_out.weight"], state["decoder.conv_out.bias"], padding=1)


def reference_encode(state: dict[str, Tensor], images: Tensor) -> Tensor:
    weight = state["encoder.patch_embed.weight"].flatten(1)
    patches = nn.functional.unfold(images, 4, stride=4).transpose(1, 2) @ weight.T + state["encoder.patch_embed.bias"]
    latents = sequence(state, "encoder", "base", patches, state["latent_tokens"].expand(len(images), -1, -1))[:, 17:]
    out = latents @ state["encoder.conv_out.weight"][:, :, 0, 0].T + state["encoder.conv_out.bias"]
    return out.transpose(1, 2)[:, :5, None]  # the mean; the other half is the log variance


def publish(hub: Hub, state: dict[str, Tensor], config: dict[str, Any] = CONFIG) -> str:
    return hub.publish(REPO, {"config.json": json.dumps(config).encode(), "model.safetensors": save(state)})


@torch.no_grad()
def test_equal_to_the_reference_both_ways(hub: Hub) -> None:
    state = random_state()
    commit = publish(hub, state)
    generator = load_generator("titok:ll32", device="cpu")
    assert generator.code_shape == (5, 1, 3)
    assert generator.provenance.revision == commit
    assert "research" in str(generator.provenance.licence)
    codes = torch.randn(2, 5, 1, 3, generator=torch.Generator().manual_seed(1))
    expected = reference_decode(state, codes)
    assert expected.std() > 0.1
    torch.testing.assert_close(generator.module(codes), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(generator(codes), expected.clamp(0, 1), atol=1e-5, rtol=0)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(generator.encode(images), reference_encode(state, images), atol=1e-5, rtol=0)
    assert generator.encode(torch.rand(1, 3, 20, 30)).shape == (1, 5, 1, 3)


def test_calibrated_and_exported(hub: Hub, tmp_path: Any) -> None:
    publish(hub, random_state())
    for seed in range(3):
        image = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(seed))
        write_png(tmp_path / "photographs" / f"{seed}.png", image)
    generator = load_generator("titok:ll32", device="cpu")
    assert generator.notes["code prior"] == "standard normal, assumed"
    save_statistics(calibrate(generator, [tmp_path / "photographs"]), generator)
    measured = load_generator("titok:ll32", device="cpu")
    assert measured.notes["code prior"] == "measured on 3 images"
    assert examine("titok:ll32", tmp_path / "doctor", device="cpu")["ok"]
    export("titok:ll32", tmp_path / "exported", samples=1)
    exported = load_generator(f"local-dir:{tmp_path / 'exported'}", device="cpu")
    assert torch.equal(exported.initial_code(0), measured.initial_code(0))
    assert not torch.equal(exported.initial_code(0), generator.initial_code(0))


def test_a_photograph_is_where_a_synthesis_and_a_dream_start(hub: Hub, tiny_classifier: Classifier) -> None:
    publish(hub, random_state())
    generator = load_generator("titok:ll32", device="cpu")
    photograph = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(4))
    code = encode(generator, photograph)
    result = synthesize(tiny_classifier, "bee", generator, start=code, steps=1)
    with torch.no_grad():
        shown = tiny_classifier(generator(code[None]))[0, 1]
    torch.testing.assert_close(result.start_activations[0, 0], shown)
    dreamt = dream_through(tiny_classifier, generator, code, target="bee", strength=0.2, steps=2)
    moved = dreamt.codes[0, 0] - code
    assert 0 < moved.square().mean().sqrt() < 0.201


def test_half_precision_is_read(hub: Hub) -> None:
    publish(hub, {key: value.half() for key, value in random_state().items()})
    assert load_generator("titok:ll32", device="cpu").image_shape() == (16, 16)


def without(state: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: without(state, "latent_tokens"), "lacks latent_tokens"),
        (lambda state: state | {"quantize.embedding.weight": torch.zeros(2, 2)}, "has unexpected quantize"),
        (lambda state: state | {"decoder.transformer.3.ln_1.weight": torch.zeros(16)}, r"unexpected .*transformer\.3"),
        (lambda state: state | {"latent_tokens": torch.zeros(4, 12)}, r"latent_tokens \[4, 12\] where \[3, 12\]"),
        (lambda state: state | {"latent_tokens": torch.full((3, 12), torch.nan)}, "not finite"),
    ],
)
def test_weights_of_another_layout_are_refused(hub: Hub, change: Any, message: str) -> None:
    publish(hub, change(random_state()))
    with pytest.raises(WeightsError, match=message) as raised:
        load_generator("titok:ll32", device="cpu")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantize_mode": "vq"}, "discrete"),
        ({"is_legacy": True}, "discrete"),
        ({"vit_dec_patch_size": 5}, "patch size"),
        ({"vit_dec_model_size": "giant"}, "not a TiTok configuration"),
    ],
)
def test_other_configurations_are_refused(hub: Hub, change: dict[str, Any], message: str) -> None:
    config = copy.deepcopy(CONFIG)
    config["model"]["vq_model"] |= change
    publish(hub, random_state(), config)
    with pytest.raises(WeightsError, match=message):
        load_generator("titok:ll32", device="cpu")
    with pytest.raises(UnknownNameError, match="ll32"):
        load_generator("titok:l32", device="cpu")


def test_published_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three published configurations. No counts are published: two ViT-L, or a ViT-B and a ViT-L (86 M, 304 M)."""
    monkeypatch.undo()
    for encoder, count, millions in (("large", 32, 607), ("base", 64, 389), ("base", 128, 390)):
        config = copy.deepcopy(CONFIG)
        config["model"]["vq_model"] |= {
            "vit_enc_model_size": encoder,
            "num_latent_tokens": count,
            "token_size": 16,
            "vit_enc_patch_size": 16,
            "vit_dec_patch_size": 16,
        }
        config["dataset"]["preprocessing"]["crop_size"] = 256
        with torch.device("meta"):
            network = layout.TiTok(layout.read_config(config, "x"))
            assert network(torch.empty(1, 16, 1, count)).shape == (1, 3, 256, 256)
            assert network.encode(torch.empty(1, 3, 256, 256)).shape == (1, 16, 1, count)
        assert round(sum(value.numel() for value in network.parameters()) / 1e6) == millions
