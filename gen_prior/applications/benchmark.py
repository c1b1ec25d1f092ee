"""`benchmark`: classes and hidden units, drawn by a fixed hash, through several generators, by one protocol; resumable.

Classes: does another classifier (the judge) name them, how far are the judge's features from those of photographs, how
diverse are the seeds. Hidden units: how far above the best photograph, and the panel of `applications.faithfulness`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gen_prior.defaults as defaults
import gen_prior.report.metrics as metrics
from gen_prior.applications.benchmark_folder import FORMAT, check_same, write_benchmark
from gen_prior.applications.faithfulness import Panel
from gen_prior.applications.measurement import check_judge
from gen_prior.applications.methods import Method, MethodLike, load_methods
from gen_prior.applications.photographs import batches, image_paths, listing_sha256
from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors
from gen_prior.objectives.natural_statistics import ratio_to
from gen_prior.objectives.targets import Target, file_name, parse_target
from gen_prior.optimise.resolve import seed_list
from gen_prior.optimise.synthesize import synthesize
from gen_prior.report.benchmark_table import summary
from gen_prior.util.devices import environment
from gen_prior.util.folders import run_writer
from gen_prior.util.progress import Progress, ProgressCallback, ProgressOption, progress_callback

DEPTHS = 4
"""Layers that units are drawn from unless the layers are given."""


def benchmark(
    classifier: Classifier | str,
    generators: Sequence[MethodLike],
    out: str | Path,
    *,
    judge: Classifier | str = defaults.JUDGE,
    units: int = 8,
    layers: Sequence[str] | None = None,
    classes: int = 8,
    images: str | Path | None = None,
    seeds: int = 2,
    evaluations: int = defaults.EVALUATIONS,
    precision: str = "auto",
    overwrite: bool = False,
    progress: ProgressOption = None,
) -> dict[str, Any]:
    """Run the whole protocol; write `benchmark.json`, its table and `numbers.csv` into `out` after every target.

    Args:
        generators: as `compare` takes its methods.
        judge: another classifier, by name or loaded.
        units, classes: how many are drawn; the same for every generator, and fewer are always among more.
        layers: where units are drawn from, `units` from all of them in turn; `DEPTHS` evenly spread ones if None.
        images: a folder of photographs, for the distances of classes and the faithfulness of units.
        seeds, evaluations, precision: as `compare` takes them.
        overwrite: replace the run in `out`, whichever it is.
        progress: as `synthesize` takes it, in targets.

    Each finished target of a generator is kept in `out/items`. A call with the same settings goes on from there, also
    to more generators, classes or units; another run is refused.

    Returns what `benchmark.json` holds. Raises `GenPriorError`: unknown names, a judge that is the classifier, a folder
    that holds another run or cannot be written to.
    """
    network, arbiter = as_classifier(classifier), as_classifier(judge)
    check_judge(arbiter, network)
    report = progress_callback(progress)
    folder, numbers = Path(out), seed_list(seeds)
    targets = [*drawn_classes(network, arbiter, classes), *drawn_units(network, units, layers)]
    if not targets:
        raise OptionError("nothing to measure", fix="ask for at least one class or unit")
    rows = load_methods(generators, network.device)
    record: dict[str, Any] = {
        "format": FORMAT,
        "finished": False,
        "classifier": network.describe(),
        "judge": arbiter.describe(),
        "photographs": None if images is None else listing_sha256(Path(images), image_paths(images)),
        "targets": [target.name for target in targets],
        "seeds": numbers,
        "evaluations": evaluations,
        "precision": precision,
        "environment": environment(network.device),
        "generator_names": [method.name for method in rows],
        "generators": [],
    }
    run = _Run(network, arbiter, None, numbers, evaluations, precision, folder / "items", record["photographs"])
    with run_writer(folder):
        check_same(folder, record, {method.name: run.settings(method) for method in rows}, overwrite=overwrite)
        _measure_all(run, targets, rows, images, record, report)
    return record


def _measure_all(
    run: _Run,
    targets: Sequence[Target],
    rows: Sequence[Method],
    images: str | Path | None,
    record: dict[str, Any],
    report: ProgressCallback | None,
) -> None:
    """Measure every target through every generator into `record`, which is written after each new one."""
    hidden = [target for target in targets if not target.is_class]
    if images is not None and hidden:
        state = run.folder / "photographs"
        run = replace(run, panel=Panel(run.classifier, run.judge, hidden, images, state=state, progress=report))
    has_classes = len(hidden) < len(targets)
    natural = photograph_features(run.judge, images, run.folder) if images is not None and has_classes else None
    for index, method in enumerate(rows):
        measured, features = list[dict[str, Any]](), []
        described: dict[str, Any] = {"name": method.name, "settings": run.settings(method), "items": measured}
        record["generators"].append(described)
        for number, target in enumerate(targets):
            is_new = not run.path(method, target).is_file()
            item, feature = run.item(method, target)
            measured.append(item)
            features.append(feature)
            described["summary"] = summary(measured, features, natural)
            record["finished"] = (index + 1, number + 1) == (len(rows), len(targets))
            if is_new or record["finished"]:
                write_benchmark(run.folder.parent, record)
            if report is not None:
                done = index * len(targets) + number + 1
                report(Progress(done, len(rows) * len(targets), f"{method.name}: {target.name}"))


def drawn_classes(classifier: Classifier, judge: Classifier, count: int) -> list[Target]:
    """`count` classes that the judge has too, in the order of the hash of their names."""
    if not count:
        return []
    numbers = range(classifier.layer_shape("logits")[0])
    known = [index for index in numbers if metrics.matching_class(classifier, judge, index) is not None]
    return [parse_target(index, classifier) for index in sorted(known, key=lambda i: _hash(classifier.class_name(i)))][
        :count
    ]


def drawn_units(classifier: Classifier, count: int, layers: Sequence[str] | None = None) -> list[Target]:
    """`count` units, from the layers in turn, each layer's in the order of the hash of `LAYER:UNIT`."""
    chosen = list(layers) if layers is not None else spread_layers(classifier)
    if count and not chosen:
        raise OptionError(f"{classifier.name} has no feature maps to draw units from", fix="name layers: --layers")
    names = {
        layer: sorted((f"{layer}:{unit}" for unit in range(classifier.layout(layer).units(layer))), key=_hash)
        for layer in chosen
    }
    longest = max((len(units) for units in names.values()), default=0)
    order = [units[place] for place in range(longest) for units in names.values() if place < len(units)]
    return [parse_target(name, classifier) for name in order[:count]]


