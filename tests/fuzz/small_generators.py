"""Small random generators of the families whose published sizes are fixed, as the files of their folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import dc, rae, random_like, vq
from one_step_models import saved_pipeline
from safetensors.torch import save
from torch import nn

import gen_prior as gp
from gen_prior.generators.afm import generator as afm
from gen_prior.generators.afm.network import VARIANTS as FLOWS
from gen_prior.generators.afm.network import FlowTransformer
from gen_prior.generators.afm.network import Variant as Flow
from gen_prior.generators.dgn import generator as dgn
from gen_prior.generators.dgn.config import FlowConfig
from gen_prior.generators.dgn.fine_code import FineCode
from gen_prior.generators.dgn.flow import CodeFlow
from gen_prior.generators.dgn.network import Decoder, WhitenedDecoder
from gen_prior.generators.pmf import format as pmf_format
from gen_prior.generators.pmf import generator as pmf
from gen_prior.generators.pmf.network import VARIANTS as PIXEL_FLOWS
from gen_prior.generators.pmf.network import Variant as PixelFlow
from gen_prior.generators.titok import network as titok

Folder = dict[str, bytes]
TITOK: dict[str, Any] = {
    "model": {
        "vq_model": {
            "quantize_mode": "vae", "token_size": 5, "vit_enc_model_size": "small", "vit_dec_model_size": "small",
            "vit_enc_patch_size": 4, "vit_dec_patch_size": 8, "num_latent_tokens": 3, "is_legacy": False,
        }
    },
    "dataset": {"preprocessing": {"crop_size": 16}},
}  # fmt: skip


def _state(network: nn.Module) -> dict[str, torch.Tensor]:
    return random_like({key: tuple(value.shape) for key, value in network.state_dict().items()})


def _described(config: Any, tensors: dict[str, torch.Tensor]) -> Folder:
    return {"config.json": json.dumps(config).encode(), "model.safetensors": save(tensors)}


def adversarial_flow(patch: pytest.MonkeyPatch, place: Path) -> Folder:
    """An adversarial flow model; the decoders of its latents are replaced by a small one."""
    sizes = Flow(1, 16, 2, side=8)
    decoder = gp.Generator(nn.Sequential(nn.Conv2d(4, 3, 1), nn.Upsample(scale_factor=8)), (4, 8, 8), name="decoder")
    patch.setitem(FLOWS, "B", sizes)
    patch.setattr("gen_prior.generators.diffusers.autoencoder.latent_decoder", lambda *given: decoder)
    table = random_like({afm.TABLE: (afm.CLASSES, sizes.width)})
    return _described({"format": afm.FORMAT, "variant": "B"}, _state(FlowTransformer(sizes)) | table)


def pixel_flow(patch: pytest.MonkeyPatch, place: Path) -> Folder:
    """A pixel mean flow."""
    sizes = PixelFlow(8, 4, 16, 2, 1, 2.0, 3.0, (0.2, 0.7), head=1, bottleneck=6)
    patch.setitem(PIXEL_FLOWS, "B-16", sizes)
    source = torch.Generator().manual_seed(0)
    shapes = pmf_format.published_shapes(sizes)
    tensors = {f"net.{key}": 0.3 * torch.randn(shape, generator=source) for key, shape in shapes.items()}
    return _described({"format": pmf.FORMAT, "variant": "B-16"}, tensors)


def tokeniser(patch: pytest.MonkeyPatch, place: Path) -> Folder:
    """A TiTok."""
    patch.setitem(titok.SIZES, "small", (8, 1, 2))
    return _described(TITOK, _state(titok.TiTok(titok.read_config(TITOK, "x"))))


def one_step(patch: pytest.MonkeyPatch, place: Path) -> Folder:
    """A text-to-image model of one step, of SD-Turbo's kind."""
    return _read(saved_pipeline(place / "saved", xl=False))


def one_step_xl(patch: pytest.MonkeyPatch, place: Path) -> Folder:
    """A text-to-image model of one step, of SDXL-Turbo's kind: two text encoders, conditioned on sizes."""
    return _read(saved_pipeline(place / "saved", xl=True))


def quantised(patch: pytest.MonkeyPatch, place: Path) -> Folder:
    """A VQModel of diffusers."""
    return _saved(vq(), place)


def deep_compression(patch: pytest.MonkeyPatch, place: Path) -> Folder:
    """An AutoencoderDC of diffusers."""
    return _saved(dc(), place)


def representation(patch: pytest.MonkeyPatch, place: Path) -> Folder:
    """An AutoencoderRAE of diffusers, with the mean and spread of its latents."""
    return _saved(rae(latents_mean=[[[0.0]]] * 64, latents_std=[[[1.0]]] * 64), place)


def _read(folder: Path) -> Folder:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _saved(network: Any, place: Path) -> Folder:
    network.save_pretrained(place / "saved")
    return _read(place / "saved")


def prior(patch: pytest.MonkeyPatch, place: Path) -> Folder:
    """A prior of ours with all of its parts: a flow with exemplars, a fine code, coring and grain."""
    torch.manual_seed(0)
    flow = CodeFlow(10, FlowConfig(3, 16, 1, 4, 2, 3.0, exemplars=2))
    network = WhitenedDecoder(
        Decoder(4, 64, 0.125), torch.zeros(4, 4, 4), torch.randn(64, 10), flow=flow, details=FineCode(4, 6, 8),
        coring=0.5, grain=0.1,
    )  # fmt: skip
    metadata = {"format": dgn.FORMAT, "config": json.dumps(network.config.to_dict()), "classes": json.dumps(["a"] * 4)}
    recipe = json.dumps(dgn.RECIPE.to_dict())
    tensors = {key: value.detach().contiguous() for key, value in network.state_dict().items()}
    return {dgn.FILE: save(tensors, metadata | {"recipe": recipe})}


FAMILIES: dict[str, Callable[[pytest.MonkeyPatch, Path], Folder]] = {
    "afm": adversarial_flow, "pmf": pixel_flow, "titok": tokeniser, "one-step": one_step, "one-step-xl": one_step_xl,
    "vq": quantised, "dc": deep_compression, "rae": representation, "dgn": prior,
}  # fmt: skip
