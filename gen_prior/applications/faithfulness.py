"""Is it true? Synthesised images of a unit beside the photographs that excite it, and beside controls.

For each unit: path similarity, a machine's two-alternative test (both in `gen_prior.report.faithfulness`), and the same
for three controls. The quantile and the ratio among photographs need no photographs at hand: results have them anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gen_prior.defaults as defaults
from gen_prior.applications.control_networks import with_shuffled_unit, with_shuffled_weights
from gen_prior.applications.exemplars import Exemplar, collect_exemplars, wanted_targets
from gen_prior.applications.fields import Fields
from gen_prior.applications.measurement import check_judge
from gen_prior.applications.photograph_counters import BestPhotographs, countable_layers
from gen_prior.applications.photograph_pass import run_pass
from gen_prior.applications.photographs import batches, image_paths
from gen_prior.classifiers import as_classifier, load_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import ImageError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.objectives.expressions import single_target
from gen_prior.objectives.mixes import AnyTarget, Mix
from gen_prior.objectives.natural_statistics import ratio_to
from gen_prior.objectives.receptive_field import Box
from gen_prior.objectives.targets import Position, Target
from gen_prior.objectives.units import activation as unit_objective
from gen_prior.objectives.units import units_by_position
from gen_prior.optimise.resolve import class_weights_of
from gen_prior.optimise.result import Result
from gen_prior.optimise.synthesize import synthesize
from gen_prior.optimise.unit_scale import Placement, field_of
from gen_prior.report.faithfulness import path_similarity, two_alternative_score
from gen_prior.report.metrics import activations_of
from gen_prior.util.progress import ProgressCallback, ProgressOption, progress_callback

REFERENCES = 8
"""Photographs shown as pictures of most (and least) exciting inputs; as many others are asked about."""
ARBITRARY = 24
PATH_LAYERS = 8
JUDGED_AT = 0.75
"""Depth of the judge's layer whose features are the perceptual space, as a share of its layers."""
AT_ONCE = 8


@dataclass(frozen=True)
class UnitReferences:
    """The photographs that a unit's images are compared with: those that excite it most, and least, best first."""

    target: Target
    most: list[Exemplar]
    least: list[Exemplar]


@dataclass(frozen=True)
class _Photographs:
    """Feature vectors of a unit's photographs: paths of exciting and arbitrary ones, and the judge's features."""

    exciting: dict[str, Tensor]
    arbitrary: dict[str, Tensor]
    high: Tensor
    low: Tensor
    two_alternatives: float
    """The score with half of these photographs as the pictures that are shown, and the others asked about."""


