"""Networks for controls: a unit, or the whole network, with shuffled weights.

What a method draws for these says what it draws whatever the unit (after the sanity checks of Adebayo et al. 2018,
arXiv 1810.03292). Shuffling keeps the distribution of the weights, so activations keep their scale.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.folding import unfolded
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.objectives.targets import Target

SEED = 0


def with_shuffled_unit(classifier: Classifier, target: Target) -> Classifier | None:
    """A copy in which the weights of the target's unit are shuffled; None where no layer of weights makes the unit.

    They are those of all convolutions and linear layers, up to the target's layer, that have as many outputs as it has
    units: blocks with a skip connection add to one unit in turn.
    """
    twin = copy.deepcopy(classifier)
    makers = _makers(twin.network, target.layer, classifier.layout(target.layer).units(target.layer))
    for maker in makers:
        for module in _with_original(maker):
            weight = module.get_parameter("weight")
            with torch.no_grad():
                weight[target.unit] = shuffled(weight[target.unit])
    return twin if makers else None


def with_shuffled_weights(classifier: Classifier) -> Classifier:
    """A copy in which the values of every tensor of weights are shuffled: a network that has learnt nothing."""
    twin = copy.deepcopy(classifier)
    with torch.no_grad():
        for parent in twin.network.modules():
            for module in _with_original(parent):
                for parameter in module.parameters(recurse=False):
                    parameter.copy_(shuffled(parameter))
    return twin


def shuffled(values: Tensor) -> Tensor:
    """The same values in another, always the same, order."""
    order = torch.randperm(values.numel(), generator=torch.Generator().manual_seed(SEED))
    return values.flatten()[order.to(values.device)].view(values.shape)


def _makers(network: nn.Module, layer: str, units: int) -> list[nn.Module]:
    named = list(network.named_modules())
    inside = [place for place, (name, _) in enumerate(named) if name == layer or name.startswith(f"{layer}.")]
    upto = len(named) if layer == LOGITS else inside[-1] + 1
    makers = [module for _, module in named[:upto] if _outputs(module) == units]
    return makers[-1:] if layer == LOGITS else makers


def _outputs(module: nn.Module) -> int | None:
    linear = isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
    return module.get_parameter("weight").shape[0] if linear else None


def _with_original(module: nn.Module) -> Iterable[nn.Module]:
    """The module and, where a norm is folded into it, the one without."""
    original = unfolded(module)
    return (module,) if original is None else (module, original)
