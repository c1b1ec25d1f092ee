"""Parameters, memory and operations of the published generators, one image, from their configurations alone.

    python benchmarks/generator_costs.py > benchmarks/results/generator_costs.json

Networks are built on the meta device, without weights, but for the embedded prior. "GFLOP" counts two operations for
each multiplication with an addition, as `torch.utils.flop_counter` does: of drawing an image, and of a step, which also
takes the gradient of the code. "step_megabytes" is what the backward pass keeps, in float32, without the weights. The
condition numbers of pMF's first layer are those of random weights, drawn as its authors do before training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gen_prior.generators import load_generator
from gen_prior.generators.afm import network as afm
from gen_prior.generators.afm.network import FlowTransformer
from gen_prior.generators.biggan import format as biggan_format
from gen_prior.generators.biggan.network import BigGAN
from gen_prior.generators.deepsim.network import VARIANTS as DEEPSIM
from gen_prior.generators.deepsim.network import UpconvNetwork
from gen_prior.generators.pmf import network as pmf
from gen_prior.generators.pmf.network import PixelFlow
from gen_prior.generators.titok import network as titok

library: Any = diffusers  # its constructors are not typed
SD_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
LAYERS = [[False, 16, 16], [True, 16, 16], [False, 16, 16], [True, 16, 8], [False, 8, 8], [True, 8, 4]]
BIGGAN_128 = {
    "z_dim": 128,
    "channel_width": 128,
    "num_classes": 1000,
    "layers": [*LAYERS, [False, 4, 4], [True, 4, 2], [False, 2, 2], [True, 2, 1]],
    "attention_layer_position": 8,
    "n_stats": 51,
}
TYPES = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
DC_AE = {
    "encoder_block_types": TYPES,
    "decoder_block_types": TYPES,
    "encoder_layers_per_block": (0, 4, 8, 2, 2, 2),
    "decoder_layers_per_block": (0, 5, 10, 2, 2, 2),
    "encoder_qkv_multiscales": ((),) * 6,
    "decoder_qkv_multiscales": ((),) * 6,
    "decoder_norm_types": ("batch_norm",) * 3 + ("rms_norm",) * 3,
    "decoder_act_fns": ("relu",) * 3 + ("silu",) * 3,
}
"""dc-ae-f32c32-in-1.0, as diffusers' conversion script has it."""
SD_TURBO = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SDXL_TURBO = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def tokeniser(encoder: str, tokens: int) -> titok.TiTok:
    """A published TiTok."""
    first, second = (titok.Transformer(256, 16, *titok.SIZES[size], tokens) for size in (encoder, "large"))
    return titok.TiTok(titok.Config(first, second, 16))


def turbo(settings: dict[str, Any]) -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor], tuple[int, ...]]:
    """The U-Net of a one-step model, a function that calls it, and the shape of its noise."""
    extra = {"text_embeds": torch.empty(1, 1280, device="meta"), "time_ids": torch.empty(1, 6, device="meta")}
    text = torch.empty(1, 77, settings["cross_attention_dim"], device="meta")
    condition = extra if "addition_embed_type" in settings else None

    def call(network: Any, noise: Tensor) -> Tensor:
        image: Tensor = network(noise, torch.zeros((), device="meta"), text, added_cond_kwargs=condition).sample
        return image

    return library.UNet2DConditionModel(**settings), call, (4, 64, 64)