class Panel:
    """Measures images of units against photographs. Made once for all methods of a comparison: one pass over a folder.

    Args:
        classifier: the network of the units.
        judge: another network, whose features are the perceptual space of the two-alternative test.
        targets: units; a target that is not one unit (a mix, an objective) is not measured. None at all where the
            photographs are known already: no pass is made, and `add` takes them.
        folder: photographs, at least `4 * REFERENCES` that can be read.
        state: a folder, from which an interrupted pass goes on.
        progress: of the pass.

    Raises `ImageError` for too few photographs.
    """

    def __init__(
        self,
        classifier: Classifier,
        judge: Classifier,
        targets: Sequence[AnyTarget | None],
        folder: str | Path,
        *,
        state: Path | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.classifier, self.judge, self.fields = classifier, judge, Fields(classifier)
        units = [target for target in targets if isinstance(target, Target)]
        signed: list[AnyTarget] = [one for unit in units for one in (unit, Mix(((-1.0, unit),)))]
        skipped: list[str] = []
        found: Sequence[Sequence[Exemplar]] = []
        if units:
            best = BestPhotographs(wanted_targets(classifier, signed), 2 * REFERENCES)
            run_pass(classifier, folder, {"best": best}, state=state, on_bad=skipped.append, progress=progress)
            found = collect_exemplars(classifier, best, image_paths(folder))
        paths = image_paths(folder)
        self._count = len(paths) - len(skipped)
        if self._count < 4 * REFERENCES:
            raise ImageError(f"the panel needs at least {4 * REFERENCES} photographs, {folder} has {len(paths)}")
        self.references = {
            unit: UnitReferences(unit, list(found[2 * index]), list(found[2 * index + 1]))
            for index, unit in enumerate(units)
        }
        self._layers = [layer.name for layer in countable_layers(classifier, classifier.layers())]
        maps = [layer.name for layer in countable_layers(judge, judge.layers()) if layer.positions > 1]
        self._judge_layer = maps[int(JUDGED_AT * len(maps))] if maps else next(iter(judge.layers()))
        self._beside: dict[Target, _Photographs] = {}
        self._arbitrary_paths: dict[tuple[str, Position], dict[str, Tensor]] = {}
        by_hash = sorted(paths, key=lambda path: hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest())
        drawn = batches(classifier, by_hash, ARBITRARY, skipped.append)
        self.arbitrary = next(drawn)[1]

    def add(self, references: UnitReferences) -> None:
        """Take the photographs of a unit that an earlier pass found."""
        self.references[references.target] = references

    def drop(self, target: Target) -> None:
        """Forget a unit's photographs, which are large."""
        self.references.pop(target, None)
        self._beside.pop(target, None)

    def measure(self, result: Result, t: int, generator: Generator, target: AnyTarget | None) -> dict[str, Any] | None:
        """The panel of target `t` of `result`; None if it is not one unit.

        Synthesises the least exciting inputs and two controls by the result's recipe, unit after unit, which takes at
        least three times as long as the images themselves.
        """
        if not isinstance(target, Target):
            return None
        opposite = _again(self.classifier, Mix(((-1.0, target),)), generator, result)
        assert opposite is not None
        least = self._features(opposite, target)
        made = {
            "start": _starts(self.classifier, target, generator, result),
            "shuffled unit": _again(with_shuffled_unit(self.classifier, target), target, generator, result),
            "random network": _again(with_shuffled_weights(self.classifier), target, generator, result),
        }
        controls = {
            name: None if images is None else self._scores(target, images, least) for name, images in made.items()
        }
        return self._scores(target, result.inputs(t, self.classifier), least) | {
            "photographs": self._count,
            "best_photograph": self.references[target].most[0].activation,
            "two_alternatives_photographs": self._photographs(target).two_alternatives,
            "controls": controls,
        }

    def measure_inputs(self, target: Target, inputs: Tensor, least: Tensor) -> dict[str, Any]:
        """The panel, without controls, of the inputs `[S, 3, H, W]` of a target, and of its least exciting ones."""
        return self._scores(target, inputs, self._features(least, target))

    def _scores(self, target: Target, inputs: Tensor, least: Tensor) -> dict[str, Any]:
        """Measures of `inputs` `[S, 3, H, W]` as pictures of the target, beside `least` as those of its opposite."""
        best, beside = self.references[target].most[0].activation, self._photographs(target)
        activation = float(activations_of(self.classifier, target, inputs).mean())
        path = self._path(target, [(image, self.fields.effective(target)) for image in inputs])
        return {
            "activation": activation,
            "ratio": ratio_to(best, activation),
            "path": path_similarity(path, beside.exciting, beside.arbitrary).to_dict(),
            "two_alternatives": two_alternative_score(self._features(inputs, target), least, beside.high, beside.low),
        }

    def _photographs(self, target: Target) -> _Photographs:
        """Features of the photographs that all images of a target are compared with, computed once."""
        if target not in self._beside:
            rows = (self.references[target].most, self.references[target].least)
            most, least = (self._judged([each.patch for each in row]) for row in rows)
            halves = [
                two_alternative_score(most[half::2], least[half::2], most[1 - half :: 2], least[1 - half :: 2])
                for half in (0, 1)
            ]
            self._beside[target] = _Photographs(
                self._path(target, [(each.image, each.field) for each in rows[0]]),
                self._arbitrary_path(target),
                most, least, sum(halves) / 2,
            )  # fmt: skip
        return self._beside[target]

    def _arbitrary_path(self, target: Target) -> dict[str, Tensor]:
        """The path of arbitrary photographs, which all units of a layer at one position share."""
        key = (target.layer, target.position)
        if key not in self._arbitrary_paths:
            box = self.fields.effective(target)
            self._arbitrary_paths = {key: self._path(target, [(image, box) for image in self.arbitrary])}
        return self._arbitrary_paths[key]

    def _features(self, inputs: Tensor, target: Target) -> Tensor:
        """The judge's features of what the unit sees of inputs."""
        box = self.fields.effective(target)
        return self._judged([box.crop(image) for image in inputs])

    def _judged(self, patches: Sequence[Tensor]) -> Tensor:
        """The judge's features `[N, D]` of patches, each enlarged to the judge's input; means over positions."""
        name = self._judge_layer
        images = torch.cat([self.judge.resize(patch[None].to(self.judge.device)) for patch in patches])
        with torch.no_grad(), self.judge.record_layers([name]) as hooks:
            parts = [
                units_by_position(hooks(self.judge.normalise(part)), name).mean(2) for part in images.split(AT_ONCE)
            ]
        return torch.cat(parts).cpu()

    def _path(self, target: Target, placed: Sequence[tuple[Tensor, Box]]) -> dict[str, Tensor]:
        """{layer: `[N, units]`} on the way to the target: means over the positions in each image's box."""
        layers = self._path_layers(target)
        images = torch.stack([image for image, _ in placed]).to(self.classifier.device)
        with torch.no_grad(), self.classifier.record_layers(layers) as hooks:
            parts = [hooks(self.classifier.preprocess(part)) for part in images.split(AT_ONCE)]
        return {
            layer: torch.stack([
                _within(self.classifier, layer, units_by_position(part, layer)[row], placed[AT_ONCE * index + row][1])
                for index, part in enumerate(parts) for row in range(len(part[layer]))
            ]).cpu()
            for layer in layers
        }  # fmt: skip

    def _path_layers(self, target: Target) -> list[str]:
        """At most `PATH_LAYERS` layers, evenly spread from the first to the target's own."""
        upto = self._layers[: self._layers.index(target.layer) + 1]
        places = torch.linspace(0, len(upto) - 1, min(PATH_LAYERS, len(upto))).round().long().tolist()
        return [upto[place] for place in dict.fromkeys(places)]


def _within(classifier: Classifier, layer: str, values: Tensor, box: Box) -> Tensor:
    """Mean `[units]` of values `[units, positions]` of a layer over the positions in `box`."""
    sides = classifier.layout(layer).sides
    return values.mean(1) if len(sides) != 2 else box.crop(values.view(-1, *sides)).flatten(1).mean(1)


def _starts(classifier: Classifier, target: Target, generator: Generator, result: Result) -> Tensor:
    """The inputs that the seeds' own codes give, without any optimisation for the unit: `[S, 3, H, W]`."""
    recipe = result.recipe if target.is_class else result.unit_recipe
    weights = class_weights_of(target, classifier)
    codes = [generator.initial_code(seed, weights, hidden_unit=recipe.unit_start) for seed in result.seeds]
    with torch.no_grad():
        drawn = generator.final_images(torch.stack(codes).to(classifier.device)).float().clamp(0, 1)
    field = field_of(classifier, unit_objective(target), recipe.scale)
    return Placement([field] * len(codes), classifier.input_size, classifier.device)(classifier.resize(drawn)).cpu()


def _again(network: Classifier | None, target: AnyTarget, generator: Generator, result: Result) -> Tensor | None:
    """Inputs synthesised for `target` in `network` as `result` was: same seeds, recipes and precision."""
    if network is None:
        return None
    made = synthesize(
        network, target, generator, seeds=result.seeds, recipe=result.recipe, unit_recipe=result.unit_recipe,
        precision=result.settings["precision"],
    )  # fmt: skip
    return made.inputs(0, network)


def faithfulness(
    result: Result,
    classifier: Classifier | str,
    generator: Generator | str,
    images: str | Path,
    *,
    judge: str | Classifier = defaults.JUDGE,
    progress: ProgressOption = None,
) -> list[dict[str, Any] | None]:
    """Measure how true the images of `result` are to their units: see `Panel`; None for a target that is no unit.

    The measures are also kept in `result.targets[t]["faithfulness"]`, which `result.save` writes to a new folder.

    Args:
        result: what `synthesize(classifier, ..., generator)` returned.
        images: a folder of photographs, at least 32.
        judge: another network, by name or loaded.
        progress: as `synthesize` takes it, in photographs.

    Raises `ImageError` for too few photographs, `OptionError` for a judge that is the classifier itself.
    """
    classifier, generator = as_classifier(classifier), as_generator(generator)
    check_judge(judge, classifier)
    arbiter = load_classifier(judge, device=classifier.device) if isinstance(judge, str) else judge
    targets = [None if one["target"] is None else single_target(one["target"], classifier) for one in result.targets]
    panel = Panel(classifier, arbiter, targets, images, progress=progress_callback(progress))
    for t, target in enumerate(targets):
        result.targets[t]["faithfulness"] = panel.measure(result, t, generator, target)
    return [one["faithfulness"] for one in result.targets]
