"""Autoencoders in the `diffusers` format: latent -> RGB image, by the class that the repository's config names.

AutoencoderTiny (TAESD), AutoencoderKL, VQModel (optimised before quantisation, its gradient passed straight
through) and AutoencoderRAE (decoders of DINOv2, SigLIP2 or MAE features). The networks are diffusers' own
classes; their weights are read and checked here, and nothing that a repository holds is executed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.calibration import find_statistics
from gen_prior.errors import MissingExtraError, OptionError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.hub import Files
from gen_prior.recipes import Recipe
from gen_prior.strict_loading import fill, on_meta
from gen_prior.tensor_files import read_tensors
from gen_prior.weights import registry

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
LARGEST_SIDE = 2048
RECIPE = Recipe(
    rate=0.05,
    prior_weight=0.1,
    transforms=(("affine", {"degrees": 8.0, "scale": (0.9, 1.2), "shift": 0.06}),),
    domain="code",
    source="settings of ours: the latents' unit Gaussian as prior, the transforms of dgn-lite0",
)


class Family(NamedTuple):
    """How one class is used.

    `factor`: pixels per code position; `decode`: (network, code, quantise) -> image in `output_range`;
    `encode`: (network, image in [0, 1]) -> code.
    """

    factor: Callable[[Any], int]
    decode: Callable[[Any, Tensor, bool], Tensor]
    encode: Callable[[Any, Tensor], Tensor]
    output_range: tuple[float, float] = (-1.0, 1.0)


def _doublings(config: Any) -> int:
    return int(2 ** (len(config.block_out_channels) - 1))


def _tiny_factor(config: Any) -> int:
    return int(config.upsampling_scaling_factor ** (len(config.num_decoder_blocks) - 1))


def _to_latent(network: Any, code: Tensor) -> Tensor:
    """Unit-variance code -> latent, by the numbers in the config."""
    config = network.config
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        mean, std = (torch.tensor(value, device=code.device).view(-1, 1, 1) for value in (mean, std))
        latent: Tensor = code * std / config.scaling_factor + mean
        return latent
    return code / float(config.scaling_factor) + float(getattr(config, "shift_factor", None) or 0.0)


def _to_code(network: Any, latent: Tensor) -> Tensor:
    zero = _to_latent(network, torch.zeros_like(latent))
    return (latent - zero) / (_to_latent(network, torch.ones_like(latent)) - zero)


def _decode_latent(network: Any, code: Tensor, quantise: bool) -> Tensor:
    image: Tensor = network.decode(_to_latent(network, code)).sample
    return image


def _decode_quantised(network: Any, code: Tensor, quantise: bool) -> Tensor:
    image: Tensor = network.decode(_to_latent(network, code), force_not_quantize=not quantise).sample
    return image


def _decode_features(network: Any, code: Tensor, quantise: bool) -> Tensor:
    image: Tensor = network.decode(code).sample
    return image


FAMILIES: dict[str, Family] = {
    "AutoencoderTiny": Family(
        _tiny_factor, _decode_latent, lambda network, image: _to_code(network, network.encode(2 * image - 1).latents)
    ),
    "AutoencoderKL": Family(
        _doublings,
        _decode_latent,
        lambda network, image: _to_code(network, network.encode(2 * image - 1).latent_dist.mode()),
    ),
    "VQModel": Family(
        _doublings, _decode_quantised, lambda network, image: _to_code(network, network.encode(2 * image - 1).latents)
    ),
    "AutoencoderRAE": Family(
        lambda config: int(config.patch_size),
        _decode_features,
        lambda network, image: network.encode(image).latent,
        (0.0, 1.0),
    ),
}


class Autoencoder(nn.Module):
    """Code `[B, C, h, w]` of unit variance -> RGB image in the family's range."""

    def __init__(self, network: nn.Module, family: Family, quantise: bool) -> None:
        super().__init__()
        self.network = network
        self.family = family
        self.quantise = quantise

    def forward(self, code: Tensor) -> Tensor:
        return self.family.decode(self.network, code, self.quantise)


def load(where: str, *, revision: str | None = None, **options: Any) -> Generator:
    """`diffusers:WHERE`: a repository, `org/name[/folder][@revision]`. Options as of `from_files`."""
    files = Files.from_hub(where, revision=revision)
    return from_files(files, name=f"diffusers:{where}", **options)


