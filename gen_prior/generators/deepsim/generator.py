"""DeePSim (Dosovitskiy & Brox 2016, arXiv 1602.02644): features of a CaffeNet layer -> RGB image of 240 or 256 px.

Loads the PyTorch port of the published generators, such as `deepsim-fc6` with codes `[4096]`; the registry states their
licence. With the classifier `caffenet`, its defaults are those of Nguyen et al. 2016 (DGN-AM, arXiv 1605.09304).
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers import caffenet
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.generators.code_statistics import Statistics, find_statistics
from gen_prior.generators.deepsim.network import VARIANTS, CentreCrop, Variant, build
from gen_prior.generators.shared.checks import check_generates
from gen_prior.hub import registry
from gen_prior.hub.files import Files
from gen_prior.hub.provenance import Provenance
from gen_prior.hub.tensors import read_tensors
from gen_prior.recipe import Recipe

ENCODER_SIDE = 227
FOLLOW = "classifier"
"""Value of `crop`: the side of the classifier's input if that is about CaffeNet's; otherwise, or without one, 227."""
SMALLEST_FOLLOWED = 0.8
"""Smallest crop that follows the classifier, in parts of the image's side; a crop of 64 px would not hold an object."""

FALLBACK_BOUND = {"relu6": 11.85, "relu7": 30.0, "fc8": 30.0}
"""Upper bound of a code unit without calibration: for fc6 the mean of the authors' bounds (3 to 17, each the
mean + 3 std of its unit); for the others the range that PPGN (arXiv 1612.00005) clips to."""

RECIPE = Recipe(
    steps=200,
    optimiser="normalised",
    rate=8.0,
    shrink=0.99,
    domain="code",
    source="DGN-AM, Nguyen et al. 2016, arXiv 1605.09304: setting for CaffeNet (rate 2.0 for GoogLeNet)",
)


def load(name: str, *, revision: str | None = None, crop: int | str | None = FOLLOW) -> Generator:
    """Load the generator `name` ("deepsim-fc6", ...) from the Hub, on the CPU.

    Codes are CaffeNet's activations, at least 0 (fc8: any sign), at most mean + 3 std of each unit if `gen-prior
    calibrate` has measured them.

    `crop`: side in pixels of the image's centre that is kept; None for the whole image; "classifier" for the side of
    the classifier's input (227 for CaffeNet, 224 for GoogLeNet). Raises `DownloadError`, `WeightsError`, `OptionError`.
    """
    entry = registry.find(name)
    files = Files.of_entry(entry, revision)
    with files.loading():
        path = files.weights(*entry.files)
        return assemble(name, read_tensors(path), files, name=name, crop=crop)


def assemble(
    variant_name: str, published: dict[str, Tensor], files: Files, *, name: str, crop: int | str | None = FOLLOW
) -> Generator:
    """The generator from published tensors, which are emptied; `files` recorded where they are from."""
    variant = VARIANTS[variant_name]
    in_range = isinstance(crop, int) and not isinstance(crop, bool) and 1 <= crop <= variant.side
    if crop not in (None, FOLLOW) and not in_range:
        raise OptionError(
            f"crop must be from 1 to {variant.side}, None for the whole image or {FOLLOW!r}, got {crop!r}"
        )
    network = build(variant_name, published, files.source)
    entry = registry.find(variant_name)
    provenance = files.provenance(licence=entry.licence, paper=entry.paper)
    statistics = find_statistics(provenance, variant.code_shape, files)
    return check_generates(_build(variant_name, network, provenance, statistics, name, crop), files.source)


def _build(
    variant_name: str,
    network: nn.Module,
    provenance: Provenance,
    statistics: Statistics | None,
    name: str,
    crop: int | str | None,
) -> Generator:
    variant, side = VARIANTS[variant_name], ENCODER_SIDE if isinstance(crop, str) else crop

    def fit(size: tuple[int, int]) -> Generator:
        return _build(variant_name, network, provenance, statistics, name, _crop_for(variant, size))

    bound = FALLBACK_BOUND.get(variant.encoder_layer, 30.0)
    signed = variant.encoder_layer == "fc8"
    return Generator(
        nn.Sequential(OrderedDict(network=network, crop=CentreCrop(side))) if side is not None else network,
        variant.code_shape,
        output_range=(0, 1),
        code_mean=statistics.mean if statistics else 0.0,
        code_std=statistics.std.clamp_min(1e-3) if statistics else bound / 3,
        code_min=(statistics.mean - 3 * statistics.std if statistics else -bound) if signed else 0.0,
        code_max=statistics.mean + 3 * statistics.std if statistics else bound,
        name=name,
        recipe=RECIPE,
        start=lambda rng: torch.randn(variant.code_shape, generator=rng),
        encode=_encoder(variant, side),
        fit=fit if crop == FOLLOW else None,
        provenance=provenance,
        options={"crop": crop},
        notes={
            "variant": variant_name,
            "bounds": "mean + 3 std, calibrated" if statistics else f"up to {bound:g}, not calibrated",
        },
    )


def _crop_for(variant: Variant, size: tuple[int, int]) -> int:
    """Side of the crop for a classifier whose input is (height, width)."""
    side = min(*size, variant.side)
    return side if side >= SMALLEST_FOLLOWED * variant.side else ENCODER_SIDE


def _encoder(variant: Variant, crop: int | None) -> Any:
    """The encoder: images -> activations of CaffeNet, which is downloaded at the first call."""

    @cache
    def classifier() -> Any:
        return caffenet.load("caffenet")

    def encode(images: Tensor) -> Tensor:
        network = classifier().to(images.device)
        if crop != ENCODER_SIDE:  # the code describes the centre of the uncropped image
            side = variant.side if crop is None else crop
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
            if side > ENCODER_SIDE:
                images = CentreCrop(ENCODER_SIDE)(images)
        code: Tensor = network.activations(images, [variant.encoder_layer])[variant.encoder_layer]
        return code

    return encode


__all__ = ["RECIPE", "assemble", "load"]
