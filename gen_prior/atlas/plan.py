"""Plan an atlas: layers, units, networks and photographs -> its manifest."""

from __future__ import annotations

import logging
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gen_prior.defaults as defaults
from gen_prior.applications.measurement import check_judge
from gen_prior.applications.photograph_counters import countable_layers
from gen_prior.applications.photographs import image_paths, listing_sha256
from gen_prior.atlas.manifest import FORMAT, SHARD_SIZE, Manifest, as_ranges, numbers
from gen_prior.atlas.networks import Networks
from gen_prior.atlas.photographs import describe_images
from gen_prior.classifiers import load_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.objectives.expressions import matching_layers
from gen_prior.util.words import few

Units = str | Iterable[int] | Mapping[str, str | Iterable[int]]
AUTO = "auto"
log = logging.getLogger(__name__)


def chosen_layers(classifier: Classifier, patterns: Sequence[str] | str | None) -> list[str]:
    """The layers that match the patterns (`*` stands for no dot, `**` for anything), in network order.

    If None, the blocks of the network, see `block_layers`. Raises `UnknownNameError` for a pattern without a match,
    `TargetError` for a layer whose units' axis is not known.
    """
    if patterns is None:
        return block_layers(classifier)
    chosen: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = matching_layers(pattern, classifier)
        if not found:
            raise UnknownNameError("layer", pattern, classifier.main_layers(), fix=classifier.how_to_list)
        chosen.update(found)
    for layer in chosen:
        classifier.layout(layer).units(layer)
    return [layer for layer in classifier.layers() if layer in chosen]


def block_layers(classifier: Classifier) -> list[str]:
    """The outputs of a network's blocks and its logits.

    A block is a module with modules in it that is not itself a list of blocks: `blocks.3` of an EfficientNet,
    `layer2.0` of a ResNet, a layer of a transformer, and a stem or head of several modules.
    """
    known = {layer.name for layer in countable_layers(classifier, classifier.main_layers())}

    def blocks(module: nn.Module, name: str) -> list[str]:
        if not any(_is_list(part) for part in module.modules()):
            return [name] if name in known and any(True for _ in module.children()) else []
        return [
            found
            for child, part in module.named_children()
            for found in blocks(part, f"{name}.{child}" if name else child)
        ]

    return blocks(classifier.network, "") + ([LOGITS] if classifier.has_classes and LOGITS in known else [])


def _is_list(module: nn.Module) -> bool:
    """True for a list or sequence of at least two modules that have modules in them."""
    nested = [part for part in module.children() if any(True for _ in part.children())]
    return isinstance(module, nn.Sequential | nn.ModuleList) and len(nested) > 1


def chosen_units(classifier: Classifier, layer: str, units: Units | None) -> str:
    """The units of a layer, as ranges: all, those of a range, or those of the last pattern that matches the layer.

    Numbers beyond the layer's last unit are left out, see `check_units`. Raises `OptionError` where none is left.
    """
    count = classifier.layout(layer).units(layer)
    found = _asked(classifier, layer, units)[1]
    if found is None:
        return as_ranges(range(count))
    if not (within := [unit for unit in found if 0 <= unit < count]):
        raise OptionError(f"layer {layer} has units 0 to {count - 1}, none of which is among those that are asked for")
    return as_ranges(within)


def _asked(classifier: Classifier, layer: str, units: Units | None) -> tuple[str, Sequence[int] | None]:
    """The pattern of `units` that counts for the layer, and its numbers; None for all units."""
    pattern = "*"
    if isinstance(units, Mapping):
        matching = [one for one in units if layer in matching_layers(one, classifier) or one == "*"]
        pattern, units = (matching[-1], units[matching[-1]]) if matching else ("", None)
    if units is None:
        return pattern, None
    return pattern, numbers(units) if isinstance(units, str) else sorted({operator.index(unit) for unit in units})


def check_units(classifier: Classifier, layers: Sequence[str], units: Units | None) -> None:
    """Say in one line which layers have fewer units than are asked for.

    Raises `OptionError` for a number that none of the layers has for which it is asked.
    """
    counts: dict[str, dict[str, int]] = {}
    fewer: list[str] = []
    asked = {layer: _asked(classifier, layer, units) for layer in layers}
    for layer, (pattern, _) in asked.items():
        counts.setdefault(pattern, {})[layer] = classifier.layout(layer).units(layer)
    for layer, (pattern, found) in asked.items():
        widest, most = max(counts[pattern].items(), key=lambda pair: pair[1])
        if wrong := [unit for unit in found or () if not 0 <= unit < most]:
            raise OptionError(f"there is no unit {wrong[-1]}: layer {widest!r} has units 0 to {most - 1}")
        if found and max(found) >= counts[pattern][layer]:
            fewer.append(f"{layer} (0 to {counts[pattern][layer] - 1})")
    if fewer:
        log.warning("layers with fewer units than are asked for: %s", few(fewer))


