"""The methods of a comparison: names -> generators and the recipes that optimise through them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

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
    """One row of a comparison: its name, the generator, and the recipe that optimises through it."""

    name: str
    generator: Generator
    recipe: Recipe

    @property
    def folder(self) -> str:
        """Name of the sub-folder of its results."""
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.name).strip("-.") or "method"


def load_methods(methods: Sequence[MethodLike], device: torch.device) -> list[Method]:
    """Load the methods; a name whose folder is taken gets a number. Raises `OptionError`, `UnknownNameError`."""
    if isinstance(methods, str):
        methods = [methods]
    if not methods:
        raise OptionError("no methods given", fix=f"for example {', '.join(defaults.METHODS)}")
    rows: list[Method] = []
    for method in methods:
        name, generator, recipe = _load(method, device)
        check_domain(recipe, generator)
        taken = [row.folder.lower() for row in rows]
        row, count = Method(name, generator, recipe), 2
        while row.folder.lower() in taken:
            row, count = Method(f"{name}-{count}", generator, recipe), count + 1
        rows.append(row)
    return rows


def _load(method: MethodLike, device: torch.device) -> tuple[str, Generator, Recipe]:
    """Name, generator and recipe of a generator, a preset, `preset:NAME` or `GENERATOR+PRESET`."""
    if isinstance(method, Generator):
        return method.name, method.to(device), method.recipe
    chosen = method.removeprefix(PRESET_PREFIX)
    if method.startswith(PRESET_PREFIX) or (chosen in PRESETS and chosen not in NAMED):
        own = preset_generator(chosen)
        return chosen, load_generator(own, device=device, **preset_options(chosen)), preset(chosen)
    name, plus, chosen = method.rpartition("+")
    if plus and chosen in PRESETS:
        return method, load_generator(name, device=device, **preset_options(chosen, name)), preset(chosen)
    if method not in NAMED and method.partition(":")[0] not in PREFIXED:
        raise UnknownNameError("method", method, [*NAMED, *PREFIXED, *PRESETS], fix="list generators: gen-prior models")
    generator = load_generator(method, device=device)
    return method, generator, generator.recipe


def preset_remarks(methods: Sequence[str]) -> list[str]:
    """Remarks on presets that are used with another generator than they were published for, without repeats."""
    parts = [method.rpartition("+") for method in methods]
    remarks = [remark_on(chosen, name) for name, plus, chosen in parts if plus and chosen in PRESETS]
    return list(dict.fromkeys(filter(None, remarks)))
