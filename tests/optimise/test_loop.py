"""The optimisation loop: independent items, published arithmetic, honest status, nothing left behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gen_prior as gp
from gen_prior.errors import OptionError
from gen_prior.generators import load_generator
from gen_prior.objectives.targets import parse_target
from gen_prior.optimise import loop
from gen_prior.optimise.batch import FLAT, NO_GRADIENT, NON_FINITE, OK, Item
from gen_prior.optimise.engine import Engine
from gen_prior.optimise.memory import bytes_per_item
from gen_prior.optimise.regularisers import total_variation
from gen_prior.optimise.resolve import resolve_objective
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe, Specs

TRANSFORMS: Specs = (
    ("jitter", {"pixels": 2}),
    ("affine", {"degrees": 10.0, "scale": (0.9, 1.2), "shift": 0.1, "mirror": True}),
    ("crop", {"margin": 0.1}),
    ("noise", {"deviation": 0.02}),
    ("colour", {}),
)
RECIPES = {
    "adam": Recipe(steps=6, prior_weight=0.1, transforms=TRANSFORMS, code_noise=0.1),
    "sgd": Recipe(steps=6, optimiser="sgd", rate=0.5, code_noise=0.1),
    "plain sgd": Recipe(steps=6, optimiser="sgd", momentum=0.0, rate=0.5, transforms=TRANSFORMS),
    "normalised": Recipe(steps=6, optimiser="normalised", rate=0.1, shrink=0.99, sigmas=2.0),
    "best": Recipe(steps=6, keep="best", transforms=TRANSFORMS, regularisers=(("total_variation", {"weight": 1.0}),)),
}
OTHERS = ["bee", "conv2:3", "conv1:2@mean", "cup", "fc:1", "bn1:4@3,5"]


def hooks_of(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


@pytest.mark.parametrize("name", RECIPES)
def test_items_do_not_influence_each_other(
    name: str, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    recipe = RECIPES[name]
    alone = synthesize(tiny_classifier, "ant", tiny_generator, seeds=[5], recipe=recipe)
    first = synthesize(tiny_classifier, ["ant", *OTHERS], tiny_generator, seeds=[5], recipe=recipe)
    last = synthesize(tiny_classifier, [*OTHERS, "ant"], tiny_generator, seeds=[5], recipe=recipe)
    split = synthesize(tiny_classifier, [*OTHERS, "ant"], tiny_generator, seeds=[5], recipe=recipe, batch=3)
    for result, place in ((first, 0), (last, 6), (split, 6)):
        assert torch.equal(result.codes[place, 0], alone.codes[0, 0])
        assert torch.equal(result.images[place, 0], alone.images[0, 0])
        assert torch.equal(result.history[place, 0], alone.history[0, 0])
    again = synthesize(tiny_classifier, ["ant", *OTHERS], tiny_generator, seeds=[5], recipe=recipe)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.history, again.history)


@pytest.mark.parametrize("name", ["pixel", "pixel-raw", "fourier", "maco"])
def test_pixel_space_items_do_not_influence_each_other(name: str, tiny_classifier: gp.Classifier) -> None:
    generator = load_generator(name, device="cpu", image_size=32)
    alone = synthesize(tiny_classifier, "ant", generator, seeds=[3], steps=4)
    batch = synthesize(tiny_classifier, ["bee", "conv2:3", "ant"], generator, seeds=[9, 3], steps=4)
    assert torch.equal(batch.images[2, 1], alone.images[0, 0])
    assert torch.equal(batch.activations[2, 1], alone.activations[0, 0])
    assert (batch.images[2, 0] - alone.images[0, 0]).abs().mean() > 1e-3  # another seed is another image


def test_seeds_and_targets_change_the_image(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    result = synthesize(tiny_classifier, ["ant", "bee"], tiny_generator, seeds=2, steps=8)
    flat = result.images.flatten(0, 1).flatten(1)
    assert torch.pdist(flat).min() > 1e-2


def test_dgnam_preset_is_the_published_arithmetic(tiny_classifier: gp.Classifier) -> None:
    weights = torch.randn(10, 3 * 16 * 16, generator=torch.Generator().manual_seed(0))
    bound = torch.linspace(0.5, 3.0, 10)

    def decode(code: Tensor) -> Tensor:
        return torch.sigmoid(0.1 * code @ weights).view(-1, 3, 16, 16)

    generator = gp.Generator(decode, (10,), output_range=(0, 1), code_min=0.0, code_max=bound)
    recipe = gp.preset("dgnam2016").with_options(steps=20)
    result = synthesize(tiny_classifier, "bee", generator, seeds=[4], recipe=recipe)

    code = generator.initial_code(4)[None]
    for i in range(20):
        code.requires_grad_()
        tiny_classifier(decode(code))[0, 1].backward()
        g, code = code.grad, code.detach()
        assert g is not None
        code = code + 2.0 * (1 - i / 20) * g / g.abs().mean()
        code = code.clamp(min=torch.zeros(10), max=bound) * 0.99
    torch.testing.assert_close(result.codes[0, 0], code[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.activations[0, 0], tiny_classifier(decode(code))[0, 1].detach())
    assert result.codes.max() == pytest.approx(0.99 * 3.0) or (result.codes < bound).all()


def test_bounds_that_do_not_hold_zero_hold_after_shrinking(tiny_classifier: gp.Classifier) -> None:
    generator = gp.Generator(
        lambda code: code.view(-1, 3, 4, 4), (48,), output_range=(0, 2), code_mean=1.5, code_min=1.0, code_max=2.0
    )
    result = synthesize(tiny_classifier, "ant", generator, steps=3, shrink=0.5)
    assert result.codes.min() >= 1.0


def test_no_weight_gradients_are_made(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    synthesize(tiny_classifier, "ant", tiny_generator, steps=2)
    assert isinstance(tiny_generator.module, nn.Module)
    parameters = [*tiny_classifier.network.parameters(), *tiny_generator.module.parameters()]
    assert parameters
    assert not any(p.requires_grad or p.grad is not None for p in parameters)


def test_a_callable_with_trainable_weights_gets_no_gradients(tiny_classifier: gp.Classifier) -> None:
    layer = nn.Linear(4, 48)
    generator = gp.Generator(lambda code: layer(code).view(-1, 3, 4, 4), (4,))
    synthesize(tiny_classifier, "ant", generator, steps=2)
    assert layer.weight.grad is None


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_hooks_are_removed_after_an_exception(
    error: BaseException, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    seen: list[int] = []

    def interrupt(progress: gp.Progress) -> None:
        seen.append(hooks_of(tiny_classifier.network))
        raise error

    with pytest.raises(type(error)):
        synthesize(tiny_classifier, "conv2:3", tiny_generator, steps=3, progress=interrupt)
    assert seen == [1]
    assert hooks_of(tiny_classifier.network) == 0


def test_progress_and_record_see_every_step(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    reports: list[gp.Progress] = []
    images: list[tuple[int, int, tuple[int, ...]]] = []
    result = synthesize(
        tiny_classifier,
        "ant",
        tiny_generator,
        seeds=3,
        steps=2,
        batch=2,
        progress=reports.append,
        record=lambda item, step, image: images.append((item, step, tuple(image.shape))),
    )
    assert [(report.done, report.total) for report in reports] == [(2, 6), (4, 6), (5, 6), (6, 6)]
    two, one = (2, 3, 16, 16), (1, 3, 16, 16)  # and after the last step, the final images
    assert images == [(0, 1, two), (0, 2, two), (0, 3, two), (2, 1, one), (2, 2, one), (2, 3, one)]
    assert result.history.shape == (1, 3, 2)
    assert result.evaluations == 2


def test_activation_rises_and_history_is_what_was_seen(
    tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    result = synthesize(tiny_classifier, ["ant", "conv2:3"], tiny_generator, seeds=2, steps=30)
    assert result.status == [[OK, OK], [OK, OK]]
    assert (result.activations > result.start_activations).all()
    torch.testing.assert_close(result.history[..., 0], result.start_activations)
    target = parse_target("conv2:3", tiny_classifier)
    read = target.read(tiny_classifier.activations(result.inputs(1), [target.layer]))
    torch.testing.assert_close(read, result.activations[1])


def test_keep_best_returns_the_highest_score_seen(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    options: dict[str, Any] = {"optimiser": "normalised", "rate": 1.0, "final_rate": 1.0, "steps": 25}
    last = synthesize(tiny_classifier, ["ant", "bee"], tiny_generator, seeds=3, **options)
    best = synthesize(tiny_classifier, ["ant", "bee"], tiny_generator, seeds=3, keep="best", **options)
    torch.testing.assert_close(best.activations, best.history.max(-1).values)
    assert (best.activations > last.activations + 1e-5).any()


class _Poison(torch.autograd.Function):
    """Identity whose gradient is NaN for items brighter than a threshold."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.save_for_backward(images)
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (images,) = ctx.saved_tensors
        return torch.where(images.mean((1, 2, 3), keepdim=True) > 0.5, math.nan, gradient)


