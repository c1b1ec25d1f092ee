"""Consistency models: equal to diffusers' ConsistencyModelPipeline with one step."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from checkpoints import with_old_attention_names
from hub_server import Hub
from torch import Tensor

from gen_prior.errors import MissingExtraError, OptionError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.generators.diffusers import consistency
from gen_prior.generators.shared.code_parts import reno_recipe
from gen_prior.hub.files import Files
from gen_prior.hub.tensors import save_safetensors
from gen_prior.optimise.regularisers import build_regulariser

library: Any = diffusers  # its constructors are not typed
NUMBERS = 3 * 16 * 16


def pipeline(classes: int | None) -> Any:
    torch.manual_seed(13)
    unet = library.UNet2DModel(
        sample_size=16,
        block_out_channels=(16, 16),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        norm_num_groups=4,
        attention_head_dim=8,
        num_class_embeds=classes,
        resnet_time_scale_shift="scale_shift",
    )
    return library.ConsistencyModelPipeline(unet.eval(), library.CMStochasticIterativeScheduler())


@pytest.fixture(scope="module")
def reference() -> Any:
    return pipeline(10)


@pytest.fixture(scope="module")
def folder(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("consistency")
    reference.save_pretrained(path)
    return path


def load(folder: Path, **options: Any) -> Generator:
    return consistency.from_files(Files.from_folder(folder), name="x", **options)


def published(pipe: Any, noise: Tensor, label: int | None) -> Tensor:
    pipe.set_progress_bar_config(disable=True)
    images = [
        pipe(latents=one[None].view(1, 3, 16, 16), class_labels=label, output_type="pt", num_inference_steps=1).images
        for one in noise
    ]
    return torch.cat(images)


@torch.no_grad()
def test_equal_to_the_published_pipeline(reference: Any, folder: Path) -> None:
    noise = torch.randn(2, NUMBERS, generator=torch.Generator().manual_seed(14))
    expected = published(reference, noise, 4)
    held = load(folder, class_label=4)
    assert held.code_shape == (NUMBERS,)
    assert held.image_shape() == (16, 16)
    assert expected.std() > 0.05
    torch.testing.assert_close(held(noise), expected, atol=2e-6, rtol=0)
    both = load(folder)
    embedding = reference.unet.class_embedding.weight[4].expand(2, -1)
    torch.testing.assert_close(both(torch.cat([noise, embedding], 1)), expected, atol=2e-6, rtol=0)
    started = load(folder, class_label=4, optimise="both").initial_code(0)
    torch.testing.assert_close(started[NUMBERS:], embedding[0])


@torch.no_grad()
def test_without_classes(tmp_path: Path) -> None:
    pipe = pipeline(None)
    pipe.save_pretrained(tmp_path)
    noise = torch.randn(1, NUMBERS)
    torch.testing.assert_close(load(tmp_path)(noise), published(pipe, noise, None), atol=2e-6, rtol=0)
    with pytest.raises(OptionError, match="has no classes"):
        load(tmp_path, class_label=1)


def test_weights_that_name_attention_as_before_2023(reference: Any, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "old")
    state = with_old_attention_names(reference.unet.state_dict())
    assert any(".query." in key for key in state)
    save_safetensors(tmp_path / "old" / "unet" / "diffusion_pytorch_model.safetensors", state, {})
    code = load(folder).initial_code(0)[None]
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "old")(code), load(folder)(code))


def test_one_class_is_no_reason_for_nan(tmp_path: Path) -> None:
    pipeline(1).save_pretrained(tmp_path)
    generator = load(tmp_path)
    assert torch.isfinite(generator.initial_code(0)).all()
    assert torch.isfinite(torch.as_tensor(generator.prior.std)).all()


def test_gradient_flows_through_the_step(folder: Path) -> None:
    generator = load(folder)
    code = generator.initial_code(0)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(generator(code).square().sum(), code)
    assert torch.isfinite(gradient).all()
    assert gradient[:, :NUMBERS].abs().max() > 0
    assert gradient[:, NUMBERS:].abs().max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"optimise": "noise"}, "class_label"), ({"optimise": "all"}, "noise, both"), ({"class_label": 10}, "0 to 9")],
)
def test_options_are_checked(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load(folder, **options)


@pytest.mark.parametrize("change", [{"sigma_max": 0.001}, {"sigma_data": "x"}, {"_class_name": "DDIMScheduler"}])
def test_other_schedulers_are_refused(folder: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "unet").symlink_to(folder / "unet")
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config | change))
    with pytest.raises(WeightsError, match="scheduler_config"):
        load(tmp_path)


@pytest.mark.parametrize("change", [{"sample_size": None}, {"in_channels": 4, "out_channels": 4}])
def test_what_draws_no_rgb_image_is_refused(hub: Hub, tmp_path: Path, reference: Any, change: dict[str, Any]) -> None:
    own = {key: value for key, value in reference.unet.config.items() if not key.startswith("_")}
    unet = library.UNet2DModel(**(own | change))
    library.ConsistencyModelPipeline(unet, reference.scheduler).save_pretrained(tmp_path / "saved")
    files = [path for path in (tmp_path / "saved").rglob("*") if path.is_file()]
    hub.publish("a/model", {path.relative_to(tmp_path / "saved").as_posix(): path for path in files})
    with pytest.raises(WeightsError, match="no RGB image of a known size"):
        consistency.load("a/model")


def test_without_diffusers_the_extra_is_named_before_any_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gen-prior\[diffusers\]'"):
        consistency.load("a/model")
    assert not hub.requests


@pytest.mark.parametrize("change", [{"norm_eps": "x"}, {"sample_size": 9}])
def test_configurations_that_fail_only_in_use_are_refused(hub: Hub, folder: Path, change: dict[str, Any]) -> None:
    files: dict[str, bytes | Path] = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    config = json.loads((folder / "unet" / "config.json").read_text()) | change
    hub.publish("a/model", files | {"unet/config.json": json.dumps(config).encode()})
    with pytest.raises(WeightsError, match=r"hf-hub:a/model.*use another revision"):
        consistency.load("a/model")


def test_recipe_is_renos() -> None:
    recipe = reno_recipe(NUMBERS)
    assert (recipe.steps, recipe.optimiser, recipe.rate, recipe.gradient_limit) == (50, "sgd", 5.0, 0.1)
    assert recipe.keep == "best"


def test_noise_length_is_least_at_the_likeliest_and_finite_at_zero() -> None:
    penalty = build_regulariser("noise_length", {"weight": 1.0, "numbers": 100})
    direction = torch.nn.functional.normalize(torch.randn(1, 100), dim=1)
    lengths = torch.tensor([0.0, 1e-3, 1.0, 9.0, 99**0.5, 11.0, 30.0])
    codes = torch.cat([lengths[:, None] * direction, torch.full((7, 5), 1e6)], 1).requires_grad_()
    values = penalty(codes, codes)
    (gradient,) = torch.autograd.grad(values.sum(), codes)
    assert torch.isfinite(values).all()
    assert torch.isfinite(gradient).all()
    assert values.min() == values[4]
    assert abs(float(values[4].detach())) < 1e-4
    assert (values.diff()[:4] < 0).all()
    assert (values.diff()[4:] > 0).all()
    exact = 0.5 * lengths[2:] ** 2 - 99 * lengths[2:].log()
    torch.testing.assert_close(values[2:].detach() - values[4].detach(), exact - exact[2], atol=1e-3, rtol=1e-4)