def parse_units(texts: Sequence[str]) -> dict[str, str]:
    """`["0-31", "logits=0-999:31"]` -> {pattern of layers: ranges}; "*" stands for all. Raises `OptionError`."""
    found: dict[str, str] = {}
    for text in texts:
        match = re.fullmatch(r"(?:(.+)=)?([^=]+)", text)
        if match is None:
            raise OptionError(f"--units takes RANGE or LAYER=RANGE, got {text!r}", fix="0-31, logits=0-999:31")
        numbers(match[2])
        found[match[1] or "*"] = match[2]
    return dict(sorted(found.items(), key=lambda pair: pair[0] != "*"))


def chosen_judge(
    judge: str | Classifier | None, classifier: Classifier, layers: Sequence[str], faithfulness: bool
) -> tuple[Classifier | None, str | None]:
    """The judge and its name; "auto" is another embedded network, where there is anything to judge.

    Raises `OptionError` for a judge that is the classifier itself.
    """
    if judge == AUTO:
        classes = LOGITS in layers and classifier.has_classes and classifier.labels is not None
        if not (classes or faithfulness):
            return None, None
        judge = defaults.JUDGE if classifier.name != defaults.JUDGE else defaults.CLASSIFIER
    if judge is None:
        return None, None
    check_judge(judge, classifier)
    if isinstance(judge, str):
        return load_classifier(judge, device=classifier.device), judge
    return judge.to(classifier.device), None


def described_images(images: str | Path | None, before: Manifest | None) -> dict[str, Any] | None:
    """The manifest's description of the photographs; files described in `before` are not read again."""
    if images is None:
        return None
    known = before.content.get("images") if before is not None else None
    if known is not None and known["listing_sha256"] == listing_sha256(Path(images), image_paths(images)):
        return dict(known)
    return describe_images(images)


def plan(
    networks: Networks,
    layers: Sequence[str],
    units: Units | None,
    *,
    classifier_spec: str | None,
    classifier_options: Mapping[str, Any],
    method_specs: Sequence[str | None],
    judge_spec: str | None,
    seeds: Sequence[int],
    evaluations: int,
    scale: str | int | None,
    precision: str,
    least: bool,
    faithfulness: bool,
    images: dict[str, Any] | None,
    shard_size: int = SHARD_SIZE,
) -> Manifest:
    """The manifest of an atlas of these networks. Raises `OptionError` for settings that JSON cannot hold."""
    classifier, judge = networks.classifier, networks.judge
    check_units(classifier, layers, units)
    content = {
        "format": FORMAT,
        "classifier": classifier.describe(),
        "classifier_spec": classifier_spec,
        "classifier_options": dict(classifier_options),
        "generators": [
            {
                "name": method.name,
                "spec": spec,
                "describe": method.generator.describe(),
                "recipe": method.recipe.to_dict(),
                "unit_recipe": method.unit_recipe.to_dict(),
            }
            for method, spec in zip(networks.methods, method_specs, strict=True)
        ],
        "layers": [_layer(classifier, name, units) for name in layers],
        "seeds": list(seeds),
        "evaluations": evaluations,
        "scale": scale,
        "precision": precision,
        "least": least,
        "faithfulness": faithfulness,
        "judge": judge.describe() if judge is not None else None,
        "judge_spec": judge_spec,
        "images": images,
        "device": classifier.device.type,
        "versions": {"gen-prior": metadata.version("gen-prior"), "torch": torch.__version__},
        "shard_size": shard_size,
    }
    try:
        return Manifest(content)
    except (TypeError, ValueError) as error:
        raise OptionError(f"an atlas's settings must be plain finite values: {error}") from error


def _layer(classifier: Classifier, name: str, units: Units | None) -> dict[str, Any]:
    layout = classifier.layout(name)
    shape = list(layout.shape)
    return {"name": name, "units": layout.units(name), "shape": shape, "chosen": chosen_units(classifier, name, units)}
