"""Text-to-image models of one step: equal to diffusers' own pipelines in one step without guidance."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from checkpoints import kl
from hub_server import Hub
from safetensors.torch import load_file, save_file
from torch import Tensor

from gen_prior.applications.doctor import examine
from gen_prior.applications.publish import export
from gen_prior.errors import GenPriorError, OptionError, WeightsError
from gen_prior.generators import load_described, load_generator
from gen_prior.optimise.regularisers import build_regulariser

library: Any = diffusers  # its constructors are not typed
text: Any = transformers
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LENGTH, NOISE = 7, 4 * 8 * 8
TURBO = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timestep_spacing": "trailing"}


def tokeniser(folder: Path) -> None:
    """The published files: byte pairs without merges, so that a text is read letter by letter."""
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    settings = ends | {"pad_token": "<|endoftext|>", "model_max_length": LENGTH, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def encoder(width: int, projects: bool) -> Any:
    sizes = {"hidden_size": width, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    config = text.CLIPTextConfig(vocab_size=54, max_position_embeddings=LENGTH, projection_dim=6, **sizes, **ends)
    network = (text.CLIPTextModelWithProjection if projects else text.CLIPTextModel)(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return network


def save_encoder(network: Any, folder: Path) -> None:
    """As published: every tensor below `text_model.`, but for the projection, and the old table of positions."""
    network.save_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    named = {key if key.startswith("text_") else f"text_model.{key}": value for key, value in state.items()}
    named["text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    save_file(named, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline in the published layout, with random weights."""
    torch.manual_seed(5)
    folder, xl = tmp_path_factory.mktemp("pipeline"), request.param == "sdxl"
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + 6,
    }
    unet = library.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=8 + 10 if xl else 8,
        **(added if xl else {}),
    ).eval()
    vae = kl().eval()
    predicts = "epsilon" if xl else "v_prediction"
    scheduler = "EulerAncestralDiscreteScheduler" if xl else "EulerDiscreteScheduler"
    for name, part in (("unet", unet), ("vae", vae)):
        part.save_pretrained(folder / name)
    (folder / "scheduler").mkdir()
    settings = TURBO | {"_class_name": scheduler, "prediction_type": predicts, "num_train_timesteps": 1000}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    index: dict[str, Any] = {"_class_name": "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline"}
    index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    index |= {"scheduler": ["diffusers", scheduler]}
    for suffix, width, projects in (("", 8, False), ("_2", 10, True))[: 2 if xl else 1]:
        tokeniser(folder / f"tokenizer{suffix}")
        save_encoder(encoder(width, projects), folder / f"text_encoder{suffix}")
        index[f"tokenizer{suffix}"] = ["transformers", "CLIPTokenizer"]
        index[f"text_encoder{suffix}"] = [
            "transformers",
            "CLIPTextModelWithProjection" if projects else "CLIPTextModel",
        ]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def pipeline_images(folder: Path, prompt: str, noise: Tensor) -> Tensor:
    """What diffusers' own pipeline draws from `noise` in one step, in [0, 1]."""
    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    warnings.simplefilter("ignore")  # of diffusers' schedulers, about NumPy 2; pytest restores the filters
    extra = {} if "XL" in name else {"safety_checker": None, "feature_extractor": None}
    pipe = getattr(library, name).from_pretrained(folder, **extra)
    pipe.set_progress_bar_config(disable=True)
    images: Tensor = pipe(
        prompt, latents=noise, num_inference_steps=1, guidance_scale=0.0, height=16, width=16, output_type="pt"
    ).images
    return images


def publish(hub: Hub, folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return hub.publish("a/turbo", {path.relative_to(folder).as_posix(): path for path in files})


@torch.no_grad()
def test_equal_to_the_published_pipeline(hub: Hub, saved: Path) -> None:
    commit = publish(hub, saved)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(6))
    generator = load_generator("one-step:a/turbo", device="cpu", prompt="a bee")
    assert generator.code_shape == (NOISE,)
    assert generator.provenance.revision == commit
    expected = pipeline_images(saved, "a bee", noise)
    assert expected.std() > 0.05
    torch.testing.assert_close(generator(noise.flatten(1)), expected, atol=1e-5, rtol=0)
    other = load_generator("one-step:a/turbo", device="cpu", prompt="cup")(noise.flatten(1))
    torch.testing.assert_close(other, pipeline_images(saved, "cup", noise), atol=1e-5, rtol=0)
    assert (other - expected).abs().max() > 1e-3


@torch.no_grad()
def test_the_prompt_is_held_optimised_or_free(saved: Path) -> None:
    spec = f"one-step:{saved}"
    held = load_generator(spec, device="cpu", prompt="a bee")
    both = load_generator(spec, device="cpu", prompt="a bee", optimise="both")
    free = load_generator(spec, device="cpu")
    prompt = load_generator(spec, device="cpu", prompt="a bee", optimise="prompt", noise_seed=5)
    embedding = both.code_shape[0] - NOISE
    assert free.code_shape == both.code_shape
    assert prompt.code_shape == (embedding,)
    start = both.initial_code(5)
    torch.testing.assert_close(both(start[None]), held(start[None, :NOISE]))
    torch.testing.assert_close(prompt(prompt.initial_code(0)[None]), both(start[None]), atol=1e-6, rtol=0)
    assert 0 < free.initial_code(0)[NOISE:].std() < 0.2
    (name, options), *others = free.recipe.regularisers
    assert (name, options["numbers"], others) == ("noise_length", NOISE, [])
    assert not prompt.recipe.regularisers
    assert load_described(json.loads(json.dumps(both.describe())), device="cpu").describe() == both.describe()


