"""The recipe of a whole training: classifier, photographs, stages and their settings, as TOML."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import gen_prior.defaults as defaults
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.training.settings import TrainingSettings, with_values
from gen_prior.training.stages import STAGES
from gen_prior.training.stages.fine_code import FineCodeSettings
from gen_prior.util.reading import read_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SET_BY_STAGES = ("parent_sha256", "started_from")
MAX_BYTES = 2**22
"""Most bytes that are read of a recipe."""


def _defaults() -> dict[str, TrainingSettings]:
    """The settings of all stages that a recipe starts from."""
    return {name: kind.Settings() for name, kind in STAGES.items()} | {
        "fine-code": FineCodeSettings(coring=0.5, grain=0.15)
    }


@dataclass(frozen=True)
class TrainingRecipe:
    """All that a prior is a function of, beside the files that are named here."""

    classifier: str = defaults.CLASSIFIER
    """The classifier that the prior is for, by a name as in `gen-prior models`."""
    images: tuple[str, ...] = ()
    """Folders of photographs, nested or flat, or of .tar shards of them."""
    large: tuple[str, ...] = ()
    """Folders of larger photographs, a few hundred, for the high-resolution part of codes; empty: some of `images`."""
    most_large: int = 2_000
    """Most photographs that are read for the high-resolution part; of more, evenly spaced ones."""
    images_sha256: str = ""
    """Hash of the names of all files in `images`, which must match; empty: any."""
    large_sha256: str = ""
    """Hash of the names of all files in `large`, which must match; empty: any."""
    stages: tuple[str, ...] = ("decoder", "flow", "texture", "fine-code", "class-exemplars")
    """The stages that are run, in this order."""
    judge: str = "efficientnet-lite1"
    """Another classifier, which names the classes of the images after each stage; empty: none."""
    measured: int = 16
    """Classes, and half as many hidden units, whose images are made after each stage."""
    measured_steps: int = 0
    """Steps for each of these images; 0: those of the generator's own settings."""
    settings: Mapping[str, TrainingSettings] = field(default_factory=_defaults)
    """Settings of each stage, by the stage's name."""

    def check(self) -> None:
        """Raises `OptionError` or `UnknownNameError` for a recipe that cannot be run."""
        if not self.images:
            raise OptionError("a recipe needs photographs", fix="pass --images DIR, or images = [...] in the recipe")
        for name in self.stages:
            if name not in STAGES:
                raise UnknownNameError("stage", name, STAGES)
            self.settings[name].check()
        if not self.stages or STAGES[self.stages[0]].extends or len(set(self.stages)) < len(self.stages):
            raise OptionError(f"stages must begin with decoder and each occur once, got {', '.join(self.stages)}")

    def with_sources(self, images: Sequence[Path] | None, large: Sequence[Path] | None) -> TrainingRecipe:
        """The recipe with other folders of photographs, where they are given."""
        return replace(
            self,
            images=tuple(map(str, images)) if images else self.images,
            large=tuple(map(str, large)) if large else self.large,
        )


def read_recipe(path: Path) -> TrainingRecipe:
    """The recipe in a TOML file; what it does not say has its default.

    Raises `OptionError` for a file that cannot be read or a value of a wrong type, `UnknownNameError` for a name that
    no recipe has.
    """
    try:
        values = tomllib.loads(read_regular(path, limit=MAX_BYTES).decode(errors="surrogateescape"))
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError(f"{path} is not a recipe that can be read: {error}") from error
    stages = {name: values.pop(name) for name in STAGES if name in values}
    for name, table in stages.items():
        if not isinstance(table, dict):
            raise OptionError(f"{path}: {name} is a stage, got {table!r}", fix=f"[{name}], and its settings below")
    tables = {f"{name}.{key}": value for name, table in stages.items() for key, value in table.items()}
    return with_settings(TrainingRecipe(), values | tables)


def with_settings(recipe: TrainingRecipe, values: Mapping[str, Any]) -> TrainingRecipe:
    """The recipe with values of its own fields, by name, and of stages' settings, by "stage.name"."""
    settings = dict(recipe.settings)
    own = {}
    for name, value in values.items():
        stage, dot, setting = name.partition(".")
        if not dot and name != "settings":
            own[name] = value
        elif stage not in settings:
            raise UnknownNameError("stage", stage, STAGES)
        else:
            settings[stage] = with_values(settings[stage], {setting: value})
    return replace(with_values(recipe, own), settings=settings)


def recipe_text(recipe: TrainingRecipe) -> str:
    """The recipe as TOML, every field explained."""
    lines = _table(recipe)
    for name, settings in recipe.settings.items():
        about = inspect.getdoc(STAGES[name]) or ""
        lines += ["", "", f"# {about.splitlines()[0]}", f"[{name}]", *_table(settings)]
    return "\n".join(lines) + "\n"


def _table(settings: Any) -> list[str]:
    """Lines of TOML that set every field of a dataclass, each after what its docstring says."""
    told = explanations(type(settings))
    lines = []
    for part in fields(settings):
        if part.name not in ("settings", *SET_BY_STAGES):
            value = getattr(settings, part.name)
            text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
            lines += [f"# {line}" for line in told[part.name].splitlines()] + [f"{part.name} = {text}"]
    return lines


def explanations(kind: type) -> dict[str, str]:
    """The docstring of each field of a dataclass, those of its bases included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        (tree,) = ast.parse(inspect.getsource(base)).body
        assert isinstance(tree, ast.ClassDef)
        for statement, after in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(after, ast.Expr):
                found[ast.unparse(statement.target)] = inspect.cleandoc(ast.literal_eval(after.value))
    return found
