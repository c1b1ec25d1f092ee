"""The receptive field of a unit: the part of the input that can reach it at all."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.folding import unfolded
from gen_prior.classifiers.hooks import record_layers
from gen_prior.errors import OptionError
from gen_prior.objectives.targets import Target, parse_target

INPUT_SCALE = 1e-6


@dataclass(frozen=True)
class Box:
    """A rectangle of the classifier's input of `height` x `width` pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int
    height: int
    width: int

    @property
    def is_whole(self) -> bool:
        """Whether the unit sees the whole input."""
        return (self.top, self.left, self.bottom, self.right) == (0, 0, self.height, self.width)

    def crop(self, images: Tensor) -> Tensor:
        """Images `[..., H, W]` of any size, shown to the classifier whole -> the part in the box, at least a pixel."""
        rows = _scaled(self.top, self.bottom, images.shape[-2] / self.height, images.shape[-2])
        columns = _scaled(self.left, self.right, images.shape[-1] / self.width, images.shape[-1])
        return images[..., rows, columns]


def receptive_field(classifier: Classifier, target: str | int | Target) -> Box:
    """The smallest box that holds every input pixel which can change `target` (for a class: the whole input).

    A copy of the network gets positive weights of similar size and no biases, so that no path is switched off
    and none cancels another; then the pixels with a gradient are the receptive field. Follows any
    architecture; a unit that attention connects to every token sees the whole image.
    """
    parsed = parse_target(target, classifier)
    height, width = classifier.input_size
    network = _positive(classifier.network)
    noise = torch.rand(1, len(classifier.mean), height, width, generator=torch.Generator().manual_seed(0))
    inputs = (INPUT_SCALE * (1 + noise.double())).requires_grad_()  # far below where any ReLU6 saturates
    with record_layers(network, [parsed.layer]) as hooks:
        # Not `Target.read`: it rounds to float32, where long paths would vanish.
        activation = parsed.at_position(parsed.everywhere(hooks(inputs)))[0]
        (gradient,) = torch.autograd.grad(activation, inputs)
    seen = (gradient[0] != 0).any(0)
    if not seen.any():
        return Box(0, 0, height, width, height, width)
    rows, columns = seen.any(1).nonzero().flatten().tolist(), seen.any(0).nonzero().flatten().tolist()
    return Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1, height, width)


def at(target: Target, position: tuple[int, int]) -> Target:
    """The same channel at another place."""
    if isinstance(target.position, int) or target.position is None:
        raise OptionError(f"{target} has no places in an image")
    return replace(target, position=position)


def _positive(network: nn.Module) -> nn.Module:
    """A double-precision copy on the CPU whose weights average their inputs, unevenly, and whose norms do nothing."""
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
