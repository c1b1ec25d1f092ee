"""The one optimisation loop: code -> generator -> image -> transforms -> classifier -> objective -> code.

Everything else knows one end only. Objectives give scores, regularisers penalties; here, and only here,
`loss = -score + penalty`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.hooks import LOGITS
from gen_prior.errors import OptionError
from gen_prior.generators.base import CodePrior, Generator
from gen_prior.optimise.batch import Batch, Item
from gen_prior.optimise.cuda_graph import WORTHWHILE, CapturedStep, Step
from gen_prior.optimise.edits.code import build_edit
from gen_prior.optimise.edits.context import Context, Edit
from gen_prior.optimise.edits.gradient import build_gradient_edit
from gen_prior.optimise.regularisers import Regulariser, build_regulariser, checked_penalty
from gen_prior.optimise.transforms import Transform, as_transform, build_transform
from gen_prior.optimise.update_rules import OPTIMISERS, State
from gen_prior.recipe import Recipe, schedule
from gen_prior.util.devices import as_like, autocast
from gen_prior.util.random import Streams

COMPILER = "inductor"
OK, DEAD, NON_FINITE, FLAT = "ok", "no gradient at the start", "non-finite gradient", "did not rise"


@dataclass(frozen=True)
class Outcome:
    """Of a batch: codes `[B, *code_shape]`, images `[B, 3, H, W]`, and numbers, all on the CPU."""

    codes: Tensor
    images: Tensor
    scores: Tensor
    activations: Tensor
    start_activations: Tensor
    history: Tensor
    """`[B, steps]`: the activation in each forward pass, under that step's transforms."""
    status: list[str]


Progress = Callable[[int, int, Tensor], None]
"""(step, steps, activations `[B]` still on the device): reading them makes the host wait, so do it seldom."""
Record = Callable[[int, Tensor], None]
"""(step, images `[B, 3, H, W]` on the device): those that the step starts from, and one more time the final ones."""


