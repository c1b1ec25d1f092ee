"""Autoencoders of the `diffusers` format: latent `[C, h, w]` of unit variance -> RGB image.

Loads repositories whose configuration names AutoencoderTiny (TAESD), AutoencoderKL (Rombach et al. 2022, arXiv
2112.10752), VQModel (van den Oord et al. 2017, arXiv 1711.00937; optimised before quantisation, with a straight-through
gradient), AutoencoderDC (Chen et al. 2025, arXiv 2410.10733) or AutoencoderRAE (Zheng et al. 2025, arXiv 2510.11690;
decoders of DINOv2, SigLIP2 or MAE features). The registry states paper and licence of known repositories.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.generators.code_statistics import find_statistics
from gen_prior.generators.diffusers.network import read_network, require_diffusers
from gen_prior.generators.shared.checks import LARGEST_SIDE, check_generates, image_side
from gen_prior.hub import registry
from gen_prior.hub.files import Files
from gen_prior.recipe import Recipe

CHECKED_SIDE = 4
"""Side, in positions, of the code that a convolutional network has to decode before it is accepted."""
RECIPE = Recipe(
    rate=0.05,
    prior_weight=0.1,
    transforms=(("affine", {"degrees": 8.0, "scale": (0.9, 1.2), "shift": 0.06}),),
    domain="code",
    source="settings of ours: the latents' unit Gaussian as prior, the transforms of dgn-lite0",
)


class Family(NamedTuple):
    """Functions for one class of autoencoder.

    `factor`: config -> side in pixels of a code position; `decode`: network, code, quantise -> image in `output_range`;
    `encode`: network, image in [0, 1] -> code.
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
    """Code of unit variance -> latent, by the scaling in the config."""
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
    "AutoencoderDC": Family(
        lambda config: int(2 ** (len(config.encoder_block_out_channels) - 1)),
        _decode_latent,
        lambda network, image: _to_code(network, network.encode(2 * image - 1).latent),
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
    """Load `diffusers:WHERE`, the repository `org/name[/folder][@revision]`; `options` as of `from_files`."""
    files = Files.from_hub(where, revision=revision)
    return from_files(files, name=f"diffusers:{where}", **options)


def from_files(
    files: Files, *, name: str, folder: str = "", image_size: int | None = None, quantise: bool = True
) -> Generator:
    """The autoencoder with `config.json` and weights in `folder` of `files`.

    Args:
        image_size: side of the image in pixels, the largest possible up to 256 if None; an AutoencoderRAE has only one.
        quantise: for a VQModel, replace the code by its nearest codebook entries.

    Raises:
        OptionError: a size that the network cannot generate. WeightsError: another class, or weights that do not fit.
        MissingExtraError: diffusers is not installed.
    """
    require_diffusers()
    if not isinstance(quantise, bool):
        raise OptionError(f"quantise must be True or False, got {quantise!r}")
    with files.loading():
        config = files.json(f"{folder}config.json")
        class_name = str(config.get("_class_name"))
        if class_name not in FAMILIES:
            raise WeightsError(
                f"{files.source}/{folder}config.json names the class {class_name!r}",
                fix=f"use a repository of {', '.join(FAMILIES)}, or consistency:REPO for a consistency model",
            )
        network = read_network(files, class_name, config, folder)
        factor = FAMILIES[class_name].factor(network.config)
        side, shape = _sizes(class_name, network, factor, image_size, f"{files.source}/{folder}config.json")
        return _assemble(files, name, class_name, network, side, shape, quantise)


def _assemble(
    files: Files, name: str, class_name: str, network: Any, side: int, shape: tuple[int, ...], quantise: bool
) -> Generator:
    family = FAMILIES[class_name]
    entry = registry.find_by_source(files.source)
    provenance = files.provenance(licence=entry.licence if entry else None, paper=entry.paper if entry else None)
    statistics = find_statistics(provenance, shape, files)

    def encode(images: Tensor) -> Tensor:
        if tuple(images.shape[-2:]) != (side, side):
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
        return family.encode(network, images)

    generator = Generator(
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
    # A convolutional network is tested on a small code, which takes little time and memory.
    factor = family.factor(network.config)
    sides = shape[1:] if class_name == "AutoencoderRAE" else tuple(min(CHECKED_SIDE, length) for length in shape[1:])
    code = torch.randn(shape[0], *sides, generator=torch.Generator().manual_seed(0))
    return check_generates(generator, files.source, code=code, size=(sides[0] * factor, sides[1] * factor))


def _sizes(
    class_name: str, network: Any, factor: int, image_size: int | None, file: str
) -> tuple[int, tuple[int, ...]]:
    """Side of the image in pixels, and shape of the code. Raises `OptionError`, `WeightsError`."""
    if class_name == "AutoencoderRAE":
        side = int(network.decoder_image_size)
        if side > LARGEST_SIDE:
            raise WeightsError(f"{file} describes images of {side} px, the limit is {LARGEST_SIDE}")
        if image_size is not None and (isinstance(image_size, bool) or image_size != side):
            raise OptionError(f"this generator makes {side} px images only, got image_size={image_size}")
        return side, (int(network.config.encoder_hidden_size), side // factor, side // factor)
    if not 1 <= factor <= LARGEST_SIDE:
        raise WeightsError(f"{file} describes {factor} pixels for each position of the code")
    channels = int(network.config.latent_channels)
    if class_name == "VQModel" and network.config.vq_embed_dim is not None:
        channels = int(network.config.vq_embed_dim)
    ends = torch.zeros(channels, 1, 1), torch.ones(channels, 1, 1)
    start, end = (_to_latent(network, code) for code in ends)
    if not torch.isfinite(end - start).all() or (end == start).any():
        raise WeightsError(f"{file}: scaling_factor, shift_factor or the latents' mean and std make all codes equal")
    side = max(factor, 256 // factor * factor) if image_size is None else image_size
    image_side(side, least=factor, multiple=factor)
    return side, (channels, side // factor, side // factor)


def latent_decoder(repo: str, shape: tuple[int, ...], side: int, known: str) -> Generator:
    """The autoencoder in `repo`, whose code is a model's latent of this shape, for images of `side` pixels.

    `known`: a repository of the same latents, for the message. Raises `OptionError` for another one.
    """
    decoder = from_files(Files.from_hub(repo), name=f"diffusers:{repo}", image_size=side)
    if decoder.code_shape != shape:
        raise OptionError(
            f"{repo} decodes latents of shape {list(decoder.code_shape)}, this model draws {list(shape)}",
            fix=f"leave the decoder out, or name one of the latents of {known}",
        )
    return decoder


def pinned(decoder: Generator) -> str:
    """`org/name@commit` of a decoder."""
    return f"{decoder.provenance.source.partition(':')[2]}@{decoder.provenance.revision}"


__all__ = ["FAMILIES", "RECIPE", "Autoencoder", "from_files", "latent_decoder", "load", "pinned"]
