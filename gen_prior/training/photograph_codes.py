"""White codes and classifier features of all photographs, computed once and kept in a file."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers import Classifier
from gen_prior.classifiers.outputs import as_tensor
from gen_prior.errors import WeightsError
from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors
from gen_prior.report.metrics import last_linear
from gen_prior.training.networks import Encoder, FeatureExtractor, to_channels_last
from gen_prior.training.photographs import Photographs
from gen_prior.training.prior_file import Prior
from gen_prior.training.settings import mixed_precision
from gen_prior.training.stage import Material
from gen_prior.util.progress import Progress, ProgressCallback

CODES_FILE = "codes.safetensors"
BATCH = 64
VIEW = 192
"""Side in pixels at which the classifier sees photographs for their features, unless the settings say."""
SAMPLE = 256
"""Photographs over which the stds of features are taken."""


class PhotographCodes(NamedTuple):
    """White codes `[N, 2, D]` of photographs and their mirror images; penultimate features `[N, F]`; float16."""

    white: Tensor
    features: Tensor
    head: nn.Linear
    """The layer of the classifier that turns the features into the logits."""
    classifier: Classifier


def last_layer(classifier: Classifier) -> nn.Linear:
    """The linear layer that gives the logits; where the classifier ends otherwise, the identity of its outputs."""
    linear, outputs = last_linear(classifier), classifier.classes
    if linear is not None and linear.out_features == outputs:
        return linear
    identity = nn.Linear(outputs, outputs, bias=False).requires_grad_(False)
    identity.weight.copy_(torch.eye(outputs))
    return identity


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


def read_codes(material: Material, view: int) -> PhotographCodes:
    """Codes of photographs by the prior's encoder, and features of the photographs enlarged to side `view`.

    They are read from the cache if it holds those of the same prior, photographs and view, else computed and written
    there.
    """
    prior, photographs, classifier = material.prior, material.photographs, material.classifier
    assert prior is not None
    assert photographs is not None
    assert classifier is not None
    file, head = material.cache / CODES_FILE, last_layer(classifier)
    key = f"{prior.sha256}-{photographs.description.listing_sha256}-{view}"
    try:
        if read_file_metadata(file).get("key") == key:
            kept = read_tensors(file)
            return PhotographCodes(kept["white"], kept["features"], head, classifier)
    except (OSError, WeightsError, KeyError):
        pass
    white, features = _encode_all(prior, photographs, classifier, head, view, material.progress)
    save_safetensors(file, {"white": white, "features": features}, {"key": key})
    return PhotographCodes(white, features, head, classifier)


class PhotographEncoder:
    """Photographs -> spatial codes by a prior's encoder, its features divided by their stds over a sample."""

    def __init__(self, prior: Prior, sample: Tensor) -> None:
        """`sample`: `[N, 3, S, S]`, of the side of the prior's coarse images."""
        device = sample.device
        self.extractor = to_channels_last(cast(FeatureExtractor, prior.extractor).eval(), device)
        self.encoder = to_channels_last(cast(Encoder, prior.encoder).eval(), device)
        self.stds = self.extractor.stds(sample)

    def __call__(self, images: Tensor) -> Tensor:
        """Mean spatial codes `[B, C, H, W]` of images `[B, 3, S, S]`."""
        mean: Tensor = self.encoder(self.extractor.scaled(images, self.stds))[0]
        return mean.float()


def _encode_all(
    prior: Prior,
    photographs: Photographs,
    classifier: Classifier,
    head: nn.Linear,
    view: int,
    progress: ProgressCallback | None,
) -> tuple[Tensor, Tensor]:
    """Codes and features of all photographs, in batches, with mixed precision."""
    device, count = classifier.device, len(photographs)
    mean, basis = prior.network.mean.float().flatten().to(device), prior.network.basis.float().to(device)
    whiten = basis / basis.square().sum(0)
    caught: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0]))
    white, features = [], []
    try:
        with torch.no_grad(), mixed_precision("auto", device):
            sample = torch.linspace(0, count - 1, min(SAMPLE, count)).long()
            encode = PhotographEncoder(prior, photographs.batch(sample, device=device))
            for indices in torch.arange(count).split(BATCH):
                images = photographs.batch(indices, device=device)
                both = torch.cat([images, images.flip(-1)]).contiguous(memory_format=torch.channels_last)
                code = encode(both).flatten(1) - mean
                with torch.autocast(device.type, enabled=False):
                    code = code @ whiten
                white.append(code.half().cpu().view(2, len(images), -1).transpose(0, 1))
                large = F.interpolate(images, (view, view), mode="bicubic", antialias=True).clamp(0, 1)
                large = large if encode.extractor.any_size else classifier.resize(images)
                caught.clear()
                outputs = as_tensor(
                    classifier.network(classifier.normalise(large).contiguous(memory_format=torch.channels_last))
                )
                features.append((caught[-1] if caught else outputs).half().cpu())
                if progress is not None:
                    progress(Progress(int(indices[-1]) + 1, count, "encoding photographs"))
    finally:
        handle.remove()
    return torch.cat(white).contiguous(), torch.cat(features)
