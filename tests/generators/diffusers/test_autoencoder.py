"""Autoencoders of diffusers: equal to diffusers' own decode on random weights of each class's own config."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import dc, library, rae, with_old_attention_names
from hub_server import Hub
from torch import Tensor

import gen_prior
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import MissingExtraError, OptionError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.generators.diffusers import autoencoder as diffusers_family
from gen_prior.hub.files import Files
from gen_prior.hub.tensors import save_safetensors

BUILD: dict[str, Callable[[], Any]] = {
    "tiny": lambda: library.AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=16,
        scaling_factor=1.3,
        shift_factor=0.1,
    ),
    "kl": lambda: library.AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        shift_factor=0.2,
    ),
    "vq": lambda: library.VQModel(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        num_vq_embeddings=32,
    ),
    "dc": dc,
    "rae": lambda: rae(latents_mean=torch.randn(64, 4, 4).tolist(), latents_std=(torch.rand(64, 4, 4) + 0.5).tolist()),
}
SHAPES = {"tiny": (16, 8, 8), "kl": (4, 16, 16), "vq": (3, 16, 16), "dc": (8, 16, 16), "rae": (64, 4, 4)}


def own_decode(kind: str, network: Any, codes: Tensor) -> Tensor:
    """What a user of diffusers would write, per class; images in [0, 1]."""
    if kind == "rae":
        image = network.decode(codes).sample
    elif kind in ("tiny", "kl"):
        image = network.decode(codes / network.config.scaling_factor + network.config.shift_factor).sample / 2 + 0.5
    else:
        image = network.decode(codes / network.config.scaling_factor).sample / 2 + 0.5
    clamped: Tensor = image.clamp(0, 1)
    return clamped


@pytest.fixture(scope="module", params=BUILD)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(kind: str) -> Any:
    torch.manual_seed(10)
    return BUILD[kind]().eval()


@pytest.fixture(scope="module")
def folder(kind: str, network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout that diffusers itself writes."""
    path = tmp_path_factory.mktemp(kind)
    network.save_pretrained(path)
    return path


def load(folder: Path, **options: Any) -> Generator:
    return diffusers_family.from_files(Files.from_folder(folder), name="x", **options)


@torch.no_grad()
def test_equal_to_its_own_decode(kind: str, network: Any, folder: Path) -> None:
    generator = load(folder, **({} if kind == "rae" else {"image_size": 64}))
    codes = torch.randn(2, *SHAPES[kind], generator=torch.Generator().manual_seed(11))
    expected = own_decode(kind, network, codes)
    assert generator.code_shape == SHAPES[kind]
    assert generator.image_shape() == (64, 64)
    assert expected.std() > 0.01
    torch.testing.assert_close(generator(codes), expected, atol=1e-6, rtol=0)


def test_loading_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(folder)
    assert capfd.readouterr() == ("", "")


def test_gradient_reaches_the_code(kind: str, folder: Path) -> None:
    generator = load(folder, **({} if kind == "rae" else {"image_size": 64}))
    code = generator.initial_code(0)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(generator(code).square().sum(), code)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


@torch.no_grad()
def test_encode_is_the_inverse_of_the_scaling(kind: str, network: Any, folder: Path) -> None:
    generator = load(folder, **({} if kind == "rae" else {"image_size": 64}))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(12))
    config = network.config
    if kind == "rae":
        expected = network.encode(images).latent
    elif kind == "kl":
        expected = (network.encode(images * 2 - 1).latent_dist.mode() - config.shift_factor) * config.scaling_factor
    elif kind == "dc":
        expected = network.encode(images * 2 - 1).latent * config.scaling_factor
    else:
        shift = getattr(config, "shift_factor", 0.0)
        expected = (network.encode(images * 2 - 1).latents - shift) * config.scaling_factor
    torch.testing.assert_close(generator.encode(images), expected, atol=1e-5, rtol=1e-4)
    assert generator.encode(torch.rand(1, 3, 48, 40)).shape[1:] == SHAPES[kind]


@torch.no_grad()
def test_the_code_of_an_image_is_where_a_synthesis_starts(kind: str, folder: Path, tiny_classifier: Classifier) -> None:
    generator = load(folder, **({} if kind == "rae" else {"image_size": 64}))
    photo = torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(3))
    code = gen_prior.encode(generator, photo)
    torch.testing.assert_close(code, generator.encode(photo[None, :, :, 8:72])[0])
    with torch.enable_grad():
        result = gen_prior.synthesize(tiny_classifier, "bee", generator, start=code, steps=1)
    expected = tiny_classifier(generator(code[None]))[0, 1]
    torch.testing.assert_close(result.start_activations[0, 0], expected, atol=1e-4, rtol=1e-4)


