"""Small random checkpoints in the published layouts, for the tests of loading and of export."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from gen_prior.generators.biggan import format as biggan_format
from gen_prior.generators.deepsim.network import VARIANTS, UpconvNetwork

library: Any = diffusers  # its constructors are not typed

BIGGAN = {
    "z_dim": 6,
    "channel_width": 8,
    "num_classes": 10,
    "layers": [[False, 16, 16], [True, 16, 8], [True, 8, 4], [True, 4, 2], [False, 2, 1]],
    "attention_layer_position": 3,
    "n_stats": 51,
    "eps": 1e-4,
}


def pickled(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def random_like(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return {key: 0.1 * torch.rand(shape, generator=source) + 0.01 for key, shape in shapes.items()}


def upconv_state(name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        state = UpconvNetwork(VARIANTS[name]).state_dict()
    keys = [key.removeprefix("layers.") for key in state]
    quirky = {key: key.replace(".", ".1.", 1) if key.startswith("deconv") else key for key in keys}
    return random_like({quirky[key]: tuple(state[f"layers.{key}"].shape) for key in keys})


def saved_folder(network: Any, path: Path) -> dict[str, bytes | Path]:
    network.save_pretrained(path)
    return {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}


def biggan_state() -> dict[str, Tensor]:
    """Random, with every spectral norm the sum of its weights: the images stay finite."""
    state = random_like(biggan_format.published_shapes(biggan_format.read_config(BIGGAN, "x")))
    return {key: torch.ones_like(value) if key.endswith(("_u", "_v")) else value for key, value in state.items()}


def tiny() -> Any:
    return library.AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )


def kl() -> Any:
    return library.AutoencoderKL(**TWO_LEVELS)


def vq() -> Any:
    return library.VQModel(**TWO_LEVELS, num_vq_embeddings=32)


TWO_LEVELS = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 4,
}


def dc() -> Any:
    levels = {"block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"), "block_out_channels": (8, 8, 16)}
    levels |= {"layers_per_block": (1, 1, 1), "qkv_multiscales": ((), (), (5,))}
    sides = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in levels.items()}
    return library.AutoencoderDC(latent_channels=8, attention_head_dim=4, scaling_factor=0.41407, **sides)


def rae(**options: Any) -> Any:
    return library.AutoencoderRAE(
        encoder_hidden_size=64,
        encoder_num_hidden_layers=1,
        encoder_input_size=56,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=48,
        **options,
    )


def consistency() -> Any:
    unet = library.UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
        num_class_embeds=10,
    )
    return library.ConsistencyModelPipeline(unet, library.CMStochasticIterativeScheduler())


def dcgan() -> dict[str, Tensor]:
    layers = [
        nn.ConvTranspose2d(64, 8, 4, bias=False),
        nn.BatchNorm2d(8),
        nn.ConvTranspose2d(8, 8, 4, 2, 1, bias=False),
    ]
    network = nn.Sequential(*layers, nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False))
    return {f"main.{key}": value for key, value in network.state_dict().items()}


def with_old_attention_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of diffusers as its versions before 0.16 wrote it."""
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    renamed = {}
    for key, value in state.items():
        for new, former in old.items():
            key = key.replace(new, former) if "mid_block.attentions." in key else key
        renamed[key] = value
    return renamed