def networks() -> dict[str, tuple[nn.Module, Callable[[Any, Tensor], Tensor], tuple[int, ...]]]:
    """Name -> network on the meta device, a function (network, code) -> image, and the shape of the code."""
    decode = lambda network, code: network.decode(code).sample  # noqa: E731
    tiny = library.AutoencoderTiny(latent_channels=4)
    found: dict[str, Any] = {
        "deepsim-fc6": (UpconvNetwork(DEEPSIM["deepsim-fc6"]), nn.Module.__call__, (4096,)),
        "biggan-deep-128": (BigGAN(biggan_format.read_config(BIGGAN_128, "x")), nn.Module.__call__, (256,)),
        "taesd": (tiny, decode, (4, 32, 32)),
        "sd-vae-ft-mse": (library.AutoencoderKL(**SD_VAE), decode, (4, 32, 32)),
        "sd-vae-ft-mse at 512 px": (library.AutoencoderKL(**SD_VAE), decode, (4, 64, 64)),
        "dc-ae-f32c32-in-1.0": (library.AutoencoderDC(**DC_AE), decode, (32, 8, 8)),
        "U-Net of sd-turbo": turbo(SD_TURBO),
        "U-Net of sdxl-turbo": turbo(SDXL_TURBO),
    }
    for name, encoder, tokens in (("ll32", "large", 32), ("bl64", "base", 64), ("bl128", "base", 128)):
        found[f"titok:{name}"] = (tokeniser(encoder, tokens), nn.Module.__call__, (16, 1, tokens))
    for name, sizes in afm.VARIANTS.items():
        label = torch.empty(1, sizes.width, device="meta")
        found[f"afm:{name}, latent"] = (
            FlowTransformer(sizes),
            lambda network, code, label=label: network(code, label),
            (4, 32, 32),
        )
    for name, flow in pmf.VARIANTS.items():
        label = torch.empty(1, flow.width, device="meta")
        found[f"pmf:{name}"] = (
            PixelFlow(flow, projected=True),
            lambda network, code, label=label: network(code, label),
            (flow.bottleneck, flow.grid, flow.grid),
        )
    return found


def cost(network: nn.Module, call: Callable[[Any, Tensor], Tensor], shape: tuple[int, ...]) -> dict[str, float]:
    """Costs of one image."""
    network.eval().requires_grad_(False)
    weights = {id(value) for value in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in weights:
            kept[id(tensor.untyped_storage())] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    device = next(network.parameters()).device
    code = torch.zeros(1, *shape, device=device, requires_grad=True)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with FlopCounterMode(display=False) as counter, hooks:
        image = call(network, code)
        drawing = counter.get_total_flops()
        image.sum().backward()
    numbers = sum(value.numel() for value in network.parameters())
    return {
        "code": math.prod(shape),
        "million_parameters": round(numbers / 1e6, 1),
        "weight_megabytes": round(4 * numbers / 1e6),
        "gflop": round(drawing / 1e9, 1),
        "step_gflop": round(counter.get_total_flops() / 1e9, 1),
        "step_megabytes": round(sum(kept.values()) / 1e6),
    }


def conditioning(bottleneck: int, patch: int) -> float:
    """Condition number of the map from the noise of a patch to its bottleneck, with the authors' initial weights.

    That of the whitened code is 1. Steps of one size in the noise move the bottleneck by squares of singular values.
    """
    inputs = 3 * patch**2
    limit = math.sqrt(6 / (inputs + bottleneck))
    source = torch.Generator().manual_seed(0)
    weight = limit * (2 * torch.rand(bottleneck, inputs, generator=source, dtype=torch.float64) - 1)
    values = torch.linalg.svdvals(weight)
    return round(float(values[0] / values[-1]) ** 2, 1)


def main() -> None:
    """Print all costs as JSON."""
    embedded = load_generator("dgn-lite0", device="cpu")
    assert isinstance(embedded.module, nn.Module)
    with torch.device("meta"):
        made = {"dgn-lite0": (embedded.module, nn.Module.__call__, embedded.code_shape), **networks()}
    costs = {name: cost(*found) for name, found in made.items()}
    condition = {name: conditioning(flow.bottleneck, flow.patch) for name, flow in pmf.VARIANTS.items()}
    print(json.dumps({"costs": costs, "pmf_condition_of_noise": condition, "torch": torch.__version__}, indent=1))


if __name__ == "__main__":
    main()
