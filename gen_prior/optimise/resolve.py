"""Resolve the user's input: targets -> objectives, seeds -> a list, both -> file names."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.objectives import Objective, activation, log_probability
from gen_prior.objectives.targets import Target, parse_target
from gen_prior.optimise.presets import fitting_presets
from gen_prior.optimise.unit_scale import Field, field_of
from gen_prior.recipe import Recipe
from gen_prior.util.random import MAX_SEED

TargetLike = str | int | Target | Objective


@dataclass(frozen=True)
class ResolvedObjective:
    """The objective that is maximised, and the target it came from (None for a user's own objective)."""

    objective: Objective
    target: Target | None
    field: Field | None = None
    """Part of the input that the image is drawn into; None for all of it."""

    @property
    def name(self) -> str:
        """Name in reports: the class name, `LAYER:UNIT`, or the objective's description."""
        if self.target is None:
            return self.objective.description
        return self.target.label or str(self.target)

    @property
    def slug(self) -> str:
        """Name in file names."""
        return self.target.slug if self.target is not None else Target("objective", 0, None, "").slug

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        field = None if self.field is None else self.field.to_list()
        described = {"name": self.name, "objective": self.objective.description, "field": field}
        return described | (self.target.to_dict() if self.target is not None else {"target": None})


def resolve_objective(target: TargetLike, classifier: Classifier, recipe: Recipe) -> ResolvedObjective:
    """The objective of a target under `recipe.score`, and its field under `recipe.scale`.

    "log_probability" falls back to the activation for hidden units.

    Raises `TargetError` or `UnknownNameError` for no such target.
    """
    if isinstance(target, Objective):
        for layer in target.layers:
            classifier.layer_shape(layer)
        return ResolvedObjective(target, None)
    parsed = parse_target(target, classifier)
    use_probability = recipe.score == "log_probability" and parsed.is_class
    objective = (log_probability if use_probability else activation)(parsed)
    return ResolvedObjective(objective, parsed, field_of(classifier, parsed, recipe.scale))


def class_key_of(target: Target | None, classifier: Classifier) -> str | None:
    """Key of the target's class for `Generator.initial_code`: WordNet id, else name; None if it is no class."""
    return classifier.class_key(target.unit) if target is not None and target.is_class else None


def check_domain(recipe: Recipe, generator: Generator) -> None:
    """Raise `OptionError` where a recipe for images meets a generator with a latent code, or the reverse."""
    if recipe.domain not in ("any", generator.domain):
        kinds = {"image": "image parameterisations (pixel, fourier, maco)", "code": "generators with a latent code"}
        raise OptionError(
            f"this recipe is meant for {kinds[recipe.domain]}, but {generator.name} is not one of them"
            + (f" ({recipe.source})" if recipe.source else ""),
            fix=f"take one of {', '.join(fitting_presets(generator.domain))}, or the generator's own recipe",
        )


def seed_list(seeds: int | Iterable[int]) -> list[int]:
    """A checked list of seeds: 4 means seeds 0 to 3; or the seeds themselves. Raises `OptionError`."""
    if not isinstance(seeds, Iterable):
        if seeds < 1:
            raise OptionError(f"seeds must be at least 1, got {seeds}")
        return list(range(operator.index(seeds)))
    try:
        numbers = [operator.index(seed) for seed in seeds]
    except TypeError as error:
        raise OptionError(f"seeds must be whole numbers, got {seeds!r}") from error
    if not numbers or len(set(numbers)) < len(numbers):
        raise OptionError(f"seeds must be different numbers, at least one, got {numbers}")
    if bad := [seed for seed in numbers if not 0 <= seed <= MAX_SEED]:
        raise OptionError(f"seeds must lie in 0 to {MAX_SEED}, got {bad[0]}")
    return numbers


def unique_slugs(resolved: Sequence[ResolvedObjective]) -> list[str]:
    """One file name per objective; objectives of the same name are numbered."""
    slugs: list[str] = []
    for one in resolved:
        name, count = one.slug[:80].rstrip("-."), 2
        slug = name
        while slug in slugs:
            slug, count = f"{name}-{count}", count + 1
        slugs.append(slug)
    return slugs


def item_names(slugs: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """File names of the items without their endings, targets outermost."""
    return [f"{slug}-seed{seed}" for slug in slugs for seed in seeds]


def planned_names(classifier: Classifier, targets: Sequence[TargetLike], seeds: int | Iterable[int]) -> list[str]:
    """The file names, without their endings, that `synthesize` will give its items. Raises as it does."""
    resolved = [resolve_objective(target, classifier, Recipe(scale="image")) for target in targets]
    return item_names(unique_slugs(resolved), seed_list(seeds))