def test_unquantised_codes(folder: Path, kind: str, network: Any) -> None:
    if kind != "vq":
        with pytest.raises(OptionError):
            load(folder, image_size=65)
        return
    codes = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        latents = codes / network.config.scaling_factor
        expected = network.decode(latents, force_not_quantize=True).sample / 2 + 0.5
        free = load(folder, image_size=64, quantise=False)(codes)
    torch.testing.assert_close(free, expected.clamp(0, 1), atol=1e-6, rtol=0)


def test_other_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKLWan"}))
    with pytest.raises(
        WeightsError, match=r"AutoencoderKLWan.*AutoencoderTiny, AutoencoderKL, VQModel, AutoencoderDC, AutoencoderRAE"
    ):
        load(tmp_path)


IMPOSSIBLE: list[tuple[str, dict[str, Any]]] = [
    ("tiny", {"latent_channels": 10**9}),
    ("kl", {"latent_channels": 2**20}),
    ("tiny", {"num_decoder_blocks": [10**6]}),
    ("rae", {"decoder_num_hidden_layers": 10**6}),
    ("kl", {"act_fn": "system('true')"}),
    ("vq", {"block_out_channels": "wide"}),
    ("rae", {"encoder_hidden_size": "wide"}),
    ("kl", {"block_out_channels": [7, 7, 7]}),
    ("rae", {"patch_size": -1}),
    ("tiny", {"_class_name": "Nothing"}),
    ("tiny", {"scaling_factor": None}),
    ("tiny", {"scaling_factor": "x"}),
    ("tiny", {"scaling_factor": 0}),
    ("tiny", {"shift_factor": "x"}),
    ("tiny", {"upsampling_scaling_factor": "2"}),
    ("tiny", {"upsampling_scaling_factor": 0}),
    ("tiny", {"upsampling_scaling_factor": 1.5}),
    ("tiny", {"upsampling_scaling_factor": 100000}),
    ("tiny", {"out_channels": 4}),
    ("kl", {"latents_mean": [0, 0, 0, 0], "latents_std": [0, 0, 0, 0]}),
    ("kl", {"scaling_factor": [1]}),
    ("kl", {"latents_mean": [0, 0, 0], "latents_std": [1, 1, 1]}),
    ("kl", {"latents_mean": "abc", "latents_std": "x"}),
    ("kl", {"norm_num_groups": "x"}),
    ("rae", {"encoder_input_size": 14 * 512}),
    ("rae", {"encoder_input_size": 14 * 4096}),
    ("rae", {"encoder_input_size": 14 * 65536}),
]


@pytest.mark.parametrize(("kind", "change"), IMPOSSIBLE, indirect=["kind"])
def test_impossible_configurations_are_refused(folder: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config.keys() >= change.keys() - {"latents_mean", "latents_std"}
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    (tmp_path / "diffusion_pytorch_model.safetensors").symlink_to(folder / "diffusion_pytorch_model.safetensors")
    with pytest.raises(WeightsError, match=r"local-dir:|config\.json"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["kl", "vq"], indirect=True)
def test_weights_that_name_attention_as_before_2023(kind: str, network: Any, folder: Path, tmp_path: Path) -> None:
    state = with_old_attention_names(network.state_dict())
    assert sum(".proj_attn." in key for key in state) == 4
    code = torch.randn(1, *SHAPES[kind])
    for state_dict, fits in ((state, True), (state | {"encoder.mid_block.attentions.0.to_q.bias": code}, False)):
        (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
        save_safetensors(tmp_path / "diffusion_pytorch_model.safetensors", state_dict, {})
        if fits:
            with torch.no_grad():
                assert torch.equal(load(tmp_path, image_size=64)(code), load(folder, image_size=64)(code))
        else:
            with pytest.raises(WeightsError, match=r"unexpected .*attentions\.0\.query\.bias"):
                load(tmp_path)


@pytest.mark.parametrize("kind", ["rae"], indirect=True)
def test_tensors_that_the_class_itself_ignores(network: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    state = network.state_dict() | {"decoder.decoder_pos_embed": torch.zeros(3)}
    save_safetensors(tmp_path / "diffusion_pytorch_model.safetensors", state, {})
    code = torch.randn(1, *SHAPES["rae"])
    with torch.no_grad():
        assert torch.equal(load(tmp_path)(code), load(folder)(code))


@pytest.mark.parametrize(("kind", "package"), [("tiny", "diffusers"), ("rae", "transformers")], indirect=["kind"])
def test_without_its_packages_the_extra_is_named_and_nothing_removed(
    folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, package: str, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    hub.publish("a/model", {path.name: path for path in folder.iterdir()})
    with pytest.raises(MissingExtraError, match=r"pip install 'gen-prior\[diffusers\]'"):
        diffusers_family.load("a/model")
    assert bool(hub.requests) == (package == "transformers"), "the class is in the config"
    assert not list((tmp_path / "home").rglob("*.safetensors"))
    assert bool(list((tmp_path / "home").rglob("config.json"))) == (package == "transformers")
