"""Several different inputs of one neuron: chains that sample (PPGN, Nguyen et al. 2017), and seeds kept apart.

Both run the one loop, in pieces: a chain as segments that start where the last one ended, seeds one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.objectives import activation, apart_from, log_probability
from gen_prior.objectives.targets import Target, parse_target
from gen_prior.optimise.batch import Item
from gen_prior.optimise.loop import NON_FINITE, optimise
from gen_prior.optimise.result import Result
from gen_prior.optimise.starts import wanted_class
from gen_prior.optimise.synthesize import TargetLike, check_domain, goal_of, seed_list, synthesize
from gen_prior.recipe import Recipe
from gen_prior.util.random import derived_seed

SAMPLER = Recipe(
    optimiser="normalised",
    rate=0.1,
    final_rate=0.1,
    score="log_probability",
    edits=(("langevin", {"pull": 0.02}),),
    domain="code",
    source="after PPGN, Nguyen et al. 2017, arXiv 1612.00005; ours: noise as strong as the Gaussian prior's own",
)


@dataclass(frozen=True)
class Chain:
    """What `sample_chain` kept, in order, on the CPU."""

    codes: Tensor
    """`[N, *code_shape]`."""
    images: Tensor
    """`[N, 3, H, W]`, RGB, in [0, 1]."""
    scores: Tensor
    """`[N]`: probability of a class, activation of a hidden unit."""
    iterations: list[int]
    """After how many iterations each was taken."""
    visited: Tensor
    """`[M]`: the score at every place that the chain was looked at, kept or not."""


def sample_chain(
    classifier: Classifier,
    target: str | int | Target,
    generator: Generator,
    *,
    iterations: int = 200,
    reset: int = 100,
    every: int = 10,
    threshold: float = 0.98,
    apart: float = 0.5,
    seed: int = 0,
    recipe: Recipe | None = None,
    precision: str = "auto",
    progress: Callable[[int, int, float, int], None] | None = None,
) -> Chain:
    """Samples of one target from one chain of noisy steps (PPGN, Nguyen et al. 2017, arXiv 1612.00005).

    Args:
        iterations: steps in all (200 in the paper for classes, 1000 for hidden units).
        reset: steps after which the chain starts again from a fresh code (100 in the paper).
        every: steps between looks at the chain.
        threshold: a code is kept where its score, without transforms, is above this: the probability of a class
            (0.98 in the paper), the raw activation of a hidden unit.
        apart: and where it is at least this far from every kept code: root mean square difference in deviations
            of the code's prior. Two independent codes of a Gaussian prior are sqrt(2) apart.
        seed: of all draws.
        recipe: of the steps, with an update rule that remembers nothing; `SAMPLER` under the transforms of the
            generator's own recipe where None. Its `steps` are not used and its rate stays as it starts.
            `preset("ppgn2017")` is the published one, for codes of DeePSim's fc6.
        progress: called as (iterations done, of all, score, codes kept) at every look.

    Returns:
        A `Chain`; it may be empty.

    Raises:
        OptionError: numbers that make no chain, a recipe with momentum or for other generators.
        TargetError, UnknownNameError: no such target.
    """
    if not 1 <= every <= reset or iterations < every:
        raise OptionError(f"needs 1 <= every <= reset and every <= iterations, got {every}, {reset}, {iterations}")
    if recipe is None:  # the published sampler has no transforms; without them the embedded prior's images are noisier
        recipe = SAMPLER.with_options(transforms=generator.recipe.transforms)
    if recipe.optimiser == "adam" or (recipe.optimiser == "sgd" and recipe.momentum):
        raise OptionError(
            "a chain cannot use momentum: where it goes must depend on where it is",
            fix='use the optimiser "normalised", or "sgd" with momentum 0',
        )
    seed = seed_list([seed])[0]
    check_domain(recipe, generator)
    parsed = parse_target(target, classifier)
    objective = log_probability(parsed) if parsed.is_class else activation(parsed)
    generator = generator.to(classifier.device).fitted_to(classifier.input_size)
    deviation = torch.as_tensor(generator.prior.std, dtype=torch.float32).cpu()
    wanted = wanted_class(parsed, classifier)
    code = generator.initial_code(seed, wanted)
    since_reset, done = 0, 0
    codes: list[Tensor] = []
    images: list[Tensor] = []
    scores: list[float] = []
    taken: list[int] = []
    visited: list[float] = []
    while done < iterations:
        steps = min(every, reset - since_reset, iterations - done)
        piece = recipe.with_options(steps=steps, final_rate=recipe.rate, keep="last")
        item = Item(objective, derived_seed(seed, done), code)
        outcome = optimise(classifier, generator, [item], piece, precision=precision)
        done, since_reset, code = done + steps, since_reset + steps, outcome.codes[0]
        value = float(outcome.activations[0].exp() if parsed.is_class else outcome.activations[0])
        visited.append(value)
        if value > threshold and all(_distance(code, kept, deviation) >= apart for kept in codes):
            codes.append(code)
            images.append(outcome.images[0])
            scores.append(value)
            taken.append(done)
        if since_reset >= reset or outcome.status[0] == NON_FINITE:
            code, since_reset = generator.initial_code(derived_seed(seed, done), wanted), 0
        if progress is not None:
            progress(done, iterations, value, len(codes))
    return Chain(
        torch.stack(codes) if codes else torch.empty(0, *generator.code_shape),
        torch.stack(images) if images else torch.empty(0, 3, *generator.image_shape()),
        torch.tensor(scores),
        taken,
        torch.tensor(visited),
    )


def synthesize_apart(
    classifier: Classifier,
    target: TargetLike,
    generator: Generator,
    layer: str,
    *,
    weight: float = 1.0,
    seeds: int | Iterable[int] = 4,
    recipe: Recipe | None = None,
    **options: Any,
) -> list[Result]:
    """One result per seed, each pushed away from those before it: diversity, by choice and in order.

    From the second seed on the objective is the target plus `weight` times the distance, at `layer`, from the
    images so far (`objectives.apart_from`); the activations are the target's own, without the distance. So a result
    depends on the seeds before it, unlike those of `synthesize`, but on nothing else. `options` go to `synthesize`.
    """
    chosen = recipe if recipe is not None else generator.recipe
    results: list[Result] = []
    for seed in seed_list(seeds):
        wish: TargetLike = target
        if results:
            goal = goal_of(target, classifier, chosen)
            finished = torch.cat([result.images[0] for result in results])
            own = activation(goal.target) if goal.target is not None else goal.objective
            wish = (goal.objective + weight * apart_from(classifier, finished, layer)).reporting(own)
        results.append(synthesize(classifier, wish, generator, seeds=[seed], recipe=chosen, **options))
    return results


def _distance(code: Tensor, other: Tensor, deviation: Tensor) -> float:
    return float(((code - other) / deviation).square().mean().sqrt())


__all__ = ["SAMPLER", "Chain", "sample_chain", "synthesize_apart"]
