"""Several different inputs of one neuron: sampling chains (PPGN, Nguyen et al. 2017), and seeds pushed apart.

Both run the one loop in pieces: a chain in segments that start where the last one ended, seeds one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from gen_prior.applications.chain import Chain
from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.objectives import Objective, apart_from
from gen_prior.objectives.mixes import AnyTarget
from gen_prior.optimise.batch import NON_FINITE, Item
from gen_prior.optimise.engine import Engine
from gen_prior.optimise.presets import as_recipe
from gen_prior.optimise.resolve import (
    ResolvedObjective,
    TargetLike,
    check_domain,
    class_weights_of,
    resolve_objective,
    seed_list,
)
from gen_prior.optimise.result import Result
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.util.progress import Progress, ProgressOption, progress_callback
from gen_prior.util.random import check_seed, derived_seed

SAMPLER = Recipe(
    optimiser="normalised",
    rate=0.1,
    final_rate=0.1,
    score="log_probability",
    edits=(("langevin", {"pull": 0.02}),),
    domain="code",
    source="after PPGN, Nguyen et al. 2017, arXiv 1612.00005; ours: noise as strong as the Gaussian prior's own",
)


def sample_chain(
    classifier: Classifier | str,
    target: str | int | AnyTarget,
    generator: Generator | str,
    *,
    iterations: int = 200,
    reset: int = 100,
    every: int = 10,
    threshold: float = 0.98,
    apart: float = 0.5,
    seed: int = 0,
    recipe: Recipe | str | None = None,
    precision: str = "auto",
    progress: ProgressOption = None,
) -> Chain:
    """Sample inputs of one target from one chain of noisy steps (PPGN, Nguyen et al. 2017, arXiv 1612.00005).

    Args:
        iterations: steps in all (200 in the paper for classes, 1000 for hidden units).
        reset: steps after which the chain restarts from a fresh code (100 in the paper).
        every: steps between checks of the chain.
        threshold: a code is kept if its score, without transforms, is above this: the probability of a class
            (0.98 in the paper), the raw activation of a hidden unit.
        apart: and if it is at least this far from every kept code: root mean square difference in units of the
            prior's std. Two independent codes of a Gaussian prior are sqrt(2) apart.
        seed: seed of all random draws.
        recipe: settings of the steps, with an update rule without momentum; `SAMPLER` under the transforms of the
            generator's own recipe where None. Its `steps` are not used and its rate stays constant.
            `preset("ppgn2017")` is the published one, for codes of DeePSim's fc6.
        progress: as `synthesize` takes it, at every check: iterations done, the number of kept codes, the score.

    Returns:
        A `Chain`; it may be empty.

    Raises:
        OptionError: settings that make no chain, a recipe with momentum or for other generators.
        TargetError, UnknownNameError: no such target.
    """
    classifier, generator = as_classifier(classifier), as_generator(generator)
    recipe = as_recipe(recipe)
    if not 1 <= every <= reset or iterations < every:
        raise OptionError(f"needs 1 <= every <= reset and every <= iterations, got {every}, {reset}, {iterations}")
    if recipe is None:  # the published sampler has no transforms; without them the embedded prior's images are noisier
        recipe = SAMPLER.with_options(transforms=generator.recipe.transforms)
    if recipe.optimiser == "adam" or (recipe.optimiser == "sgd" and recipe.momentum):
        raise OptionError(
            "a chain cannot use momentum: the next step must depend on the current code only",
            fix='use the optimiser "normalised", or "sgd" with momentum 0',
        )
    seed = check_seed(seed)
    check_domain(recipe, generator)
    resolved = resolve_objective(target, classifier, recipe.with_options(score="log_probability"))
    generator = generator.to(classifier.device).fitted_to(classifier.input_size, len(classifier.mean))
    chain = _Chain(Engine(classifier, generator, precision=precision), resolved, recipe, seed)
    report = progress_callback(progress, lambda p: (p.done, p.total, chain.visited[-1], len(chain.codes)))
    done = since_reset = 0
    while done < iterations:
        steps = min(every, reset - since_reset, iterations - done)
        broken = chain.advance(steps, done)
        done, since_reset = done + steps, since_reset + steps
        chain.keep_if(threshold, apart, done)
        if since_reset >= reset or broken:
            since_reset = 0
            chain.restart(done)
        if report is not None:
            report(Progress(done, iterations, f"{len(chain.codes)} kept", torch.tensor(chain.visited[-1])))
    return chain.samples()


class _Chain:
    """State of a chain: its code, and the samples kept so far."""

    def __init__(self, engine: Engine, resolved: ResolvedObjective, recipe: Recipe, seed: int) -> None:
        self.engine, self.resolved, self.recipe, self.seed = engine, resolved, recipe, seed
        self.std = torch.as_tensor(engine.generator.prior.std, dtype=torch.float32).cpu()
        self.is_probability = resolved.target is not None and resolved.target.is_class
        self.wanted = class_weights_of(resolved.target, engine.classifier)
        self.code = engine.generator.initial_code(seed, self.wanted)
        self.codes: list[Tensor] = []
        self.images: list[Tensor] = []
        self.scores: list[float] = []
        self.iterations: list[int] = []
        self.visited: list[float] = []

    def advance(self, steps: int, done: int) -> bool:
        """Take `steps` steps after `done` others; True if the gradient was not finite."""
        piece = self.recipe.with_options(steps=steps, final_rate=self.recipe.rate, keep="last")
        item = Item(self.resolved.objective, derived_seed(self.seed, done), self.code, field=self.resolved.field)
        result = self.engine.optimise([item], piece)
        self.code, self.image = result.codes[0], result.images[0]
        score = result.activations[0]
        self.visited.append(float(score.exp() if self.is_probability else score))
        return result.status[0] == NON_FINITE

    def keep_if(self, threshold: float, apart: float, done: int) -> None:
        """Keep the current code if it scores above `threshold` and is `apart` from all kept ones."""
        if self.visited[-1] > threshold and all(self._distance(kept) >= apart for kept in self.codes):
            self.codes.append(self.code)
            self.images.append(self.image)
            self.scores.append(self.visited[-1])
            self.iterations.append(done)

    def restart(self, done: int) -> None:
        """Go on from a fresh code."""
        self.code = self.engine.generator.initial_code(derived_seed(self.seed, done), self.wanted)

    def samples(self) -> Chain:
        """The kept samples."""
        generator = self.engine.generator
        return Chain(
            torch.stack(self.codes) if self.codes else torch.empty(0, *generator.code_shape),
            torch.stack(self.images) if self.images else torch.empty(0, 3, *generator.image_shape()),
            torch.tensor(self.scores),
            self.iterations,
            torch.tensor(self.visited),
            self.resolved.field,
        )

    def _distance(self, other: Tensor) -> float:
        return float(((self.code - other) / self.std).square().mean().sqrt())


def synthesize_apart(
    classifier: Classifier | str,
    target: TargetLike,
    generator: Generator | str,
    layer: str,
    *,
    weight: float = 1.0,
    seeds: int | Iterable[int] = 4,
    recipe: Recipe | str | None = None,
    **options: Any,
) -> list[Result]:
    """One result per seed, each pushed away from those before it.

    From the second seed on the objective is the target plus `weight` times the distance, at `layer`, from the
    images so far (`objectives.apart_from`); the reported activations are the target's own. Unlike those of
    `synthesize`, a result depends on the seeds before it. `options` are those of `synthesize`.
    """
    classifier, generator = as_classifier(classifier), as_generator(generator)
    recipe = as_recipe(recipe)
    chosen = recipe if recipe is not None else generator.recipe
    results: list[Result] = []
    for seed in seed_list(seeds):
        objective: TargetLike = target
        if results:
            resolved = resolve_objective(target, classifier, chosen)
            finished = torch.cat([result.images[0] for result in results])
            objective = resolved.objective + weight * apart_from(classifier, finished, layer)
            objective = objective.reporting(_reported(resolved))
        results.append(synthesize(classifier, objective, generator, seeds=[seed], recipe=chosen, **options))
    return results


def _reported(resolved: ResolvedObjective) -> Objective:
    """The activation of the target, which results report."""
    if (target := resolved.target) is None:
        return resolved.objective
    return Objective(lambda activations, image, code: target.read(activations), target.layers, target.name)


__all__ = ["SAMPLER", "Chain", "sample_chain", "synthesize_apart"]