def optimise(
    classifier: Classifier,
    generator: Generator,
    items: Sequence[Item],
    recipe: Recipe,
    *,
    transforms: Sequence[Transform | Callable[[Tensor], Tensor]] = (),
    regularisers: Sequence[Regulariser] = (),
    edits: Sequence[Edit] = (),
    precision: str = "auto",
    compile: bool = False,
    progress: Progress | None = None,
    record: Record | None = None,
) -> Outcome:
    """Maximise each item's objective over its code by `recipe`; items do not influence each other.

    `transforms`, `regularisers` and `edits` are applied after those that the recipe names. Ends on the last
    iterate (or the best one, by the recipe). The start and the end are measured in float32, without transforms
    and without code noise.

    Raises:
        OptionError: the score does not depend on the code by anything that can be differentiated, or `compile`
            is wanted for something else than class targets.
    """
    device = classifier.device
    batch = Batch(items, device)
    ours = all(item.target is not None for item in items) and not (transforms or regularisers)
    streams = Streams([item.seed for item in items], device)
    applied = [*(build_transform(*spec) for spec in recipe.transforms), *map(as_transform, transforms)]
    regularisers = [*_regularisers(recipe, generator), *regularisers]
    edits = [*(build_edit(*spec) for spec in recipe.edits), *edits]
    gradient_edits = [build_gradient_edit(*spec) for spec in recipe.gradient_edits]
    draws = streams.uniform(recipe.steps, sum(transform.count for transform in applied))
    update, state = OPTIMISERS[recipe.optimiser](recipe), State()
    code = torch.stack([item.start for item in items]).to(device)
    history = torch.zeros(recipe.steps, len(items), device=device)
    broken = torch.zeros(len(items), dtype=torch.bool, device=device)
    best = torch.full((len(items),), -torch.inf, device=device)
    best_code = code
    if compile and batch.layers != (LOGITS,):  # a compiled graph outlives the hooks it was traced with
        raise OptionError(f"compile=True works for class targets, not for {batch.layers}", fix="leave compile out")
    with classifier.record_layers(batch.layers) as reader:
        plain = reader.network
        fast: nn.Module = torch.compile(plain, backend=COMPILER) if compile else plain  # type: ignore[assignment]
        # A network gains from bf16; an image that is its own code would only lose digits.
        generate_in = precision if generator.domain == "code" else "fp32"

        def view(code: Tensor, draw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Image, scores and activations of codes, seen through one step's transforms."""
            with autocast(generate_in, device):
                image = generator(code).float()
            seen = classifier.resize(image)
            inputs = classifier.preprocess(_transformed(seen, applied, draw))
            with autocast(precision, device):
                activations = reader(inputs.contiguous(memory_format=torch.channels_last))
            return image, *batch.evaluate(activations, image, code)

        def look(code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Image, scores and activations of codes as they are, in float32."""
            reader.network = plain
            image = generator(code).float()
            measured = batch.evaluate(reader(classifier.preprocess(image)), image, code)
            reader.network = fast
            return image, *measured

        def climb(code: Tensor, draw: Tensor, *noise: Tensor) -> tuple[Tensor, ...]:
            """Image, scores, activations, losses and their gradient, of codes under one step's transforms and noise."""
            code = code.detach().requires_grad_()
            image, score, activation = view(code + noise[0] if noise else code, draw)
            loss = -score
            for regulariser in regularisers:
                loss = loss + checked_penalty(regulariser, image, code)
            gradient = _gradient(loss, code)
            return image.detach(), score.detach(), activation.detach(), loss.detach(), gradient

        # What others wrote may keep count of its calls, which a recording would not repeat.
        recorded = ours and device.type == "cuda" and recipe.steps >= WORTHWHILE
        step_of: Step = CapturedStep(climb) if recorded else climb
        code = code.requires_grad_()
        _, score, start_activations = look(code)
        dead = (_gradient(score, code) == 0).flatten(1).all(1)
        start_activations = start_activations.detach()
        for step in range(recipe.steps):
            code = code.detach()
            noise: tuple[Tensor, ...] = ()
            if recipe.code_noise:
                deviation = as_like(generator.prior.std, code)
                noise = (recipe.code_noise * deviation * streams.normal(code.shape[1:]),)
            image, score, activation, loss, gradient = step_of(code, draws[step], *noise)
            history[step] = activation
            finite = torch.isfinite(gradient).flatten(1).all(1) & torch.isfinite(loss)
            broken |= ~finite
            moving = _like(~broken, code)
            with torch.no_grad():
                if recipe.keep == "best":
                    better = (score > best) & finite
                    best = torch.where(better, score, best)
                    best_code = torch.where(_like(better, code), code, best_code)
                gradient = torch.where(moving, gradient, 0.0)
                rate = schedule(recipe, step)
                context = Context(step, recipe.steps, rate, gradient, code, image, generator, streams)
                for edit in gradient_edits:
                    gradient = edit(gradient, context)
                moved = update(code, gradient, state, rate, step)
                for edit in edits:
                    moved = edit(moved, context)
                moved = _bounded(moved, generator.prior, recipe)
                code = torch.where(moving, moved, code)
            if progress is not None:
                progress(step + 1, recipe.steps, history[step])
            if record is not None:
                record(step + 1, image.clone())  # the next step of a recording overwrites it
        if recipe.keep == "best":
            code = torch.where(_like(torch.isfinite(best), code), best_code, code)
        code = code.detach()
        with torch.no_grad():
            images, scores, activations = look(code)
        if record is not None:
            record(recipe.steps + 1, images)
    return Outcome(
        codes=code.cpu(),
        images=images.float().cpu(),
        scores=scores.cpu(),
        activations=activations.cpu(),
        start_activations=start_activations.cpu(),
        history=history.T.contiguous().cpu(),
        status=_status(dead.tolist(), broken.tolist(), (activations > start_activations).tolist()),
    )


def _regularisers(recipe: Recipe, generator: Generator) -> list[Regulariser]:
    built = [build_regulariser(*spec) for spec in recipe.regularisers]
    if recipe.prior_weight:
        prior, weight = generator.prior, recipe.prior_weight
        built.append(lambda image, code: weight * prior.penalty(code))
    return built


def bytes_per_item(classifier: Classifier, generator: Generator, item: Item) -> int:
    """Bytes that one item's forward pass keeps for its backward pass, in float32, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in classifier.network.parameters()}
    if isinstance(generator.module, nn.Module):
        weights |= {p.untyped_storage().data_ptr() for p in generator.module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    layers = [*item.objective.layers, *([item.target.layer] if item.target is not None else [])]
    code = item.start[None].to(classifier.device).requires_grad_()
    with (
        classifier.record_layers(layers) as reader,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        image = generator(code)
        activations = reader(classifier.preprocess(image))  # held until the end, so that no address comes twice
        kept_alive = item.objective(activations, image, code)
    del kept_alive
    return sum(kept.values())


def _gradient(values: Tensor, code: Tensor) -> Tensor:
    """Gradient of the sum of `values` `[B]` in the codes: each item's own, since no item sees another."""
    if not values.requires_grad:
        raise OptionError(
            "the score has no gradient in the code: the generator, classifier or objective detaches it",
            fix="compute it with differentiable PyTorch operations, outside torch.no_grad()",
        )
    gradient = torch.autograd.grad(values.sum(), code, allow_unused=True)[0]
    return torch.zeros_like(code) if gradient is None else gradient


def _bounded(code: Tensor, prior: CodePrior, recipe: Recipe) -> Tensor:
    """Clip, then shrink (the order of Nguyen 2016); clip again, for bounds that do not hold zero."""
    if recipe.project:
        code = prior.project(code, recipe.sigmas)
    if recipe.shrink != 1:
        code = code * recipe.shrink
        if recipe.project:
            code = prior.project(code, recipe.sigmas)
    return code


def _transformed(images: Tensor, transforms: Sequence[Transform], draw: Tensor) -> Tensor:
    used = 0
    for transform in transforms:
        images = transform.apply(images, draw[:, used : used + transform.count])
        used += transform.count
    return images


def _like(mask: Tensor, code: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (code.ndim - 1))


def _status(dead: list[bool], broken: list[bool], rose: list[bool]) -> list[str]:
    def name(item: tuple[bool, bool, bool]) -> str:
        was_dead, was_broken, did_rise = item
        return NON_FINITE if was_broken else DEAD if was_dead and not did_rise else OK if did_rise else FLAT

    return [name(item) for item in zip(dead, broken, rose, strict=True)]
