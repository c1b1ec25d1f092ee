"""An objective: let intermediate features be distributed as in a unit's best photographs (VITAL).

Görgün, Schiele & Fischer, "VITAL: More Understandable Feature Visualization through Distribution Alignment and Relevant
Information Flow", ICCV 2025, arXiv 2503.22399. There in pixels; here an objective like any other, through any
generator. Relevance is gradient times activation, which for networks of rectified units is the layer-wise relevance
propagation of the paper without its stabilisers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gen_prior.applications.exemplars import Exemplar
from gen_prior.applications.photograph_counters import countable_layers
from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.hooks import Activations, LayerHooks
from gen_prior.errors import OptionError
from gen_prior.objectives.base import Objective, holding
from gen_prior.objectives.expressions import single_target
from gen_prior.objectives.targets import Target
from gen_prior.objectives.units import activation, units_by_position
from gen_prior.optimise.unit_scale import Placement, field_of
from gen_prior.util.words import counted

LAYERS = 4
"""Layers that are compared, evenly spread from the first to the target's own."""


def match_photographs(
    classifier: Classifier | str,
    target: str | int | Target,
    exemplars: Sequence[Exemplar],
    *,
    layers: Sequence[str] | None = None,
    scale: str | int = "unit",
) -> Objective:
    """An objective whose optimum has the features of photographs that excite a unit (VITAL, arXiv 2503.22399).

    For each layer and unit of it, the values over all positions are sorted and compared with the sorted values of the
    photographs, averaged over them. The score is minus the squared difference, relative to the squares of the
    photographs' values, averaged over layers; at most 0. Units count by their relevance for the target, the mean of
    gradient times activation in the photographs, where it is positive. Results report the target's activation.

    Args:
        classifier: the network, or its name.
        target: a class or a unit of the network.
        exemplars: photographs that excite it, from `find_exemplars`; what the unit saw of each is placed where the
            image will be drawn.
        layers: names of layers at or before the target's; if None, four that are evenly spread up to it.
        scale: of the recipe that the objective is optimised with.

    Raises `OptionError` for no exemplars, `TargetError` for a target that is not one unit.
    """
    classifier = as_classifier(classifier)
    one = single_target(target, classifier)
    if not exemplars or not isinstance(one, Target):
        raise OptionError(f"matching photographs of {one} needs one unit, and at least one exemplar of it")
    images = _as_drawn(classifier, one, exemplars, scale)
    names = list(layers) if layers is not None else _layers_up_to(classifier, one)
    values, relevance = _sorted_values(classifier, one, images, names)

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        errors = []
        for name in names:
            wanted, weight = values[name], relevance[name]
            found = units_by_position(activations, name).sort(2).values
            error = ((found - wanted).square().mean(2) * weight).sum(1)
            errors.append(error / (wanted.square().mean(1) * weight).sum().clamp_min(1e-12))
        return -torch.stack(errors).mean(0)

    holding(score, "photographs")
    reported = activation(one)
    layers_read = tuple(dict.fromkeys([*names, *reported.layers]))
    description = f"{one.name} like {counted(len(exemplars), 'photograph')}"
    objective = Objective(score, layers_read, description, positions=reported.read_positions)
    return objective.reporting(reported)


def _as_drawn(classifier: Classifier, target: Target, exemplars: Sequence[Exemplar], scale: str | int) -> Tensor:
    """The unit's receptive field in each exemplar, at the size of a generated image: `[N, 3, H, W]`."""
    field = field_of(classifier, activation(target), scale)
    shown = [one.image if field is None else one.patch for one in exemplars]
    images = torch.cat([classifier.resize(image[None].to(classifier.device)) for image in shown])
    return Placement([field] * len(images), classifier.input_size, classifier.device)(images)


def _layers_up_to(classifier: Classifier, target: Target) -> list[str]:
    """At most `LAYERS` layers whose unit axis is known, evenly spread up to the target's own."""
    known = [layer.name for layer in countable_layers(classifier, classifier.main_layers())]
    upto = known[: known.index(target.layer) + 1] if target.layer in known else known
    places = torch.linspace(0, len(upto) - 1, min(LAYERS, len(upto))).round().long().tolist()
    return [upto[place] for place in dict.fromkeys(places)]


def _sorted_values(
    classifier: Classifier, target: Target, images: Tensor, layers: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """For each layer, sorted values `[units, positions]` averaged over `images`, and relevance `[units]`, of sum 1."""
    sorted_values: dict[str, list[Tensor]] = {name: [] for name in layers}
    relevance: dict[str, list[Tensor]] = {name: [] for name in layers}
    with classifier.record_layers(dict.fromkeys([*layers, target.layer])) as hooks, _slopes(hooks, layers) as added:
        for image in images:
            added.clear()
            seen = hooks(classifier.normalise(image[None].detach().requires_grad_()))
            slopes = _gradients(target, seen, added)
            for name in layers:
                part = units_by_position(seen, name).detach()[0]
                sorted_values[name].append(part.sort(1).values)
                if (slope := slopes.get(name)) is not None:
                    slope = units_by_position(Activations({name: slope}, seen.layouts), name)[0]
                    relevance[name].append((part * slope).sum(1).clamp_min(0))
    means = {name: torch.stack(values).mean(0) for name, values in sorted_values.items()}
    return means, {name: _normalised(relevance[name], len(means[name])) for name in layers}


def _gradients(target: Target, seen: Activations, added: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """Gradients of the target's activation in the layers of `added`, and in its own layer, as it is recorded."""
    own = seen[target.layer].detach().requires_grad_()
    read = Activations({**seen, target.layer: own}, seen.layouts)
    earlier = {name: zeros for name, zeros in added.items() if name != target.layer}
    found = torch.autograd.grad(target.score(seen).sum(), list(earlier.values()), allow_unused=True) if earlier else ()
    at_own = torch.autograd.grad(target.score(read).sum(), own)[0]
    return {**dict(zip(earlier, found, strict=True)), target.layer: at_own}


def _normalised(relevances: Sequence[Tensor], units: int) -> Tensor:
    """Mean of `relevances` `[units]` with the sum 1; the same for all units where nothing is known."""
    total = torch.stack(list(relevances)).sum(0) if relevances else torch.zeros(units)
    return total / total.sum() if total.sum() > 0 else torch.full_like(total, 1 / units)


@contextmanager
def _slopes(hooks: LayerHooks, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """While the block runs: zeros that are added to the outputs of `layers`, whose gradient is that of the outputs."""
    added: dict[str, Tensor] = {}

    def adding(name: str) -> Callable[[nn.Module, object, object], object]:
        def add(module: nn.Module, inputs: object, output: object) -> object:
            if not isinstance(output, Tensor):
                return output
            added[name] = torch.zeros_like(output).requires_grad_()
            return output + added[name]

        return add

    modules = {name: hooks.modules[name] for name in layers if name in hooks.modules}
    handles = [module.register_forward_hook(adding(name), prepend=True) for name, module in modules.items()]
    try:
        yield added
    finally:
        for handle in handles:
            handle.remove()
