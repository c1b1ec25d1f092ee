"""The methods of a comparison: names -> generators and the recipes that optimise through them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

import gen_prior.defaults as defaults
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.generators import NAMED, PREFIXED, load_generator
from gen_prior.generators.base import Generator
from gen_prior.optimise.presets import PRESETS, preset, preset_generator, preset_options, remark_on
from gen_prior.optimise.resolve import check_domain
from gen_prior.recipe import Recipe

PRESET_PREFIX = "preset:"
MethodLike = str | Generator


@dataclass(frozen=True)
class Method:
    """One row of a comparison: its name, the generator, and the recipes for classes and for hidden units."""

    name: str
    generator: Generator
    recipe: Recipe
    unit_recipe: Recipe

    @property
    def folder(self) -> str:
        """Name of the sub-folder of its results."""
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.name).strip("-.") or "method"

    def within(self, evaluations: int) -> Method:
        """Return the method with recipes that take at most so many classifier evaluations for each image."""
        recipe, unit_recipe = self.recipe.within(evaluations), self.unit_recipe.within(evaluations)
        return replace(self, recipe=recipe, unit_recipe=unit_recipe)


def load_methods(methods: Sequence[MethodLike], device: torch.device, **options: Any) -> list[Method]:
    """Load the methods; a name whose folder is taken gets a number. Raises `OptionError`, `UnknownNameError`.

    `options`: of every generator that is given by its name, such as `image_size`.
    """
    if isinstance(methods, str):
        methods = [methods]
    if not methods:
        raise OptionError("no methods given", fix=f"for example {', '.join(defaults.METHODS)}")
    rows: list[Method] = []
    for method in methods:
        row, count = _load(method, device, options), 2
        check_domain(row.recipe, row.generator)
        taken, name = [other.folder.lower() for other in rows], row.name
        while row.folder.lower() in taken:
            row, count = replace(row, name=f"{name}-{count}"), count + 1
        rows.append(row)
    return rows


def _load(method: MethodLike, device: torch.device, options: dict[str, Any]) -> Method:
    """A generator, a preset, `preset:NAME` or `GENERATOR+PRESET`, with these options of the generator."""
    if isinstance(method, Generator):
        return _by_own_recipes(method.name, method.to(device))
    chosen = method.removeprefix(PRESET_PREFIX)
    if method.startswith(PRESET_PREFIX) or (chosen in PRESETS and chosen not in NAMED):
        own = preset_generator(chosen)
        generator, recipe = load_generator(own, device=device, **preset_options(chosen) | options), preset(chosen)
        return Method(chosen, generator, recipe, recipe)
    name, plus, chosen = method.rpartition("+")
    if plus and chosen in PRESETS:
        generator, recipe = (
            load_generator(name, device=device, **preset_options(chosen, name) | options),
            preset(chosen),
        )
        return Method(method, generator, recipe, recipe)
    if method not in NAMED and method.partition(":")[0] not in PREFIXED:
        raise UnknownNameError("method", method, [*NAMED, *PREFIXED, *PRESETS], fix="list generators: gen-prior models")
    return _by_own_recipes(method, load_generator(method, device=device, **options))


def _by_own_recipes(name: str, generator: Generator) -> Method:
    return Method(name, generator, generator.recipe, generator.unit_recipe)


def preset_remarks(methods: Sequence[str]) -> list[str]:
    """Remarks on presets that are used with another generator than they were published for, without repeats."""
    parts = [method.rpartition("+") for method in methods]
    remarks = [remark_on(chosen, name) for name, plus, chosen in parts if plus and chosen in PRESETS]
    return list(dict.fromkeys(filter(None, remarks)))
