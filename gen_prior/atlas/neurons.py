"""Neurons of an atlas: pictures by every generator and seed, and what is measured of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gen_prior.applications.faithfulness import UnitReferences
from gen_prior.applications.measurement import judged_class
from gen_prior.applications.methods import PRESET_PREFIX, Method
from gen_prior.atlas.manifest import Manifest
from gen_prior.atlas.networks import Networks
from gen_prior.atlas.photographs import loaded_exemplars
from gen_prior.atlas.shards import SIGNATURE, NeuronRecord, webp
from gen_prior.errors import DeviceError, GenPriorError, ImageError, OutputError
from gen_prior.objectives.mixes import Mix
from gen_prior.objectives.targets import Target, parse_target
from gen_prior.objectives.units import units_by_position
from gen_prior.optimise.presets import PRESETS
from gen_prior.optimise.result import Result
from gen_prior.optimise.result_folder import relative_to_photographs
from gen_prior.optimise.stored_result import finite
from gen_prior.optimise.synthesize import synthesize
from gen_prior.report.metrics import logits_of, verdict

DENSE = 0.95
"""Share of photographs from which on a unit that is never negative counts as dense."""
HALF = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Maker:
    """Makes neurons of one atlas with the networks of this process.

    Attributes:
        photographs: the folder of the atlas's photographs; None without any.
    """

    manifest: Manifest
    networks: Networks
    photographs: Path | None

    def make(self, targets: Sequence[str], exemplars: dict[str, Any]) -> list[NeuronRecord]:
        """Make the neurons `targets` of one layer, `LAYER:UNIT`; `exemplars` is what the pass found for their shard.

        A neuron for which the optimisation raises an error of ours has that error in its row instead of pictures.

        Raises what is no fault of a neuron: `OutputError`, `DeviceError`, `ImageError` for a photograph that is gone.
        """
        try:
            return self._made(targets, exemplars)
        except (OutputError, DeviceError, ImageError):
            raise
        except GenPriorError as error:
            if len(targets) > 1:  # find out whose it is
                return [neuron for target in targets for neuron in self.make([target], exemplars)]
            return [
                NeuronRecord(
                    self._start_of_row(parse_target(targets[0], self.networks.classifier), exemplars)
                    | {"error": str(error)}
                )
            ]

    def _made(self, texts: Sequence[str], exemplars: dict[str, Any]) -> list[NeuronRecord]:
        classifier = self.networks.classifier
        targets = [parse_target(text, classifier) for text in texts]
        neurons = [NeuronRecord(self._start_of_row(target, exemplars) | {"methods": []}) for target in targets]
        for number, method in enumerate(self.networks.methods):
            result = self._synthesize(targets, method, self.manifest.content["seeds"])
            opposite = self._least(targets, method)
            for t, (target, neuron) in enumerate(zip(targets, neurons, strict=True)):
                self._add(neuron, target, method, number, result, opposite, t, exemplars.get(texts[t]))
        for target, neuron in zip(targets, neurons, strict=True):
            neuron.row["command"] = self.command(target)
        return neurons

    def _synthesize(self, targets: Sequence[Target | Mix], method: Method, seeds: Sequence[int]) -> Result:
        classifier = self.networks.classifier
        one_by_one = classifier.device.type == "cpu" and torch.get_num_threads() == 1
        return synthesize(
            classifier, list(targets), method.generator, seeds=seeds, recipe=method.recipe,
            unit_recipe=method.unit_recipe, precision=self.manifest.content["precision"],
            batch=1 if one_by_one else None,
        )  # fmt: skip

    def _least(self, targets: Sequence[Target], method: Method) -> Result | None:
        """Pictures to which the units respond least, of the first seed, or of all where faithfulness needs them."""
        content = self.manifest.content
        if not content["least"]:
            return None
        seeds = content["seeds"] if content["faithfulness"] else content["seeds"][:1]
        return self._synthesize([Mix(((-1.0, target),)) for target in targets], method, seeds)

    def _add(
        self, neuron: NeuronRecord, target: Target, method: Method, number: int, result: Result,
        opposite: Result | None, t: int, exemplars: dict[str, Any] | None,
    ) -> None:  # fmt: skip
        """Add what a method made of a target to its neuron."""
        classifier, stem = self.networks.classifier, f"{target.unit}-{method.folder}"
        activations = [finite(value) for value in result.activations[t]]
        images, inputs = result.images_of(t), result.inputs(t, classifier)
        best = max(range(len(activations)), key=lambda s: (activations[s] is not None, activations[s] or 0.0))
        placed = result.targets[t]["field"] is not None
        row: dict[str, Any] = {"generator": method.name, "evaluations": self.manifest.content["evaluations"]}
        row |= {"seeds": result.seeds, "activations": activations, "images": [], "in_place": []}
        for s, seed in enumerate(result.seeds):
            pictures = {"images": f"images/{stem}-{seed}.webp"}
            pictures |= {"in_place": f"images/{stem}-{seed}-in-place.webp"} if placed else {}
            for kind, name in pictures.items():
                row[kind].append(name)
                neuron.files[name] = webp(images[s] if kind == "images" else inputs[s])
            neuron.codes[f"{method.folder}/{seed}"] = result.codes_of(t)[s].contiguous()
        beside = relative_to_photographs(result.activations[t, best], result.targets[t])
        row |= {"quantile": beside.get("photograph_quantile"), "ratio": beside.get("photograph_ratio")}
        row |= {"status": result.status[t], "path": None, "two_alternatives": None, "least": None}
        row["judge"] = self._judged(target, images, best)
        if opposite is not None:
            row["least"] = self._least_row(neuron, method, opposite, t, f"images/{stem}-least.webp")
            if self.manifest.content["faithfulness"] and exemplars is not None:
                row |= self._faithfulness(target, inputs, opposite.inputs(t, classifier), exemplars)
        if number == 0:
            neuron.row |= {"thumbnail": row["images"][best], "field": result.targets[t]["field"]}
            neuron.signature = self._signature(inputs[best])
        neuron.row["methods"].append(row)

    def _least_row(self, neuron: NeuronRecord, method: Method, opposite: Result, t: int, name: str) -> dict[str, Any]:
        """The least exciting picture of the first seed; its unit's own activation."""
        neuron.files[name] = webp(opposite.images_of(t)[0])
        neuron.codes[f"{method.folder}/least"] = opposite.codes_of(t)[0].contiguous()
        value = finite(opposite.activations[t, 0])
        return {"activation": value, "image": name}

    def _judged(self, target: Target, images: Tensor, best: int) -> dict[str, Any] | None:
        """Share of the pictures whose class the judge ranks first, and the name that it gives the best one."""
        judge = self.networks.judge
        index, _ = judged_class(target, self.networks.classifier, judge)
        if judge is None or index is None:
            return None
        found = verdict(logits_of(judge, images), index)
        top = int(found.top_class[best])
        return {"top1": float((found.rank == 1).float().mean()), "label": judge.class_name(top) if top >= 0 else None}

    def _faithfulness(
        self, target: Target, inputs: Tensor, least: Tensor, exemplars: dict[str, Any]
    ) -> dict[str, float | None]:
        """Path similarity and two-alternative score beside the unit's photographs."""
        panel, folder = self.networks.panel, self.photographs
        assert panel is not None
        assert folder is not None
        most, fewest = (loaded_exemplars(exemplars[k], target, self.networks.fields, folder) for k in ("most", "least"))
        panel.add(UnitReferences(target, most, fewest))
        try:
            scores = panel.measure_inputs(target, inputs, least)
        finally:
            panel.drop(target)
        return {"path": scores["path"]["normalised"], "two_alternatives": scores["two_alternatives"]}

    def _signature(self, image: Tensor) -> Tensor:
        """The best picture's activations before the logits, projected to 64 numbers: `[64]`, float16."""
        classifier, layer = self.networks.classifier, self.networks.signature_layer
        if layer is None:
            return torch.zeros(SIGNATURE, dtype=torch.float16)
        with torch.no_grad(), classifier.record_layers([layer]) as hooks:
            values = units_by_position(hooks(classifier.preprocess(image[None].to(classifier.device))), layer).mean(2)[
                0
            ]
        projected = projection(len(values)) @ values.cpu()
        return projected.nan_to_num(nan=0.0).clamp(-HALF, HALF).half()

    def _start_of_row(self, target: Target, exemplars: dict[str, Any]) -> dict[str, Any]:
        """The row of a unit without any pictures: its names, and what photographs do to it."""
        text = f"{target.layer}:{target.unit}"
        found = exemplars.get(text)
        most = [{k: v for k, v in entry.items() if k != "patch"} for entry in found["most"]] if found else []
        return {
            "target": text,
            "layer": target.layer,
            "unit": target.unit,
            "name": target.label or None,
            "photographs": self._beside(target, found),
            "exemplars": most[:8],
        }

    def _beside(self, target: Target, exemplars: dict[str, Any] | None) -> dict[str, Any] | None:
        """Activation that photographs reach at a unit; None where no table has it."""
        statistics = self.networks.statistics
        known = statistics.of(target, "anywhere") if statistics is not None else None
        if known is None or statistics is None:
            return None
        lowest = float(statistics.lowest[target.layer][target.unit])
        active = exemplars["active"] if exemplars is not None else None
        return {
            "best": known.best,
            "median": known.quantiles[1],
            "images": known.images,
            "active": active,
            "dead": known.best <= 0,
            "dense": None if active is None else lowest >= 0 and active >= DENSE,
        }

    def command(self, target: Target) -> str:
        """The command that makes the unit's pictures by the first generator again."""
        content, method = self.manifest.content, self.networks.methods[0]
        recipe = method.recipe if target.is_class else method.unit_recipe
        words = ["gen-prior", "synth", f"{target.layer}:{target.unit}", "--classifier", self.networks.classifier.name]
        if content["classifier_spec"] is not None:
            words[-1] = content["classifier_spec"]
        words += _generator_options(content["generators"][0]["spec"] or method.name)
        words += [word for seed in content["seeds"] for word in ("--seed", str(seed))]
        words += ["--steps", str(recipe.steps), "--candidates", str(recipe.candidates), "--trials", str(recipe.trials)]
        words += ["--scale", str(content["scale"])] if content["scale"] is not None else []
        words += ["--precision", content["precision"]] if content["precision"] != "auto" else []
        return shlex.join(words)


def _generator_options(spec: str) -> list[str]:
    """The options of `gen-prior synth` for a method of `load_methods`."""
    chosen = spec.removeprefix(PRESET_PREFIX)
    if spec.startswith(PRESET_PREFIX):
        return ["--preset", chosen]
    name, plus, preset = spec.rpartition("+")
    if plus and preset in PRESETS:
        return ["--preset", preset, "--generator", name]
    return ["--generator", spec]


@lru_cache(maxsize=2)
def projection(size: int) -> Tensor:
    """The random matrix `[64, size]` of signatures, always the same."""
    source = torch.Generator().manual_seed(0)
    return torch.randn(SIGNATURE, size, generator=source) / SIGNATURE**0.5