def from_files(
    files: Files, *, name: str, folder: str = "", image_size: int | None = None, quantise: bool = True
) -> Generator:
    """The autoencoder whose `config.json` and weights `files` has, or has in `folder`.

    Args:
        image_size: side of the image in pixels, 256 where None; an AutoencoderRAE has one size only.
        quantise: for a VQModel, whether the code is replaced by its nearest codebook entries.

    Raises:
        OptionError: a size that the network cannot give. WeightsError: another class, or weights that do not fit.
        MissingExtraError: diffusers is not installed.
    """
    with files.loading():
        config = files.json(f"{folder}config.json")
        class_name = str(config.get("_class_name"))
        if class_name not in FAMILIES:
            raise WeightsError(
                f"{files.source}/{folder}config.json names the class {class_name!r}",
                fix=f"use a repository of {', '.join(FAMILIES)}, or consistency:REPO for a consistency model",
            )
        network = read_network(files, class_name, config, folder)
    family = FAMILIES[class_name]
    factor = family.factor(network.config)
    side, shape = _sizes(class_name, network, factor, image_size)
    entry = registry.of_source(files.source)
    paper = registry.RAE_PAPER if class_name == "AutoencoderRAE" else registry.LATENT_PAPER
    provenance = files.provenance(licence=entry.licence if entry else None, paper=entry.paper if entry else paper)
    statistics = find_statistics(provenance, shape)

    def encode(images: Tensor) -> Tensor:
        if tuple(images.shape[-2:]) != (side, side):
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
        return family.encode(network, images)

    return Generator(
        Autoencoder(network, family, quantise),
        shape,
        output_range=family.output_range,
        code_mean=statistics.mean if statistics else 0.0,
        code_std=statistics.std.clamp_min(1e-3) if statistics else 1.0,
        name=name,
        recipe=RECIPE,
        encode=encode,
        provenance=provenance,
        options={"image_size": side} | ({"quantise": quantise} if class_name == "VQModel" else {}),
        notes={"class": class_name},
    )


def _sizes(class_name: str, network: Any, factor: int, image_size: int | None) -> tuple[int, tuple[int, ...]]:
    """Side of the image, and the code's shape."""
    if class_name == "AutoencoderRAE":
        side = int(network.decoder_image_size)
        if image_size not in (None, side):
            raise OptionError(f"this generator draws {side} px images only, got image_size={image_size}")
        return side, (int(network.config.encoder_hidden_size), side // factor, side // factor)
    side = 256 if image_size is None else image_size
    if not factor <= side <= LARGEST_SIDE or side % factor:
        raise OptionError(f"image_size must be a multiple of {factor}, at most {LARGEST_SIDE}, got {side}")
    channels = network.config.latent_channels
    if class_name == "VQModel" and network.config.vq_embed_dim is not None:
        channels = network.config.vq_embed_dim
    return side, (int(channels), side // factor, side // factor)


def read_network(files: Files, class_name: str, config: dict[str, Any], folder: str = "") -> Any:
    """A network of diffusers' class `class_name` with the weights that `files` has, names and shapes checked."""
    diffusers = import_diffusers()
    kind = getattr(diffusers, class_name, None)
    if kind is None:
        raise MissingExtraError(
            f"the installed diffusers {diffusers.__version__} has no {class_name}",
            fix="pip install --upgrade diffusers",
        )
    file = f"{files.source}/{folder}config.json"
    config = {key: value for key, value in config.items() if key in inspect.signature(kind.__init__).parameters}

    def build() -> nn.Module:
        network: nn.Module = kind.from_config(config)
        return network

    network = on_meta(build, file)
    path = files.weights(*(folder + name for name in WEIGHTS))
    tensors = read_tensors(path)
    fill(network, tensors, f"{files.source}/{folder}{path.name}", class_name)
    if any(buffer.is_meta for buffer in network.buffers()):  # computed in the constructor, in no checkpoint
        network = build()
        fill(network, tensors, f"{files.source}/{folder}{path.name}", class_name)
    return network


def import_diffusers() -> Any:
    """The diffusers package. Raises `MissingExtraError`."""
    try:
        import diffusers
    except ImportError as error:
        raise MissingExtraError("this generator needs diffusers", fix="pip install 'gen-prior[diffusers]'") from error
    return diffusers


__all__ = ["FAMILIES", "RECIPE", "Autoencoder", "from_files", "load", "read_network"]
