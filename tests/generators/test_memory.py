"""Loading holds the weights once: beside what a network keeps there is never a second copy of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import BIGGAN, library, upconv_state
from hub_server import Hub
from torch import Tensor

from gen_prior.generators.biggan import format as biggan_format
from gen_prior.generators.deepsim.network import plain_key
from gen_prior.generators.dgn.blocks import CODE_SIDE
from gen_prior.generators.dgn.generator import FORMAT
from gen_prior.generators.dgn.network import Decoder
from gen_prior.hub.tensors import save_safetensors

LOAD = """
from gen_prior.generators import load_generator
import gen_prior.generators.diffusers.network as d
import torch._dynamo  # which torch imports when it first builds or draws some networks
d.require_diffusers() if DIFFUSERS else None
if DIFFUSERS: d.find_class("AutoencoderKL")
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
before = peak()
generator = load_generator("local-dir:FOLDER", device="cpu")
say(megabytes=peak() - before)
"""


def own_prior(folder: Path) -> None:
    channels, directions = 2048, 512
    decoder = Decoder(channels)
    tensors = {f"decoder.{key}": value for key, value in decoder.state_dict().items()}
    tensors["mean"] = torch.zeros(channels, CODE_SIDE, CODE_SIDE)
    tensors["basis"] = torch.zeros(channels * CODE_SIDE**2, directions)
    config = {"size": 64, "code_channels": channels, "width": 1.0, "directions": directions}
    save_safetensors(folder / "generator.safetensors", tensors, {"format": FORMAT, "config": json.dumps(config)})


def half_deepsim(folder: Path) -> None:
    half: dict[str, Tensor] = {plain_key(key): value.half() for key, value in upconv_state("deepsim-fc8").items()}
    save_safetensors(folder / "model.safetensors", half, {})


def half_autoencoder(folder: Path) -> None:
    network = library.AutoencoderKL(
        block_out_channels=(128, 512),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
    )
    network.half().save_pretrained(folder)


def large_biggan(folder: Path) -> None:
    """At 512 px, so that an image is larger than the weights."""
    pairs = ((16, 16), (16, 8), (8, 8), (8, 4), (4, 2), (2, 1), (1, 1))
    layers = [layer for a, b in pairs for layer in ([False, a, a], [True, a, b])]
    config = BIGGAN | {"channel_width": 64, "layers": layers, "attention_layer_position": 8}
    shapes = biggan_format.published_shapes(biggan_format.read_config(config, "x"))
    state = {
        key: torch.ones(shape) if key.endswith(("_u", "_v")) else torch.full(shape, 0.01)
        for key, shape in shapes.items()
    }
    save_safetensors(folder / "model.safetensors", state, {})
    (folder / "config.json").write_text(json.dumps(config))


FIRST_IMAGE = 60
"""Megabytes that the first image costs whatever the size of the weights: kernels, and the image's own features."""


@pytest.mark.parametrize("write", [own_prior, half_deepsim, half_autoencoder, large_biggan])
def test_memory_of_a_load(hub: Hub, tmp_path: Path, write: Callable[[Path], None]) -> None:
    """At most twice the file; half a precision makes float32 weights of just that size, and nothing comes to them."""
    write(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    code = LOAD.replace("DIFFUSERS", str(write is half_autoencoder)).replace("FOLDER", str(tmp_path))
    used, size = hub.run(code, tmp_path / "home")["megabytes"], file.stat().st_size / 2**20
    assert size > 30
    assert used < (1 if write is own_prior else 2) * size + FIRST_IMAGE