@torch.no_grad()
def test_results_are_drawn_with_the_full_decoder(hub: Hub, saved: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    tiny = library.AutoencoderTiny(
        encoder_block_out_channels=(4, 4), decoder_block_out_channels=(4, 4), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=4,
    ).eval()  # fmt: skip
    tiny.save_pretrained(tmp_path)
    names = ("config.json", "diffusion_pytorch_model.safetensors")
    commit = hub.publish("a/taesd", {name: tmp_path / name for name in names})
    options = {"device": "cpu", "prompt": "a bee"}
    full = load_generator(f"one-step:{saved}", **options)
    both = load_generator(f"one-step:{saved}", **options, decoder="redraw", taesd="a/taesd")
    code = full.initial_code(3)[None]
    assert torch.equal(both.final_images(code), full(code))
    latent = both.module[0](code)  # type: ignore[index]
    torch.testing.assert_close(both(code), ((tiny.decode(latent).sample + 1) / 2).clamp(0, 1), atol=1e-5, rtol=0)
    assert (both(code) - full(code)).abs().max() > 0.01
    assert both.options["taesd"] == f"a/taesd@{commit}"
    assert load_described(json.loads(json.dumps(both.describe())), device="cpu").describe() == both.describe()
    with pytest.raises(OptionError, match="decoder must be one of full, redraw"):
        load_generator(f"one-step:{saved}", device="cpu", decoder="fast")


def test_a_repository_of_one_step_is_recognised(hub: Hub, saved: Path) -> None:
    publish(hub, saved)
    generator = load_generator("hf-hub:a/turbo", device="cpu", prompt="a bee")
    assert generator.code_shape == (NOISE,)
    code = generator.initial_code(0)[None]
    assert torch.equal(generator(code), load_generator("one-step:a/turbo", device="cpu", prompt="a bee")(code))


def test_of_another_pipeline_the_autoencoder_is_used_and_named(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    path = tmp_path / "copy" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"timestep_spacing": "leading"}))
    assert load_generator(f"local-dir:{tmp_path / 'copy'}", device="cpu").notes["class"] == "AutoencoderKL"
    assert "its autoencoder alone (vae/) is used" in caplog.text


def test_the_gradient_reaches_noise_and_prompt_also_at_zero(saved: Path) -> None:
    generator = load_generator(f"one-step:{saved}", device="cpu", prompt="a bee", optimise="both")
    code = torch.zeros(1, *generator.code_shape, requires_grad=True)
    penalty = build_regulariser(*generator.recipe.regularisers[0])
    image = generator(code)
    (gradient,) = torch.autograd.grad(image.square().sum() + penalty(image, code).sum(), code)
    assert torch.isfinite(gradient).all()
    assert gradient[:, :NOISE].abs().max() > 0
    assert gradient[:, NOISE:].abs().max() > 0


def test_exported(saved: Path, tmp_path: Path) -> None:
    assert examine(f"one-step:{saved}", tmp_path / "doctor", device="cpu")["ok"]
    export(f"one-step:{saved}", tmp_path / "out", samples=1, options={"prompt": "a bee"})
    ours, theirs = (load_generator(f"one-step:{f}", device="cpu", prompt="cup") for f in (saved, tmp_path / "out"))
    code = ours.initial_code(0)[None]
    assert torch.equal(ours(code), theirs(code))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "FluxPipeline"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "DDIMScheduler.*of one step"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "prediction_type 'sample'"),
    ],
)
def test_other_pipelines_are_refused(saved: Path, tmp_path: Path, file: str, change: Any, message: str) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    path = tmp_path / "copy" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsError, match=message) as raised:
        load_generator(f"one-step:{tmp_path / 'copy'}", device="cpu")
    assert "\n" not in str(raised.value)


def test_a_text_encoder_of_another_layout_is_refused(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    path = tmp_path / "copy" / "text_encoder" / "model.safetensors"
    state = load_file(path)
    save_file(state | {"text_model.encoder.layers.2.layer_norm1.bias": torch.zeros(8)}, path, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"has unexpected .*layers\.2"):
        load_generator(f"one-step:{tmp_path / 'copy'}", device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimise": "class"}, "both, noise, prompt"),
        ({"prompt": 3}, "prompt must be text"),
        ({"variant": "bf16"}, "fp16"),
        ({"image_size": 20}, "multiple of 16"),
    ],
)
def test_options_are_checked(saved: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(GenPriorError, match=message) as raised:
        load_generator(f"one-step:{saved}", device="cpu", **options)
    assert isinstance(raised.value, OptionError)
