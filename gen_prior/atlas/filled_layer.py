"""Logits of a network when every position of a layer holds the same activation.

This names the classes that an activation speaks for. Carter et al. (2019) take the gradient of the logits at one
position of photographs, times the activation. In EfficientNet-Lite0 that sum says the opposite in many layers: the
class of a photograph ranks below most others there, and so it does when the position is really set to zero. The
difference of logits between two filled layers is the sum over units of the integrated gradients (Sundararajan et al.
2017) along the line from one activation to the other, and ranks the photograph's class near the top.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.folding import unfolded
from gen_prior.classifiers.outputs import LOGITS, as_tensor, split_run
from gen_prior.util.devices import one_thread


def class_effects(classifier: Classifier, layer: str, vectors: Tensor, reference: Tensor, batch: int = 16) -> Tensor:
    """Logits with `layer` filled with each of `vectors`, less those with it filled with `reference`.

    Args:
        vectors: activations `[N, units]`.
        reference: an activation `[units]`, such as the mean over photographs.

    Returns:
        `[N, classes]`, each row of mean 0, since only differences between logits count.
    """
    rows = torch.cat([reference[None], vectors]).to(classifier.device)
    with torch.no_grad(), one_thread(classifier.device):
        size = 1 if classifier.one_image else batch
        logits = torch.cat([_logits(classifier, layer, part) for part in rows.split(size)]).float().cpu()
    effects = logits[1:] - logits[0]
    return effects - effects.mean(1, keepdim=True)


def names_classes(classifier: Classifier, layer: str) -> bool:
    """True if there are `class_effects`: the network has a row of logits for each image, and `layer` is hidden."""
    logits = classifier.layouts().get(LOGITS)
    return classifier.has_classes and layer != LOGITS and logits is not None and len(logits.shape) == 1


def _logits(classifier: Classifier, layer: str, vectors: Tensor) -> Tensor:
    """Logits of grey images, with `layer` filled."""
    name, run = split_run(layer)
    module = dict(classifier.network.named_modules(remove_duplicate=False))[name]
    images = classifier.preprocess(torch.full((len(vectors), 3, *classifier.input_size), 0.5, device=vectors.device))
    axis = classifier.layout(layer).known_axis(layer)
    values = _as_computed(module, vectors)

    def fill(output: Tensor) -> Tensor:
        filled = torch.empty_like(output).movedim(axis, 1)
        filled.copy_(values.view(*values.shape, *[1] * (output.ndim - 2)).expand_as(filled))
        return filled.movedim(1, axis).contiguous()

    with _counted(module) as runs:
        classifier.network(images)
    wanted = runs[0] - 1 if run is None else run
    with _replaced(module, wanted, fill):
        return as_tensor(classifier.network(images))


def _as_computed(module: nn.Module, vectors: Tensor) -> Tensor:
    """`vectors` as the module puts them out: layers are recorded without a norm that was folded into them."""
    original = unfolded(module)
    if original is None:
        return vectors
    now, before = (part.weight.flatten(1) for part in (module, original))  # type: ignore[operator]
    scale = (now * before).sum(1) / before.square().sum(1).clamp_min(1e-30)
    shift = module.bias - (0.0 if original.bias is None else scale * original.bias)  # type: ignore[operator]
    return vectors * scale + shift


@contextmanager
def _counted(module: nn.Module) -> Iterator[list[int]]:
    """Yields a list whose only number counts the runs of `module` in the block."""
    runs = [0]

    def count(module: nn.Module, inputs: object, output: object) -> None:
        runs[0] += 1

    handle = module.register_forward_hook(count)
    try:
        yield runs
    finally:
        handle.remove()


@contextmanager
def _replaced(module: nn.Module, wanted: int, fill: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """In the block, the tensor that `module` puts out at run `wanted` of it is replaced by `fill` of it."""
    runs = itertools.count()

    def replace(module: nn.Module, inputs: object, output: object) -> object:
        if next(runs) != wanted:
            return None
        old = as_tensor(output)
        new = fill(old)
        if isinstance(output, dict):  # and the named outputs of transformers
            return type(output)({key: new if part is old else part for key, part in output.items()})
        if isinstance(output, tuple | list):
            return type(output)([new if part is old else part for part in output])
        return new

    handle = module.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()