def spread_layers(classifier: Classifier) -> list[str]:
    """`DEPTHS` feature maps, evenly spread over the depth; of blocks (`blocks.3`) where there are enough of them."""
    maps = [name for name in classifier.layers() if len(classifier.layout(name).sides) == 2]
    blocks = [name for name in maps if name.count(".") == 1 and name.rpartition(".")[2].isdigit()]
    names = blocks if len(blocks) >= DEPTHS else maps
    return list(dict.fromkeys(names[(2 * depth + 1) * len(names) // (2 * DEPTHS)] for depth in range(DEPTHS) if names))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def photograph_features(judge: Classifier, images: str | Path, kept_in: Path) -> Tensor:
    """The judge's features `[N, D]` of all photographs under `images`, kept in `kept_in`."""
    paths = image_paths(images)
    kept = kept_in / f"features-{file_name(judge.name)}-{listing_sha256(Path(images), paths)[:12]}.safetensors"
    if not kept.is_file():
        found = [metrics.logits_and_features(judge, part)[1] for _, part in batches(judge, paths, 16, lambda _: None)]
        save_safetensors(kept, {"features": torch.cat(found)}, {})
    return read_tensors(kept)["features"]


@dataclass(frozen=True)
class _Run:
    """Settings that all items share."""

    classifier: Classifier
    judge: Classifier
    panel: Panel | None
    seeds: list[int]
    evaluations: int
    precision: str
    folder: Path
    photographs: str | None

    def settings(self, method: Method) -> dict[str, Any]:
        """Everything that an item depends on besides its target."""
        within = method.within(self.evaluations)
        return {
            "classifier": self.classifier.describe(),
            "judge": self.judge.describe(),
            "generator": method.generator.describe(),
            "recipe": within.recipe.to_dict(),
            "unit_recipe": within.unit_recipe.to_dict(),
            "seeds": self.seeds,
            "precision": self.precision,
            "photographs": self.photographs,
        }

    def path(self, method: Method, target: Target) -> Path:
        """Path of the measures of one target."""
        key = _hash(json.dumps(self.settings(method), sort_keys=True))[:12]
        return self.folder / method.folder / f"{target.slug}-{key}.safetensors"

    def item(self, method: Method, target: Target) -> tuple[dict[str, Any], Tensor]:
        """The measures of one target, and the judge's features `[S, D]`; read where an earlier run kept them."""
        kept = self.path(method, target)
        if not kept.is_file():
            item, features = self._measured(method, target)
            save_safetensors(kept, {"features": features}, {"item": json.dumps(item)})
        return json.loads(read_file_metadata(kept)["item"]), read_tensors(kept)["features"]

    def _measured(self, method: Method, target: Target) -> tuple[dict[str, Any], Tensor]:
        method = method.within(self.evaluations)
        result = synthesize(
            self.classifier, target, method.generator, seeds=self.seeds, recipe=method.recipe,
            unit_recipe=method.unit_recipe, precision=self.precision,
            out=self.folder.parent / method.folder / target.slug, overwrite=True,
        )  # fmt: skip
        item: dict[str, Any] = {
            "target": target.name,
            "layer": target.layer,
            "is_class": target.is_class,
            "seconds": result.seconds / len(self.seeds),
            "evaluations": (method.recipe if target.is_class else method.unit_recipe).evaluations,
            "activations": result.activations[0].tolist(),
            "ratios": [None if ratio != ratio else ratio for ratio in result.photograph_ratios[0].tolist()],
        }
        logits, features = metrics.logits_and_features(self.judge, result.images[0])
        if target.is_class:
            index = metrics.matching_class(self.classifier, self.judge, target.unit)
            assert index is not None
            item["judge_ranks"] = metrics.verdict(logits, index).rank.tolist()
        elif self.panel is not None:
            item["panel"] = self.panel.measure(result, 0, method.generator, target)
            if None in item["ratios"]:
                best = self.panel.references[target].most[0].activation
                item["ratios"] = [ratio_to(best, value) for value in item["activations"]]
        return item, features
