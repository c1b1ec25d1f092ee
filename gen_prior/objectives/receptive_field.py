"""(classifier, target) -> `Box`: the part of the input that can change a unit, its receptive field."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.folding import unfolded
from gen_prior.classifiers.hooks import record_layers
from gen_prior.objectives.expressions import single_target
from gen_prior.objectives.mixes import AnyTarget, Mix
from gen_prior.objectives.targets import Target

Sides = tuple[int, int]
"""Positions of a layer along its height and its width."""
INPUT_SCALE = 1e-6
"""Inputs are so small that no ReLU6 saturates, which would cut the gradient off."""


@dataclass(frozen=True)
class Box:
    """A rectangle, bottom and right exclusive, in pixels of the classifier's input of `height` x `width`."""

    top: int
    left: int
    bottom: int
    right: int
    height: int
    width: int

    def crop(self, images: Tensor) -> Tensor:
        """Cut the box, at least one pixel, out of images `[..., H, W]` that are resized to the classifier's input."""
        rows = _scaled(self.top, self.bottom, images.shape[-2] / self.height, images.shape[-2])
        columns = _scaled(self.left, self.right, images.shape[-1] / self.width, images.shape[-1])
        return images[..., rows, columns]


def receptive_field(classifier: Classifier | str, target: str | int | Target | Mix) -> Box:
    """Find the smallest box of the input that holds every pixel which can change `target`.

    Works for any architecture, by a gradient: a copy of the network gets positive weights of similar size and no
    biases, so that no path to the target is inactive and none cancels another. Then the pixels with a gradient other
    than zero are the receptive field. For a class, and for units behind attention, it is the whole input. That of a
    mix holds those of its units.

    Raises `TargetError` or `UnknownNameError` for a target that the classifier does not have.
    """
    classifier = as_classifier(classifier)
    return _boxes(classifier, [single_target(target, classifier)])[0]


class ReceptiveFields:
    """Receptive fields of many units of a classifier, for far fewer gradients than positions.

    Convolutions do the same at every position, so a layer's fields are measured at five positions (the first two, the
    central one, the last two) and moved to the others, unless the central one shows that they do not move evenly.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._measured: dict[str, tuple[Sides, list[Box]]] = {}
        self._single: dict[Target, Box] = {}

    def of(self, target: Target) -> Box:
        """The box of `target`, as `receptive_field` finds it."""
        if isinstance(target.position, tuple) and len(target.position) == 2:
            if target.layer not in self._measured:
                self._measured[target.layer] = self._measure(target)
            sides, boxes = self._measured[target.layer]
            if _moved(boxes, sides, (sides[0] // 2, sides[1] // 2)) == boxes[2]:
                y, x = target.position
                return _moved(boxes, sides, (y, x))
        any_unit = target.any_unit
        if any_unit not in self._single:
            self._single[any_unit] = _boxes(self.classifier, [target])[0]
        return self._single[any_unit]

    def _measure(self, target: Target) -> tuple[Sides, list[Box]]:
        height, width = self.classifier.layout(target.layer).sides
        rows, columns = [[0, min(1, n - 1), n // 2, max(n - 2, 0), n - 1] for n in (height, width)]
        positions = [target.with_position(position) for position in zip(rows, columns, strict=True)]
        return (height, width), _boxes(self.classifier, positions)


def _moved(boxes: Sequence[Box], sides: Sides, position: tuple[int, int]) -> Box:
    """The box at `position`, from those of the first two, the central and the last two positions of a layer."""
    first, second, _, before_last, last = boxes
    y, x = position
    return Box(
        max(0, last.top - (last.top - before_last.top) * (sides[0] - 1 - y)),
        max(0, last.left - (last.left - before_last.left) * (sides[1] - 1 - x)),
        min(first.height, first.bottom + (second.bottom - first.bottom) * y),
        min(first.width, first.right + (second.right - first.right) * x),
        first.height,
        first.width,
    )


def _boxes(classifier: Classifier, targets: Sequence[AnyTarget]) -> list[Box]:
    """The receptive fields of targets: one forward pass of the positive network, a gradient for each."""
    height, width = classifier.input_size
    network = _positive(classifier.network)
    noise = torch.rand(1, len(classifier.mean), height, width, generator=torch.Generator().manual_seed(0))
    inputs = (INPUT_SCALE * (1 + noise.double())).requires_grad_()
    boxes = []
    layers = {layer: None for target in targets for layer in target.layers}
    with record_layers(network, layers, classifier.layouts()) as hooks:
        activations = hooks(inputs)
        for target in targets:
            # Not by `Target.read`, which rounds to float32, where the gradients of long paths vanish.
            units = [unit.at_position(unit.any_unit.everywhere(activations))[0] for _, unit in target.terms]
            (gradient,) = torch.autograd.grad(torch.stack(units).sum(), inputs, retain_graph=True)
            seen = (gradient[0] != 0).any(0)
            rows, columns = seen.any(1).nonzero().flatten().tolist(), seen.any(0).nonzero().flatten().tolist()
            whole = Box(0, 0, height, width, height, width)
            boxes.append(Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1, height, width) if rows else whole)
    return boxes


def _positive(network: nn.Module) -> nn.Module:
    """Copy `network` in float64 on the CPU, with weights that average their inputs unevenly and idle norms."""
    twin = copy.deepcopy(network).cpu().double()
    source = torch.Generator().manual_seed(0)
    modules = list(twin.modules())
    modules += [original.double() for original in map(unfolded, list(modules)) if original is not None]
    with torch.no_grad():
        for module in modules:
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim > 1:
                    spread = 0.4 + 0.2 * torch.rand(parameter.shape, generator=source, dtype=torch.float64)
                    parameter.copy_(spread / max(1, parameter[0].numel()))
                else:
                    parameter.fill_(0.0 if "bias" in name else 1.0)
            for name, buffer in module.named_buffers(recurse=False):
                if name in ("running_mean", "running_var"):
                    buffer.fill_(1.0 if name == "running_var" else 0.0)
    return twin.requires_grad_(False)


def _scaled(first: int, last: int, factor: float, limit: int) -> slice:
    start = min(int(first * factor), limit - 1)
    return slice(start, max(start + 1, min(limit, -int(-last * factor // 1))))
