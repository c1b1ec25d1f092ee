"""Resolve the user's input: targets -> objectives, seeds -> a list, both -> file names."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.objectives import Objective, activation, capped, log_probability
from gen_prior.objectives.distinct_names import with_distinct_names
from gen_prior.objectives.expressions import parse_targets, single_target
from gen_prior.objectives.mixes import AnyTarget, Mix
from gen_prior.objectives.natural_statistics import PhotographActivations, natural_statistics
from gen_prior.objectives.targets import Target, file_name
from gen_prior.optimise.presets import fitting_presets
from gen_prior.optimise.unit_scale import Field, field_of
from gen_prior.recipe import Recipe
from gen_prior.util.random import check_seed
from gen_prior.util.words import few

log = logging.getLogger(__name__)
TargetLike = str | int | Target | Mix | Objective


MOST_SEEDS = 10**6
"""Most seeds of a target."""


@dataclass(frozen=True)
class ResolvedObjective:
    """The objective that is maximised, and the target it came from (None for a user's own objective)."""

    objective: Objective
    target: AnyTarget | None
    recipe: Recipe
    field: Field | None = None
    """Part of the input that the image is drawn into; None for all of it."""
    photographs: PhotographActivations | None = None
    """Activations of photographs at the target, where a table of the classifier holds them."""

    @property
    def name(self) -> str:
        """Name in reports: the class name, `LAYER:UNIT`, or the objective's description."""
        if self.target is None:
            return self.objective.description
        return self.target.name

    @property
    def slug(self) -> str:
        """Name in file names, of letters, digits, dots and dashes."""
        return self.target.slug if self.target is not None else file_name(self.objective.description)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        field = None if self.field is None else self.field.to_list()
        photographs = None if self.photographs is None else self.photographs.to_dict()
        described = {
            "name": self.name, "objective": self.objective.description, "field": field, "photographs": photographs,
        }  # fmt: skip
        if self.target is not None:
            return described | self.target.to_dict()
        own = {"target": None, "origin": self.objective.origin}
        return described | own | ({"holds": self.objective.holds} if self.objective.holds else {})


def resolve_objectives(
    targets: TargetLike | Sequence[TargetLike],
    classifier: Classifier,
    recipe: Recipe,
    unit_recipe: Recipe | None = None,
) -> list[ResolvedObjective]:
    """The objectives of all targets that are named, ranges and patterns expanded.

    Each has the recipe that it follows: hidden units `unit_recipe` if it is given, everything else `recipe`. Under
    `recipe.score`, "log_probability" is of classes and falls back to the activation for others, and "capped" needs to
    know what photographs reach; under the recipe's `scale` each has its field.

    Raises `TargetError` or `UnknownNameError` for no such target, `OptionError` for none at all, or for a cap without
    natural statistics of the target.
    """
    listed = [targets] if isinstance(targets, TargetLike) or not isinstance(targets, Iterable) else list(targets)
    if wrong := [one for one in listed if not isinstance(one, TargetLike)]:
        raise OptionError(f"a target is a text, a class number or an Objective, got {wrong[0]!r}")
    if not listed:
        raise OptionError("no targets given", fix="name a class (goldfish) or a unit (LAYER:UNIT)")
    named: list[Objective | AnyTarget] = []
    for target in listed:
        if isinstance(target, Objective):
            for layer in target.layers:
                classifier.layer_shape(layer)
            named.append(target)
        else:
            named += parse_targets(target, classifier)
    resolved, table = [], natural_statistics(classifier)
    for one in with_distinct_names(named):
        parsed = None if isinstance(one, Objective) else one
        photographs = table.of(parsed) if table is not None and isinstance(parsed, Target) else None
        objective = one if isinstance(one, Objective) else activation(one)
        followed = unit_recipe if unit_recipe is not None and objective.hidden else recipe
        if parsed is not None:
            objective = _scored(objective, parsed, classifier, followed.score, photographs)
        field = field_of(classifier, objective, followed.scale)
        resolved.append(ResolvedObjective(objective, parsed, followed, field, photographs))
    return resolved


def warn_of_latents(resolved: Sequence[ResolvedObjective], classifier: Classifier) -> None:
    """Say in one line which latents no photograph of the table activates anywhere (dead).

    In another line, which at least half of them activate at the layer's centre (dense).
    """
    table = natural_statistics(classifier)
    latents = [one.target for one in resolved if isinstance(one.target, Target) and one.target.feature is not None]
    dead: list[str] = []
    dense: list[str] = []
    for target in latents if table is not None else []:
        anywhere, centre = (table.of(target, kind) for kind in ("anywhere", "centre"))  # type: ignore[union-attr]
        dead += [target.name] if anywhere is not None and anywhere.is_dead else []
        dense += [target.name] if centre is not None and centre.is_dense else []
    if dead:
        log.warning("dead latents, never active in the photographs of the table: %s", few(dead))
    if dense:
        log.warning("dense latents, active at the centre of at least half of the photographs: %s", few(dense))


def resolve_objective(target: TargetLike, classifier: Classifier, recipe: Recipe) -> ResolvedObjective:
    """The objective of one target, as `resolve_objectives`. Raises `TargetError` for text that names several."""
    named = target if isinstance(target, Objective) else single_target(target, classifier)
    return resolve_objectives(named, classifier, recipe)[0]


def _scored(
    plain: Objective, target: AnyTarget, classifier: Classifier, score: str, photographs: PhotographActivations | None
) -> Objective:
    """The score that a recipe's `score` makes of a target; `plain` is its activation."""
    if score == "log_probability" and isinstance(target, Target) and target.is_class and classifier.has_classes:
        return log_probability(target)
    if score != "capped":
        return plain
    if photographs is None:
        raise OptionError(
            f"the score 'capped' needs to know what photographs reach at {target}, which no table holds",
            fix="make one (gen-prior natural) and name it with --natural, or gp.objectives.capped(target, limit)",
        )
    return capped(target, photographs.best)


def class_weights_of(target: AnyTarget | None, classifier: Classifier) -> dict[str, float]:
    """{key: weight} of the target's classes for `Generator.initial_code`; a key is a WordNet id, else a name.

    Classes that are to respond little are left out: there is no start far from a class.
    """
    weights = {}
    for weight, unit in target.terms if target is not None else ():
        key = classifier.class_key(unit.unit) if unit.is_class and weight > 0 else None
        if key is not None:
            weights[key] = weight
    return weights


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
        if type(seeds) is not int or not 1 <= seeds <= MOST_SEEDS:
            raise OptionError(f"seeds must be a whole number from 1 to {MOST_SEEDS}, got {seeds}")
        return list(range(seeds))
    numbers = [check_seed(seed) for seed in seeds]
    if not numbers or len(set(numbers)) < len(numbers):
        raise OptionError(f"seeds must be different numbers, at least one, got {numbers}")
    return numbers


def unique_slugs(resolved: Sequence[ResolvedObjective | AnyTarget]) -> list[str]:
    """One file name per objective, of at most 80 letters; objectives of the same name are numbered."""
    slugs: list[str] = []
    taken: set[str] = set()  # in lower case: some file systems do not tell A from a
    for one in resolved:
        # At most 200 bytes: names of 255 are allowed, and letters of other scripts take up to four.
        name, count = one.slug[:80].encode()[:200].decode(errors="ignore").rstrip("-."), 2
        slug = name
        while slug.lower() in taken:
            slug, count = f"{name}-{count}", count + 1
        slugs.append(slug)
        taken.add(slug.lower())
    return slugs


def item_names(slugs: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """File names of the items without their endings, targets outermost."""
    return [f"{slug}-seed{seed}" for slug in slugs for seed in seeds]


def planned_names(classifier: Classifier, targets: Sequence[TargetLike], seeds: int | Iterable[int]) -> list[str]:
    """The file names, without their endings, that `synthesize` will give its items. Raises as it does."""
    resolved = resolve_objectives(targets, classifier, Recipe(scale="image"))
    return item_names(unique_slugs(resolved), seed_list(seeds))
