"""The one optimisation loop: code -> generator -> image -> transforms -> classifier -> activation -> objective -> code.

Objectives return scores, regularisers return penalties, and only this file writes `loss = -score + penalty`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.hooks import LayerHooks
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.errors import OptionError
from gen_prior.generators.base import CodePrior, Generator
from gen_prior.optimise.batch import Batch, BatchResult, Item, status_of
from gen_prior.optimise.cuda_graph import WORTHWHILE, CapturedStep
from gen_prior.optimise.edits import Context, Edit, build_edit, build_gradient_edit
from gen_prior.optimise.regularisers import Regulariser, build_regulariser, checked_penalty
from gen_prior.optimise.transforms import Transform, as_transform, build_transform
from gen_prior.optimise.unit_scale import Placement
from gen_prior.optimise.update_rules import OPTIMISERS, State
from gen_prior.recipe import Recipe, schedule
from gen_prior.util.devices import as_like, autocast
from gen_prior.util.random import Streams

COMPILER = "inductor"


@dataclass(frozen=True)
class Setup:
    """The frozen networks of a run, what its user adds to the recipe, precision and compilation.

    `transforms`, `regularisers` and `edits` are applied after those that the recipe names.
    """

    classifier: Classifier
    generator: Generator
    transforms: Sequence[Transform | Callable[[Tensor], Tensor]] = ()
    regularisers: Sequence[Regulariser] = ()
    edits: Sequence[Edit] = ()
    precision: str = "auto"
    compile: bool = False


class Loop:
    """State of the items that are computed together: what a recipe builds once, and what every step changes."""

    result: BatchResult

    def __init__(self, setup: Setup, items: Sequence[Item], recipe: Recipe, or_start: bool) -> None:
        self.setup, self.recipe, self.generator, self.or_start = setup, recipe, setup.generator, or_start
        self.device = device = setup.classifier.device
        self.batch = Batch(items, device)
        # torch.compile would keep calling the hooks present when it traced.
        if setup.compile and self.batch.layers != (LOGITS,):
            others = ", ".join(layer for layer in self.batch.layers if layer != LOGITS) or "no layer"
            raise OptionError(
                f"compile=True supports objectives of the logits only; these read {others}", fix="leave compile out"
            )
        # What the recipe names, then what the user adds.
        self.transforms = [build_transform(*spec) for spec in recipe.transforms]
        self.transforms += map(as_transform, setup.transforms)
        self.regularisers = [*_named_regularisers(recipe, self.generator.prior), *setup.regularisers]
        self.edits = [*(build_edit(*spec) for spec in recipe.edits), *setup.edits]
        self.gradient_edits = [build_gradient_edit(*spec) for spec in recipe.gradient_edits]
        self.update, self.update_state = OPTIMISERS[recipe.optimiser](recipe), State()
        # All random draws come from the items' own streams.
        self.streams = Streams([item.seed for item in items], device)
        self.draws = self.streams.uniform(recipe.steps, sum(transform.count for transform in self.transforms))
        # User code may keep count of its calls, which a captured CUDA graph would not repeat. The user's edits run
        # outside the captured function.
        no_user_code = all(item.target is not None for item in items) and not (setup.transforms or setup.regularisers)
        captured = no_user_code and device.type == "cuda" and recipe.steps >= WORTHWHILE
        self.captured = CapturedStep() if captured else None
        # State.
        self.placement = Placement([item.field for item in items], setup.classifier.input_size, device)
        self.code = torch.stack([item.start for item in items]).to(device)
        self.history = torch.zeros(recipe.steps, len(items), device=device)
        self.failed = torch.zeros(len(items), dtype=torch.bool, device=device)
        self.best = torch.full((len(items),), -torch.inf, device=device)
        self.best_code = self.code
        self.images: dict[int, Tensor] = {}
        """Images by the phase that saw them, kept for `on_frame` only."""
        self.keep_images = False

    def run(self, phase: int) -> None:
        """Phase 0 measures the start, phases 1 to `steps` take a step each, and the last one measures the end."""
        if phase == 0:
            self.measure_start()
        elif phase <= self.recipe.steps:
            image, gradient = self.take_step(phase - 1)
            if self.keep_images:
                kept = image.clone()  # a replayed CUDA graph overwrites its outputs
                kept.grad = gradient.clone()
                self.images[phase] = kept
        else:
            self.result, images = self.finish()
            if self.keep_images:
                self.images[phase] = images

    def connect(self, hooks: LayerHooks) -> None:
        """Store `hooks`, which record the batch's layers, and compile the classifier if the setup says so.

        Each pass sets `hooks.network` to the network that it runs: steps may run the compiled one, float32
        measurements always run the eager one.
        """
        self.hooks, self.eager_network = hooks, hooks.network
        self.compiled_network: nn.Module = self.eager_network
        if self.setup.compile:
            self.compiled_network = torch.compile(self.eager_network, backend=COMPILER)  # type: ignore[assignment]

    def measure_start(self) -> None:
        """Measure the start as the end will be measured."""
        with torch.no_grad():
            image, score, self.start_activations = self._measure(self.code, final=True)
        self.start = self.code, image, score, self.start_activations

    def _lacked_gradient(self) -> Tensor:
        """`[B]`: which items have no gradient at their start."""
        code = self.start[0].detach().requires_grad_()
        return (_gradients(self._measure(code)[1], code)[0] == 0).flatten(1).all(1)

    def take_step(self, step: int) -> tuple[Tensor, Tensor]:
        """One forward and backward pass and one update; the images `[B, 3, H, W]` that it saw, and their gradients."""
        recipe, code = self.recipe, self.code.detach()
        noise: tuple[Tensor, ...] = ()
        if recipe.code_noise:
            std = as_like(self.generator.prior.std, code)
            noise = (recipe.code_noise * std * self.streams.normal(code.shape[1:]),)
        inputs = (code, self.draws[step], *noise)
        compute = self._loss_and_gradient  # kept nowhere: a cycle of references would keep the items' tensors
        seen = compute(*inputs) if self.captured is None else self.captured(compute, *inputs)
        image, score, activation, loss, gradient, image_gradient = seen
        self.history[step] = activation
        finite = torch.isfinite(gradient).flatten(1).all(1) & torch.isfinite(loss)
        self.failed |= ~finite
        active = _per_code(~self.failed, code)
        with torch.no_grad():
            if recipe.keep == "best":
                better = (score > self.best) & finite
                self.best = torch.where(better, score, self.best)
                self.best_code = torch.where(_per_code(better, code), code, self.best_code)
            gradient = torch.where(active, gradient, 0.0)
            moved = self._updated(code, gradient, image, step)
            self.failed |= ~torch.isfinite(moved).flatten(1).all(1)  # a finite gradient may lead out of all numbers
            self.code = torch.where(_per_code(~self.failed, code), moved, code)
        return image, image_gradient

    def _updated(self, code: Tensor, gradient: Tensor, image: Tensor, step: int) -> Tensor:
        """Gradient edits, the update rule, edits of the code, then the prior's bounds."""
        rate = schedule(self.recipe, step)
        context = Context(step, self.recipe.steps, rate, gradient, code, image, self.generator, self.streams)
        for edit in self.gradient_edits:
            gradient = edit(gradient, context)
        moved = self.update(code, gradient, self.update_state, rate, step)
        for edit in self.edits:
            moved = edit(moved, context)
        return _bounded(moved, self.generator.prior, self.recipe)

    def finish(self) -> tuple[BatchResult, Tensor]:
        """The result on the CPU, and the final images on the device; see `Engine.optimise`."""
        code = self.code
        if self.recipe.keep == "best":
            code = torch.where(_per_code(torch.isfinite(self.best), code), self.best_code, code)
        code = code.detach()
        with torch.no_grad():
            images, scores, activations = self._measure(code, final=True)
        if self.or_start:
            fell = (scores < self.start[2]) | (scores.isnan() & ~self.start[2].isnan())
            code, images, scores, activations = (
                torch.where(_per_code(fell, end), start, end)
                for start, end in zip(self.start, (code, images, scores, activations), strict=True)
            )
        rose = scores > self.start[2]
        lacked = torch.zeros_like(rose) if (rose | self.failed).all() else self._lacked_gradient()
        result = BatchResult(
            codes=code.cpu(),
            images=images.float().cpu(),
            scores=scores.cpu(),
            activations=activations.cpu(),
            start_activations=self.start_activations.cpu(),
            history=self.history.T.contiguous().cpu(),
            status=list(map(status_of, lacked.tolist(), self.failed.tolist(), rose.tolist())),
            terms=self._terms(images),
        )
        return result, images

    def _loss_and_gradient(self, code: Tensor, draw: Tensor, *noise: Tensor) -> tuple[Tensor, ...]:
        """Image, score, activation, loss, its gradients in code and image, under a step's transforms."""
        code = code.detach().requires_grad_()
        image, score, activation = self._evaluate(code + noise[0] if noise else code, draw)
        loss = -score
        for regulariser in self.regularisers:
            loss = loss + checked_penalty(regulariser, image, code)
        seen = (image.detach(), score.detach(), activation.detach(), loss.detach())
        return *seen, *_gradients(loss, code, image)

    def _evaluate(self, code: Tensor, draw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Image, scores and activations, under one step's transforms and in the setup's precision."""
        classifier, precision = self.setup.classifier, self.setup.precision
        # Without a decoder bf16 would only round the pixels.
        with autocast(precision if self.generator.domain == "code" else "fp32", self.device):
            image = self.generator(code).float()
        transformed, used = classifier.resize(image), 0
        for transform in self.transforms:
            transformed = transform.apply(transformed, draw[:, used : used + transform.count])
            used += transform.count
        inputs = classifier.normalise(self.placement(classifier.resize(transformed)))
        self.hooks.network = self.compiled_network
        with autocast(precision, self.device):
            activations = self.hooks(inputs.contiguous(memory_format=torch.channels_last))
        return image, *self.batch.evaluate(activations, image, code)

    def _terms(self, images: Tensor) -> list[list[float]]:
        """See `BatchResult.terms`. Takes a forward pass if an item has a mix."""
        if all(item.target is None or len(item.target.terms) == 1 for item in self.batch.items):
            return [[]] * len(images)
        with torch.no_grad():
            inputs = self.setup.classifier.normalise(self.placement(self.setup.classifier.resize(images)))
            return self.batch.terms(self.hooks(inputs))

    def _measure(self, code: Tensor, final: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Image, scores and activations of codes as they are: no transforms, float32; `final`: as results show them."""
        image = (self.generator.final_images(code) if final else self.generator(code)).float()
        self.hooks.network = self.eager_network
        classifier = self.setup.classifier
        inputs = classifier.normalise(self.placement(classifier.resize(image)))
        return image, *self.batch.evaluate(self.hooks(inputs), image, code)


def _named_regularisers(recipe: Recipe, prior: CodePrior) -> list[Regulariser]:
    built = [build_regulariser(*spec) for spec in recipe.regularisers]
    if recipe.prior_weight:
        built.append(lambda image, code: recipe.prior_weight * prior.penalty(code))
    return built


def _gradients(values: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Gradient of `values` `[B]` with respect to the codes, and to other inputs of them.

    Items are independent, so the gradient of the sum holds each item's own gradient.
    """
    if not values.requires_grad:
        raise OptionError(
            "the score is not differentiable with respect to the latent code: the generator, classifier or objective "
            "detaches it",
            fix="compute it with differentiable PyTorch operations, outside torch.no_grad()",
        )
    connected = [one for one in inputs if one.requires_grad]
    found = dict(zip(map(id, connected), torch.autograd.grad(values.sum(), connected, allow_unused=True), strict=True))
    gradients = [found.get(id(one)) for one in inputs]
    return [torch.zeros_like(one) if part is None else part for one, part in zip(inputs, gradients, strict=True)]


def _bounded(code: Tensor, prior: CodePrior, recipe: Recipe) -> Tensor:
    """Clip, then shrink (the order of Nguyen et al. 2016); clip again, for bounds that exclude zero."""
    if recipe.project:
        code = prior.project(code, recipe.sigmas)
    if recipe.shrink != 1:
        code = code * recipe.shrink
        if recipe.project:
            code = prior.project(code, recipe.sigmas)
    return code


def _per_code(mask: Tensor, code: Tensor) -> Tensor:
    """`[B]` -> a shape that broadcasts over codes `[B, *code_shape]`."""
    return mask.view(-1, *[1] * (code.ndim - 1))
