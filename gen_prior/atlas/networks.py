"""The networks of an atlas in this process: loaded once from the manifest, and checked against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from gen_prior.applications.faithfulness import Panel
from gen_prior.applications.fields import Fields
from gen_prior.applications.methods import Method, load_methods
from gen_prior.applications.photograph_counters import countable_layers
from gen_prior.atlas.manifest import Manifest, as_json
from gen_prior.atlas.photographs import PhotographPass
from gen_prior.classifiers import load_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.errors import OptionError, WeightsError
from gen_prior.objectives.natural_statistics import NaturalStatistics, natural_statistics
from gen_prior.recipe import Recipe


@dataclass
class Networks:
    """The classifier of an atlas, its generators with their recipes, and the judge.

    Attributes:
        judge: None where nothing is judged.
        panel: measures faithfulness; None where that is not asked for, or before the first neuron.
    """

    classifier: Classifier
    methods: list[Method]
    judge: Classifier | None = None
    panel: Panel | None = None
    statistics_of: str | None = None
    """Identity of the atlas whose statistics of photographs are attached to the classifier."""
    fields: Fields = field(init=False)

    def __post_init__(self) -> None:
        self.fields = Fields(self.classifier)

    @cached_property
    def signature_layer(self) -> str | None:
        """The last layer before the logits whose width differs from theirs.

        Its spatial mean is the feature vector by which similar units are found.
        """
        layers = countable_layers(self.classifier, self.classifier.main_layers())
        logits = [layer.units for layer in layers if layer.name == LOGITS]
        before = [layer.name for layer in layers if layer.name != LOGITS and [layer.units] != logits]
        return before[-1] if before else None

    def attach_statistics(self, folder: Path, manifest: Manifest) -> None:
        """Compare activations with the photographs of the atlas, where it has any, from now on."""
        if manifest.content["images"] is not None:
            NaturalStatistics.load(PhotographPass(folder, manifest).table).attach(self.classifier)
        self.statistics_of = manifest.identity

    @property
    def statistics(self) -> NaturalStatistics | None:
        """Activations that photographs reach at the units."""
        return natural_statistics(self.classifier)


def methods_within(methods: Sequence[Method], evaluations: int, scale: str | int | None) -> list[Method]:
    """Limit each method's recipes to `evaluations` classifier evaluations per image, as in `compare`."""
    given: dict[str, Any] = {} if scale is None else {"scale": scale}
    return [
        replace(
            method,
            recipe=method.recipe.with_options(**given),
            unit_recipe=method.unit_recipe.with_options(**given),
        )
        for method in (one.within(evaluations) for one in methods)
    ]


@lru_cache(maxsize=1)
def loaded_networks(folder: str, identity: str, device: str) -> tuple[Manifest, Networks]:
    """The manifest of the atlas in `folder` and its networks, loaded once in a process.

    Raises `WeightsError` where a network is not the one that the manifest describes.
    """
    manifest = Manifest.read(Path(folder))
    content = manifest.content
    if content["classifier_spec"] is None:
        raise OptionError(
            "this atlas is of a classifier that was given as an object, which other processes cannot load",
            fix="go on in Python: gp.make_atlas(classifier, ..., workers=1), or give classifiers by name (MODULE:NAME)",
        )
    classifier = load_classifier(content["classifier_spec"], device=device, **content["classifier_options"])
    names = [one["spec"] for one in content["generators"]]
    if None in names:
        raise OptionError("this atlas is of a generator that was given as an object", fix="give generators by name")
    methods = [
        replace(method, recipe=Recipe.from_dict(one["recipe"]), unit_recipe=Recipe.from_dict(one["unit_recipe"]))
        for method, one in zip(load_methods(names, classifier.device), content["generators"], strict=True)
    ]
    judge = load_classifier(content["judge_spec"], device=device) if content["judge_spec"] is not None else None
    networks = Networks(classifier, methods, judge)
    check_networks(manifest, networks)
    return manifest, networks


def check_networks(manifest: Manifest, networks: Networks) -> None:
    """Raise `WeightsError` unless these are the networks that the manifest describes."""
    content = manifest.content
    found: list[tuple[str, Any, Any]] = [
        (networks.classifier.name, networks.classifier.describe(), content["classifier"]),
        *(
            (method.name, method.generator.describe(), one["describe"])
            for method, one in zip(networks.methods, content["generators"], strict=True)
        ),
    ]
    if networks.judge is not None:
        found.append((networks.judge.name, networks.judge.describe(), content["judge"]))
    for name, now, then in found:
        if as_json(now) != then:
            raise WeightsError(
                f"{name} differs from the one that the atlas was begun with", fix="make another atlas: --out DIR"
            )
    if networks.classifier.device.type != content["device"]:
        raise OptionError(
            f"the atlas is made on {content['device']}, and this process computes on {networks.classifier.device.type}",
            fix=f"--device {content['device']}",
        )
