"""White codes and classifier features of all photographs, computed once and kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError, WeightsError
from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors
from gen_prior.report.metrics import last_linear
from gen_prior.training.networks import to_channels_last
from gen_prior.training.photographs import Photographs
from gen_prior.training.prior_file import Prior
from gen_prior.util.progress import Progress, ProgressCallback

CODES_FILE = "codes.safetensors"
BATCH = 64
SAMPLE = 256
"""Photographs over which the stds of features are taken."""


class Codes(NamedTuple):
    """White codes `[N, 2, D]` of photographs and their mirror images; penultimate features `[N, F]`; float16."""

    white: Tensor
    features: Tensor


def last_layer(classifier: Classifier) -> nn.Linear:
    """The linear layer that gives the logits. Raises `OptionError` if the classifier does not end with one."""
    linear = last_linear(classifier)
    if linear is None or linear.out_features != classifier.classes:
        raise OptionError(f"{classifier.name} has no linear layer at its end, so no penultimate features")
    return linear


def class_directions(last: nn.Linear, basis: Tensor) -> Tensor:
    """Direction in white features that raises each class against the mean of all, `[classes, K]`, of length 1.

    `basis` (`[F, K]`): change of the penultimate features for each white feature.
    """
    rows = last.weight.detach().float().cpu()
    return F.normalize((rows - rows.mean(0)) @ basis, dim=1)


def principal_axes(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Variances `[D]`, largest first and never negative, and their directions (columns, `[D, D]`)."""
    values, vectors = torch.linalg.eigh(covariance)
    return values.flip(0).clamp_min(0), vectors.flip(1)


def white_features(features: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """First `kept` principal components of `[N, F]`, scaled to unit std, `[N, kept]`; and their basis `[F, kept]`."""
    values = features.float()
    centred = values - values.mean(0)
    variances, vectors = principal_axes((centred.T @ centred / len(centred)).double())
    scale = variances[:kept].clamp_min(1e-12).sqrt().float()
    basis = vectors[:, :kept].float()
    return centred @ (basis / scale), basis * scale


def read_codes(
    prior: Prior, photographs: Photographs, view: int, cache: Path, progress: ProgressCallback | None = None
) -> Codes:
    """Codes of photographs by the prior's encoder, and features of the photographs enlarged to side `view`.

    They are read from the folder `cache` if it holds those of the same prior, photographs and view, else computed and
    written there.
    """
    file = cache / CODES_FILE
    key = f"{prior.sha256}-{photographs.description.listing_sha256}-{view}"
    try:
        if read_file_metadata(file).get("key") == key:
            kept = read_tensors(file)
            return Codes(kept["white"], kept["features"])
    except (OSError, WeightsError, KeyError):
        pass
    codes = _encode_all(prior, photographs, view, progress)
    save_safetensors(file, codes._asdict(), {"key": key})
    return codes


def _encode_all(prior: Prior, photographs: Photographs, view: int, progress: ProgressCallback | None) -> Codes:
    """Compute codes and features in batches, with mixed precision."""
    classifier, count = prior.extractor.classifier, len(photographs)
    device = classifier.device
    extractor, encoder = (
        to_channels_last(prior.extractor.eval(), device),
        to_channels_last(prior.encoder.eval(), device),
    )
    mean, basis = prior.network.mean.float().flatten().to(device), prior.network.basis.float().to(device)
    whiten = basis / basis.square().sum(0)
    caught: list[Tensor] = []
    handle = last_layer(classifier).register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0]))
    white, features = [], []
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            sample = torch.linspace(0, count - 1, min(SAMPLE, count)).long()
            stds = extractor.stds(photographs.batch(sample, device=device))
            for indices in torch.arange(count).split(BATCH):
                images = photographs.batch(indices, device=device)
                both = torch.cat([images, images.flip(-1)]).contiguous(memory_format=torch.channels_last)
                code = encoder(extractor.scaled(both, stds))[0].float().flatten(1) - mean
                with torch.autocast(device.type, enabled=False):
                    code = code @ whiten
                white.append(code.half().cpu().view(2, len(images), -1).transpose(0, 1))
                large = F.interpolate(images, (view, view), mode="bicubic", antialias=True).clamp(0, 1)
                caught.clear()
                classifier.network(classifier.normalise(large).contiguous(memory_format=torch.channels_last))
                features.append(caught[-1].half().cpu())
                if progress is not None:
                    progress(Progress(int(indices[-1]) + 1, count, "encoding photographs"))
    finally:
        handle.remove()
    return Codes(torch.cat(white).contiguous(), torch.cat(features))
