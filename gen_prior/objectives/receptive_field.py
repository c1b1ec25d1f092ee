"""(classifier, target) -> `Box`: the part of the input that can change a unit, its receptive field."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.folding import unfolded
from gen_prior.classifiers.hooks import record_layers
from gen_prior.objectives.expressions import single_target
from gen_prior.objectives.mixes import Mix
from gen_prior.objectives.targets import Target

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


def receptive_field(classifier: Classifier, target: str | int | Target | Mix) -> Box:
    """Find the smallest box of the input that holds every pixel which can change `target`.

    Works for any architecture, by a gradient: a copy of the network gets positive weights of similar size and no
    biases, so that no path to the target is inactive and none cancels another. Then the pixels with a gradient other
    than zero are the receptive field. For a class, and for units behind attention, it is the whole input. That of a
    mix holds those of its units.

    Raises `TargetError` or `UnknownNameError` for a target that the classifier does not have.
    """
    terms = single_target(target, classifier).terms
    height, width = classifier.input_size
    network = _positive(classifier.network)
    noise = torch.rand(1, len(classifier.mean), height, width, generator=torch.Generator().manual_seed(0))
    inputs = (INPUT_SCALE * (1 + noise.double())).requires_grad_()
    with record_layers(network, [unit.layer for _, unit in terms]) as hooks:
        values = hooks(inputs)
        # Not by `Target.read`, which rounds to float32, where the gradients of long paths vanish.
        activation = torch.stack([unit.at_position(unit.everywhere(values))[0] for _, unit in terms]).sum()
        (gradient,) = torch.autograd.grad(activation, inputs)
    seen = (gradient[0] != 0).any(0)
    if not seen.any():
        return Box(0, 0, height, width, height, width)
    rows, columns = seen.any(1).nonzero().flatten().tolist(), seen.any(0).nonzero().flatten().tolist()
    return Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1, height, width)


def _positive(network: nn.Module) -> nn.Module:
    """Copy `network` in float64 on the CPU, with weights that average their inputs unevenly and idle norms."""
    twin = copy.deepcopy(network).cpu().double().eval()
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
