"""Measures of images by a classifier: class probabilities, features, activations and how they survive distortions.

Pure functions of tensors. Images are `[B, 3, H, W]`, RGB, in [0, 1], on any device; results are on the CPU.
Distortions are made at the classifier's input size, so that images of all sizes are measured alike.
`gen_prior.applications.measurement` gathers these measures for a whole result of `synthesize`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.objectives.mixes import AnyTarget
from gen_prior.report.spectrum import natural_noise
from gen_prior.util.image_io import from_pil, to_pil

CHUNK = 16
"""Images per forward pass."""
JPEG_QUALITY = 50
SHIFT = 8
NOISE_IMAGES, ABOVE_NOISE = 16, 2.0
"""A share of an activation is given where it is at least `ABOVE_NOISE` standard deviations of it over such images."""


@dataclass(frozen=True)
class Verdict:
    """Probability and rank (from 1) of one class, and the class of the largest logit, for each image; all `[B]`.

    Logits with NaN or infinity among them have probability NaN, rank 0 and class -1.
    """

    probability: Tensor
    rank: Tensor
    top_class: Tensor


def verdict(logits: Tensor, index: int) -> Verdict:
    """The verdict of logits `[B, K]` on class `index`."""
    logits = logits.detach().float().cpu()
    own = logits[:, index : index + 1]
    finite = logits.isfinite().all(1)
    probability = torch.where(finite, logits.softmax(1)[:, index], torch.nan)
    return Verdict(probability, ((logits > own).sum(1) + 1).where(finite, 0), logits.argmax(1).where(finite, -1))


def matching_class(classifier: Classifier, judge: Classifier, index: int) -> int | None:
    """Index of the judge's class with the same name as the classifier's class `index`; None if there is none."""
    if classifier.labels is None or judge.labels is None:
        return None
    if classifier.labels.entries == judge.labels.entries:
        return index
    name = classifier.labels[index]
    found = [label.index for label in judge.labels.entries if label.name == name]
    return found[0] if len(found) == 1 else None


def has_features(classifier: Classifier) -> bool:
    """Return whether the network has a linear layer, which `logits_and_features` needs."""
    return last_linear(classifier) is not None


def last_linear(classifier: Classifier) -> nn.Linear | None:
    """The network's last linear layer, or None."""
    linear = [module for module in classifier.network.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def logits_and_features(classifier: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits `[B, K]` and penultimate features `[B, D]`, the inputs of the network's last linear layer.

    Raises `OptionError` if there is no linear layer, or if it takes more than one vector per image.
    """
    linear = last_linear(classifier)
    if linear is None:
        raise OptionError(f"{classifier.name} has no linear layer, so no penultimate features")
    logits: list[Tensor] = []
    features: list[Tensor] = []
    caught: list[Tensor] = []
    handle = linear.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0]))
    try:
        for chunk in _chunks(classifier, images):
            caught.clear()
            logits.append(classifier(chunk).float().cpu())
            if caught[-1].ndim != 2:
                raise OptionError(
                    f"the last linear layer of {classifier.name} takes {list(caught[-1].shape)}, not [B, D]"
                )
            features.append(caught[-1].float().cpu())
    finally:
        handle.remove()
    return torch.cat(logits), torch.cat(features)


def logits_of(classifier: Classifier, images: Tensor) -> Tensor:
    """Logits `[B, K]` of the images."""
    return torch.cat([classifier(chunk).float().cpu() for chunk in _chunks(classifier, images)])


def activations_of(classifier: Classifier, target: AnyTarget, images: Tensor) -> Tensor:
    """The target's activation for each image, `[B]`."""
    with classifier.record_layers(target.layers) as reader:
        chunks = [target.read(reader(classifier.preprocess(chunk))) for chunk in _chunks(classifier, images)]
    return torch.cat(chunks).float().cpu()


def halved(images: Tensor) -> Tensor:
    """Images halved in size and enlarged again (bilinear, antialiased), without detail finer than two pixels."""
    size = images.shape[-2:]
    half = F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
    return F.interpolate(half, size, mode="bilinear", align_corners=False)


def jpeg(images: Tensor, quality: int = JPEG_QUALITY) -> Tensor:
    """Images saved as JPEG and read back."""

    def round_trip(image: Tensor) -> Tensor:
        buffer = io.BytesIO()
        to_pil(image).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer, formats=("JPEG",)) as file:
            return from_pil(file.convert("RGB")).to(image.device, image.dtype)

    return torch.stack([round_trip(image) for image in images])


def shifted(images: Tensor, pixels: int = SHIFT) -> Tensor:
    """Images moved right and down by `pixels`; the edge is repeated."""
    return F.pad(images, (pixels, 0, pixels, 0), mode="replicate")[..., : images.shape[-2], : images.shape[-1]]


DISTORTIONS: dict[str, Callable[[Tensor], Tensor]] = {"blur": halved, "jpeg": jpeg, "shift": shifted}


def activation_kept(classifier: Classifier, target: AnyTarget, images: Tensor) -> dict[str, Tensor]:
    """Share `[B]` of the target's activation that is left after each distortion.

    NaN where the activation is not positive, or so near zero that a share of it means nothing: below twice its standard
    deviation over 16 images of noise with the spectrum and colours of photographs.
    """
    inputs = classifier.resize(images.to(classifier.device))
    noise = natural_noise(NOISE_IMAGES, classifier.input_size)[:, : inputs.shape[1]]
    scale = activations_of(classifier, target, noise).std()
    before = activations_of(classifier, target, inputs)
    before = torch.where((before > 0) & (before >= ABOVE_NOISE * scale), before, torch.nan)
    return {name: activations_of(classifier, target, distort(inputs)) / before for name, distort in DISTORTIONS.items()}


def _chunks(classifier: Classifier, images: Tensor) -> Iterator[Tensor]:
    with torch.no_grad():
        for chunk in torch.split(images, 1 if classifier.one_image else CHUNK):
            yield chunk.to(classifier.device)