def test_non_finite_gradients_are_reported_and_stop_that_item_only(tiny_classifier: gp.Classifier) -> None:
    def decode(code: Tensor) -> Tensor:
        return _Poison.apply(code.view(-1, 3, 8, 8))

    generator = gp.Generator(decode, (192,), output_range=(0, 1))
    start = torch.stack([torch.full((192,), 0.3), torch.full((192,), 0.7), torch.full((192,), 0.2)])[None]
    result = synthesize(tiny_classifier, "ant", generator, seeds=3, steps=3, rate=0.01, start=start)
    assert result.status == [[OK, NON_FINITE, OK]]
    assert torch.equal(result.codes[0, 1], start[0, 1])
    clean = synthesize(tiny_classifier, "ant", generator, seeds=1, steps=3, rate=0.01, start=start[:, :1])
    torch.testing.assert_close(result.codes[0, 0], clean.codes[0, 0])


@pytest.mark.parametrize("prior_weight", [0.0, 0.5])
def test_dead_units_are_reported(
    prior_weight: float, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    with torch.no_grad():
        tiny_classifier.network.get_parameter("conv2.bias")[3:5] = torch.tensor(
            [-1e3, 1e3]
        )  # a ReLU that never opens, and one that always does
    result = synthesize(tiny_classifier, ["relu2:3", "relu2:4"], tiny_generator, steps=3, prior_weight=prior_weight)
    assert result.status[0] == [NO_GRADIENT]
    assert result.status[1] != [NO_GRADIENT]
    assert result.activations[0, 0] == 0


def test_targets_that_never_rise_are_reported(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    start = synthesize(tiny_classifier, "ant", tiny_generator, steps=60).codes[0, 0]
    against = (
        -resolve_objective("ant", tiny_classifier, Recipe()).objective
        + 0.0 * resolve_objective("bee", tiny_classifier, Recipe()).objective
    )
    rising = synthesize(tiny_classifier, against, tiny_generator, steps=3, start=start)
    assert rising.status == [[OK]]
    fallen = synthesize(tiny_classifier, "ant", tiny_generator, steps=1, rate=40.0, start=start, prior_weight=0.0)
    assert fallen.status == [[FLAT]]


@pytest.mark.parametrize("score", ["activation", "log_probability"])
def test_nothing_ends_below_its_start(score: str, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    far: dict[str, Any] = {"steps": 2, "rate": 30.0, "final_rate": 30.0, "score": score}
    result = synthesize(tiny_classifier, ["ant", "bee", "conv2:3"], tiny_generator, seeds=3, **far)
    fell = result.activations == result.start_activations
    assert 0 < fell.sum() < fell.numel()  # some steps overshoot, some do not
    if score == "activation":
        assert (result.activations >= result.start_activations).all()
    starts = torch.stack([tiny_generator.initial_code(seed) for seed in range(3)]).expand_as(result.codes)
    torch.testing.assert_close(result.codes[fell], starts[fell])
    torch.testing.assert_close(result.images[fell], tiny_generator(result.codes[fell]))
    assert all(result.status[t][s] == FLAT for t, s in fell.nonzero().tolist())
    free = synthesize(tiny_classifier, "ant", tiny_generator, seeds=3, edits=[lambda code, context: code], **far)
    assert (free.activations < free.start_activations).any()  # a start need not obey the user's own edits


def test_a_detached_score_is_an_error(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    detached = gp.Objective(lambda activations, image, code: activations["logits"][:, 0].detach())
    with pytest.raises(OptionError, match="not differentiable with respect to the latent code"):
        synthesize(tiny_classifier, detached, tiny_generator, steps=1)


def test_regularisers_and_edits_of_the_caller(tiny_classifier: gp.Classifier) -> None:
    pixel = load_generator("pixel-raw", device="cpu", image_size=16)
    variation = total_variation(1.0)
    plain = synthesize(tiny_classifier, "ant", pixel, steps=10)
    smooth = synthesize(tiny_classifier, "ant", pixel, steps=10, regularisers=[total_variation(1e4)])
    assert variation(smooth.images[0], smooth.codes[0]) < variation(plain.images[0], plain.codes[0])
    seen: list[tuple[int, float]] = []

    def grey(code: Tensor, context: object) -> Tensor:
        seen.append((context.step, round(context.rate, 4)))  # type: ignore[attr-defined]
        return torch.full_like(code, 0.25)

    edited = synthesize(tiny_classifier, "ant", pixel, steps=4, edits=[grey])
    assert seen == [(0, 0.05), (1, 0.0375), (2, 0.025), (3, 0.0125)]
    assert (edited.images == 0.25).all()
    assert edited.settings["custom"] == {"transforms": 0, "regularisers": 0, "edits": 1}


def test_log_probability_raises_the_probability(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    result = synthesize(tiny_classifier, "cup", tiny_generator, steps=20, score="log_probability")
    start = tiny_classifier(tiny_generator(tiny_generator.initial_code(0)[None]))
    end = tiny_classifier(result.images[0])
    assert end.softmax(1)[0, 4] > start.softmax(1)[0, 4]
    torch.testing.assert_close(result.activations[0, 0], end[0, 4])  # reported as the raw activation all the same


def test_bf16_follows_fp32(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    seen: list[torch.dtype] = []

    @contextmanager
    def watched(network: nn.Module) -> Iterator[None]:
        handle = network.get_submodule("fc").register_forward_hook(
            lambda module, inputs, output: seen.append(output.dtype)
        )
        yield
        handle.remove()

    exact = synthesize(tiny_classifier, "ant", tiny_generator, steps=8)
    with watched(tiny_classifier.network):
        mixed = synthesize(tiny_classifier, "ant", tiny_generator, steps=8, precision="bf16")
    assert seen.count(torch.bfloat16) == 8  # the start and the end are measured in float32
    assert len(seen) == 10
    torch.testing.assert_close(mixed.activations, exact.activations, rtol=0.05, atol=0.05)
    assert mixed.images.dtype == torch.float32
    with pytest.raises(OptionError, match="fp32, bf16, auto"):
        synthesize(tiny_classifier, "ant", tiny_generator, steps=1, precision="fp8")


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # made, and hidden badly, by the compiler
def test_compiled_is_the_same(
    monkeypatch: pytest.MonkeyPatch, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    monkeypatch.setattr(loop, "COMPILER", "aot_eager")  # traced as for a GPU, without minutes of a C++ compiler
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain = synthesize(tiny_classifier, ["ant", "bee"], tiny_generator, seeds=2, steps=4, batch=3)
    fast = synthesize(tiny_classifier, ["ant", "bee"], tiny_generator, seeds=2, steps=4, batch=3, compile=True)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 1  # the items of a CPU have one shape; none has fallen back
    assert not counters["graph_break"]
    assert not counters["unimplemented"]
    torch.testing.assert_close(fast.codes, plain.codes, rtol=1e-3, atol=1e-4)
    torch._dynamo.reset()
    with pytest.raises(OptionError, match="logits only; these read conv2"):
        synthesize(tiny_classifier, ["ant", "conv2:3"], tiny_generator, steps=1, compile=True)


@pytest.mark.parametrize("inputs", [1, 4])
def test_grey_and_many_channel_classifiers(
    inputs: int, make_tiny_network: Callable[..., nn.Module], tiny_generator: gp.Generator
) -> None:
    classifier = gp.Classifier(
        make_tiny_network(inputs=inputs), mean=[0.5] * inputs, std=[0.25] * inputs, input_size=(20, 28)
    )
    result = synthesize(classifier, [3, "conv1:1@9,13"], tiny_generator, steps=10)
    assert result.images.shape == (2, 1, 3, 16, 16)
    assert result.status == [[OK], [OK]]


def test_items_in_any_order(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    recipe = RECIPES["adam"]
    goals = [resolve_objective(name, tiny_classifier, recipe) for name in ("bee", "conv2:3", "cup")]
    items = [
        Item(goals[goal].objective, seed, tiny_generator.initial_code(seed), goals[goal].target)
        for goal, seed in ((0, 1), (1, 1), (0, 2), (2, 1), (1, 2))
    ]
    mixed = Engine(tiny_classifier, tiny_generator).optimise(items, recipe)
    for place, item in enumerate(items):
        alone = Engine(tiny_classifier, tiny_generator).optimise([item], recipe)
        assert torch.equal(mixed.history[place], alone.history[0])
        assert torch.equal(mixed.codes[place], alone.codes[0])


def test_bytes_per_item_count_activations_and_not_weights(
    tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    goal = resolve_objective("ant", tiny_classifier, Recipe())
    item = Item(goal.objective, 0, tiny_generator.initial_code(0), goal.target)
    kept = bytes_per_item(tiny_classifier, tiny_generator, item)
    # What each ReLU, the tanh and the first convolution keep. The weights would be another third of that.
    generator, classifier = 16 * 4 * 4 + 8 * 8 * 8 + 3 * 16 * 16, 3 * 32 * 32 + 8 * 32 * 32 + 12 * 16 * 16
    assert 4 * (generator + classifier) <= kept < 1.2 * 4 * (generator + classifier)


def test_an_update_that_is_not_finite_is_not_made(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    def spoil(code: Tensor, context: gp.edits.Context) -> Tensor:
        return code / 0 if context.step == 1 else code

    found = gp.synthesize(tiny_classifier, "bee", tiny_generator, steps=3, edits=[spoil])
    assert found.images.isfinite().all()
    assert found.codes.isfinite().all()
    assert found.status == [["non-finite gradient"]]
