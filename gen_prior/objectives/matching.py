"""Objectives that ask for a certain activation: of a vector, an image, its style, or away from finished images.

Each is at most 0 (at most 2 for `apart_from`) and best where the wish is fulfilled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.hooks import Activations
from gen_prior.errors import OptionError
from gen_prior.objectives.base import Objective
from gen_prior.objectives.units import units_by_position

DISTANCES = ("l2", "cosine")


def match(layer: str, wanted: Tensor, distance: str = "l2") -> Objective:
    """Any desired activation (creation by refinement, Lewis 1988).

    Args:
        layer: where.
        wanted: the layer's output for one item, `[U]`, `[T, U]` or `[U, H, W]`; or `[U]` for a layer with
            places, which then is matched by its mean over the places.
        distance: "l2": minus the squared error relative to |wanted|^2 (Mahendran & Vedaldi 2015), so 0 at best
            and -1 for silence; "cosine": the cosine minus 1, indifferent to strength.

    Raises:
        OptionError: another distance, or a shape that the layer does not have.
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
                f"layer {layer!r} gives {list(activations[layer].shape[1:])}, but {list(wanted.shape)} is wanted"
            )
        goal = wanted.to(values.device).flatten()
        values = values.flatten(1)
        if distance == "cosine":
            return F.cosine_similarity(values, goal[None], dim=1) - 1
        size = goal.square().sum()
        return -(values - goal).square().sum(1) / torch.where(size > 0, size, 1.0)

    return Objective(score, (layer,), f"match of {layer} ({distance})")


def match_image(classifier: Classifier, image: Tensor, layer: str, distance: str = "l2") -> Objective:
    """The activation of `image` (`[3, H, W]` or `[1, 3, H, W]`, RGB in [0, 1]) at `layer`: its inversion."""
    matched = match(layer, _activations(classifier, image, [layer])[layer][0], distance)
    return Objective(matched.function, matched.layers, f"image at {layer} ({distance})")


def gram(activations: Activations, layer: str) -> Tensor:
    """A layer's activations -> `[B, U, U]`: which units are active together, wherever that is."""
    placed = units_by_position(activations, layer)
    return placed @ placed.transpose(1, 2) / placed.shape[2]


def style(classifier: Classifier, image: Tensor, layers: Sequence[str]) -> Objective:
    """The style of `image`: minus the relative squared error of the Gram matrices, mean over `layers`.

    After Gatys et al. 2015 (arXiv 1508.06576), each layer's error relative to its wanted Gram matrix. Image as in
    `match_image`. Raises `OptionError` for no layers.
    """
    if not layers:
        raise OptionError("style needs at least one layer")
    original = _activations(classifier, image, layers)
    wanted = {name: gram(original, name) for name in original}

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        errors = []
        for name, goal in wanted.items():
            size = goal.square().sum()
            error = (gram(activations, name) - goal).square().flatten(1).sum(1)
            errors.append(error / torch.where(size > 0, size, 1.0))
        return -torch.stack(errors).mean(0)

    return Objective(score, tuple(wanted), f"style of {', '.join(wanted)}")


def apart_from(classifier: Classifier, images: Tensor, layer: str) -> Objective:
    """Diversity by opt-in: the distance from images that are already finished, `[N, 3, H, W]` or `[3, H, W]`.

    Score in [0, 2]: 1 minus the largest cosine, over the finished images, of the Gram matrices at `layer` (after
    Olah et al. 2017). The finished images are constants, so the items of a batch stay independent and results
    depend on nothing but these images: `gen_prior.applications.sample.synthesize_apart` goes from seed to seed.
    """
    finished = images if images.ndim == 4 else images[None]
    if finished.ndim != 4 or not len(finished):
        raise OptionError(f"apart_from needs finished images [N, 3, H, W], got {list(images.shape)}")
    with torch.no_grad():
        theirs = classifier.activations(finished.to(classifier.device), [layer])
        others = F.normalize(gram(theirs, layer).flatten(1), dim=1)

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        own = F.normalize(gram(activations, layer).flatten(1), dim=1)
        return 1 - (own @ others.T).amax(1)

    return Objective(score, (layer,), f"apart from {len(finished)} at {layer}")


def _activations(classifier: Classifier, image: Tensor, layers: Sequence[str]) -> Activations:
    """`{layer: [1, ...]}` of one image, without a graph."""
    single = image[None] if image.ndim == 3 else image
    if single.ndim != 4 or len(single) != 1 or single.shape[1] != 3:
        raise OptionError(f"one image [3, H, W], RGB in [0, 1], is needed, got {list(image.shape)}")
    with torch.no_grad():
        return classifier.activations(single.float().to(classifier.device), layers)


__all__ = ["DISTANCES", "apart_from", "gram", "match", "match_image", "style"]
