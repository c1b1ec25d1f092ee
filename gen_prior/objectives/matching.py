"""Objectives that compare activations with a given vector or image: matching, style, guidance, and dissimilarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.hooks import Activations
from gen_prior.errors import OptionError
from gen_prior.objectives.base import Objective, holding, made_by
from gen_prior.objectives.units import units_by_position
from gen_prior.util.image_io import AnyImage, as_image

DISTANCES = ("l2", "cosine")
MAX_KEPT = 2**14
"""Most numbers of a wanted activation that a result keeps."""


def match(layer: str, wanted: Tensor, distance: str = "l2") -> Objective:
    """Match a given activation of a layer (creation by refinement, Lewis 1988). Scores are at most 0.

    Args:
        layer: its name.
        wanted: the layer's output for one image, `[U]`, `[T, U]` or `[U, H, W]`; `[U]` for a layer with positions
            matches its mean over all positions.
        distance: "l2" scores minus the squared error divided by |wanted|^2 (Mahendran & Vedaldi 2015), which is -1
            for an activation of zero; "cosine" scores the cosine minus 1, whatever the magnitude.

    Raises:
        OptionError: another distance, a value that is not finite, or, when scored, a shape that the layer lacks.
    """
    if distance not in DISTANCES:
        raise OptionError(f"distance must be one of {', '.join(DISTANCES)}, got {distance!r}")
    wanted = wanted.detach().float()
    if not torch.isfinite(wanted).all():
        raise OptionError("the wanted activation must be finite")

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        values = activations[layer].float()
        if wanted.ndim == 1 and values.ndim > 2:
            values = units_by_position(activations, layer).mean(2)
        if values.shape[1:] != wanted.shape:
            raise OptionError(
                f"layer {layer!r} has shape {list(activations[layer].shape[1:])}, but {list(wanted.shape)} is wanted"
            )
        reference = wanted.to(values.device).flatten()
        values = values.flatten(1)
        if distance == "cosine":
            return F.cosine_similarity(values, reference[None], dim=1) - 1
        size = reference.square().sum()
        return -(values - reference).square().sum(1) / torch.where(size > 0, size, 1.0)

    if wanted.numel() <= MAX_KEPT:
        made_by(score, "match", layer=layer, wanted=wanted, distance=distance)
    else:
        holding(score, "activations")
    return Objective(score, (layer,), f"match of {layer} ({distance})", positions=((layer, "all"),))


def match_image(classifier: Classifier | str, image: AnyImage, layer: str, distance: str = "l2") -> Objective:
    """Match the activation of an image at `layer`: its inversion (Mahendran & Vedaldi 2015), see `match`.

    `image`: `[3, H, W]` or `[1, 3, H, W]`, RGB in [0, 1], a PIL picture or an image file. Raises `OptionError` for
    another shape, `ImageError` for another file.
    """
    classifier = as_classifier(classifier)
    matched = match(layer, _activations(classifier, image, [layer])[layer][0], distance)
    return replace(matched, description=f"image at {layer} ({distance})")


def gram(activations: Activations, layer: str) -> Tensor:
    """Gram matrix of a layer, `[B, U, U]`: products of units, averaged over positions (Gatys et al. 2015)."""
    units = units_by_position(activations, layer)
    return units @ units.transpose(1, 2) / units.shape[2]


def style(classifier: Classifier | str, image: AnyImage, layers: Sequence[str]) -> Objective:
    """Match the style of an image (Gatys et al. 2015, arXiv 1508.06576). Scores are at most 0.

    The score is minus the mean over `layers` of the squared error of the Gram matrix, divided by the squared norm of
    the image's. `image` as in `match_image`. Raises `OptionError` for no layers or another shape.
    """
    classifier = as_classifier(classifier)
    if not layers:
        raise OptionError("style needs at least one layer")
    original = _activations(classifier, image, layers)
    wanted = {name: gram(original, name) for name in original}

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        errors = []
        for name, reference in wanted.items():
            size = reference.square().sum()
            error = (gram(activations, name) - reference).square().flatten(1).sum(1)
            errors.append(error / torch.where(size > 0, size, 1.0))
        return -torch.stack(errors).mean(0)

    holding(score, "photographs")
    return Objective(score, tuple(wanted), f"style of {', '.join(wanted)}")


def guide(classifier: Classifier | str, image: AnyImage, layer: str) -> Objective:
    """Guided dreaming (Mordvintsev et al. 2015): at each position, more of what resembles it most in a guide image.

    The score is the mean over positions of the largest dot product of the layer's units there with those at any
    position of the guide. `image` as in `match_image`. Raises `OptionError` for another shape.
    """
    classifier = as_classifier(classifier)
    guide_units = units_by_position(_activations(classifier, image, [layer]), layer)[0]

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        units = units_by_position(activations, layer)
        return (units.mT @ guide_units.to(units)).amax(2).mean(1)

    holding(score, "photographs")
    return Objective(score, (layer,), f"guide at {layer}")


def apart_from(classifier: Classifier | str, images: Tensor, layer: str) -> Objective:
    """Differ in style from finished images, for diversity (after Olah et al. 2017). Scores are in [0, 2].

    The score is 1 minus the largest cosine similarity of the Gram matrices at `layer` to those of `images`,
    `[N, 3, H, W]` or `[3, H, W]`, RGB in [0, 1]. These are constants, so the items of a batch stay independent; see
    `gen_prior.synthesize_apart` for seeds one after another. Raises `OptionError` for another shape.
    """
    classifier = as_classifier(classifier)
    finished = images if images.ndim == 4 else images[None]
    if finished.ndim != 4 or not len(finished):
        raise OptionError(f"apart_from needs finished images [N, 3, H, W], got {list(images.shape)}")
    with torch.no_grad():
        activations_before = classifier.activations(finished.to(classifier.device), [layer])
        grams_before = F.normalize(gram(activations_before, layer).flatten(1), dim=1)

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        grams = F.normalize(gram(activations, layer).flatten(1), dim=1)
        return 1 - (grams @ grams_before.T).amax(1)

    holding(score, "photographs")
    return Objective(score, (layer,), f"apart from {len(finished)} at {layer}", positions=())


def _activations(classifier: Classifier, image: AnyImage, layers: Sequence[str]) -> Activations:
    """Return `{layer: [1, ...]}` of one image, without gradients."""
    single = as_image(image[0] if isinstance(image, Tensor) and image.ndim == 4 and len(image) == 1 else image)
    with torch.no_grad():
        return classifier.activations(single[None].to(classifier.device), layers)
