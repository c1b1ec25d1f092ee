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
from hub_server import Hub
from one_step_models import saved_pipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from gen_prior.applications.doctor import examine
from gen_prior.applications.publish import export
from gen_prior.errors import GenPriorError, OptionError, WeightsError
from gen_prior.generators import load_described, load_generator
from gen_prior.optimise.regularisers import build_regulariser

library: Any = diffusers  # its constructors are not typed
NOISE = 4 * 8 * 8


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline in the published layout, with random weights."""
    return saved_pipeline(tmp_path_factory.mktemp("pipeline"), request.param == "sdxl")


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
