"""Of every photograph its code, its mirror image's code, and the classifier's penultimate features: made once, kept."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers import Classifier
from gen_prior.classifiers.hooks import LOGITS
from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.dgn.network import WhiteCodes
from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors
from gen_prior.report.metrics import last_linear
from gen_prior.training.gan import placed
from gen_prior.training.networks import Encoder, Trunk
from gen_prior.training.photographs import Count, Photographs

BATCH = 64
SAMPLE = 256
"""Photographs from which the deviations of the trunk's features are taken."""


class Codes(NamedTuple):
    """White codes `[N, 2, D]` of photographs and their mirror images, penultimate features `[N, F]`, float16."""

    white: Tensor
    features: Tensor


def head_of(classifier: Classifier) -> nn.Linear:
    """The last linear layer, from features to classes. Raises `OptionError` where there is none."""
    linear = last_linear(classifier)
    if linear is None or linear.out_features != classifier.layer_shape(LOGITS)[0]:
        raise OptionError(f"{classifier.name} has no linear layer at its end, so no penultimate features")
    return linear


def wanted_features(head: nn.Linear, deviations: Tensor) -> Tensor:
    """What each class asks for in white features, `[classes, K]` of length 1, where a white feature of 1 moves the
    head's inputs by its column of `deviations` (`[F, K]`)."""
    rows = head.weight.detach().float().cpu()
    return F.normalize((rows - rows.mean(0)) @ deviations, dim=1)


def principal_axes(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Variances `[D]`, largest first and never negative, and the directions (columns, `[D, D]`) that have them."""
    values, vectors = torch.linalg.eigh(covariance)
    return values.flip(0).clamp_min(0), vectors.flip(1)


def white_features(features: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """The `kept` principal components of `[N, F]` at unit deviation, `[N, kept]`, and what each moves, `[F, kept]`."""
    values = features.float()
    centred = values - values.mean(0)
    variances, vectors = principal_axes((centred.T @ centred / len(centred)).double())
    scale = variances[:kept].clamp_min(1e-12).sqrt().float()
    basis = vectors[:, :kept].float()
    return centred @ (basis / scale), basis * scale


def read_codes(
    classifier: Classifier,
    trunk: Trunk,
    encoder: Encoder,
    space: WhiteCodes,
    photographs: Photographs,
    view: int,
    cache: Path,
    made_from: str,
    progress: Count | None = None,
) -> Codes:
    """Codes by `encoder`, and features of the photographs enlarged to `view`, kept in the file `cache`.

    `made_from` tells the networks apart: a cache of others is made anew.
    """
    key = f"{made_from}-{photographs.description.listing_sha256}-{view}"
    try:
        if read_file_metadata(cache).get("key") == key:
            kept = read_tensors(cache)
            return Codes(kept["white"], kept["features"])
    except (OSError, WeightsError, KeyError):
        pass
    device = classifier.device
    trunk, encoder = placed(trunk.eval(), device), placed(encoder.eval(), device)
    mean, basis = space.mean.float().flatten().to(device), space.basis.float().to(device)
    scale = basis / basis.square().sum(0)
    caught: list[Tensor] = []
    handle = head_of(classifier).register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0]))
    white, features = [], []
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            order = torch.linspace(0, len(photographs) - 1, min(SAMPLE, len(photographs))).long()
            sample = trunk(classifier.normalise(photographs.batch(order, device=device)))
            deviations = [feature.float().std((0, 2, 3)).clamp_min(1e-3) for feature in sample]
            for start in range(0, len(photographs), BATCH):
                images = photographs.batch(torch.arange(start, min(start + BATCH, len(photographs))), device=device)
                both = torch.cat([images, images.flip(-1)]).contiguous(memory_format=torch.channels_last)
                seen = trunk(classifier.normalise(both))
                scaled = [f.float() / d[:, None, None] for f, d in zip(seen, deviations, strict=True)]
                code = encoder(scaled)[0].float().flatten(1) - mean
                with torch.autocast(device.type, enabled=False):
                    code = code @ scale
                white.append(code.half().cpu().view(2, len(images), -1).transpose(0, 1))
                large = F.interpolate(images, (view, view), mode="bicubic", antialias=True).clamp(0, 1)
                caught.clear()
                classifier.network(classifier.normalise(large).contiguous(memory_format=torch.channels_last))
                features.append(caught[-1].half().cpu())
                if progress is not None:
                    progress(start + len(images), len(photographs))
    finally:
        handle.remove()
    codes = Codes(torch.cat(white).contiguous(), torch.cat(features))
    save_safetensors(cache, codes._asdict(), {"key": key})
    return codes
