"""The flow from noise and features to codes: untrained output, integration, initial codes of a class.

Training is tested in `tests/training/test_flow_command.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import gen_prior as gp
from gen_prior.generators.dgn.config import FlowConfig
from gen_prior.generators.dgn.flow import FEATURE_SCALE, FEATURE_STD, CodeFlow, init_features
from gen_prior.generators.dgn.network import Decoder, WhitenedCodes, WhitenedDecoder

CONFIG = FlowConfig(features=3, width=16, depth=2, classes=5, steps=4, guidance=3.0)
DIRECTIONS = 7


def untrained(**changes: float) -> CodeFlow:
    torch.manual_seed(0)
    flow = CodeFlow(DIRECTIONS, replace(CONFIG, **changes))  # type: ignore[arg-type]
    flow.classes.copy_(F.normalize(torch.randn(5, 3), dim=1))
    return flow


def lively(**changes: float) -> CodeFlow:
    """A flow whose every layer does something, as training would have it."""
    flow = untrained(**changes)
    flow.exit.weight.data.normal_(std=0.2)
    flow.unknown.data.normal_()
    for block in flow.blocks:
        block.modulation.weight.data.normal_(std=0.1)  # type: ignore[union-attr, operator]
    return flow.requires_grad_(False)


def codes(count: int = 4) -> Tensor:
    return torch.randn(count, 3 + DIRECTIONS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_an_untrained_flow_only_shrinks_the_noise(steps: int) -> None:
    """Its velocity is 0, so each step is the projection cos(turn) of a turn; features change nothing."""
    flow, code = untrained(steps=steps).requires_grad_(False), codes()
    assert flow.dims == 3 + DIRECTIONS
    factor = math.cos(math.pi / 2 / steps) ** steps
    torch.testing.assert_close(flow(code), factor * code[:, 3:])
    assert torch.equal(flow(torch.cat([code[:, :3] + 9, code[:, 3:]], 1)), flow(code))
    fine = untrained(steps=2000).requires_grad_(False)
    torch.testing.assert_close(fine(code), code[:, 3:], atol=0.01, rtol=0)  # and in the limit not even that


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_follow_the_circular_path_exactly(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, code = untrained(steps=steps, guidance=1.0), codes()
    noise, end = code[:, 3:], torch.randn(4, DIRECTIONS)
    taken = itertools.count()

    def velocity(x: Tensor, modulations: Sequence[Tensor]) -> Tensor:
        angle = next(taken) * math.pi / 2 / steps
        torch.testing.assert_close(x, math.cos(angle) * noise + math.sin(angle) * end, atol=1e-5, rtol=1e-5)
        return math.cos(angle) * end - math.sin(angle) * noise

    monkeypatch.setattr(flow, "_guided_velocity", velocity)
    torch.testing.assert_close(flow(code), end, atol=1e-5, rtol=1e-5)
    assert next(taken) == steps


def test_a_step_goes_along_the_guided_velocity() -> None:
    flow, code = lively(steps=3), codes()
    features, x = code[:, :3], code[:, 3:]
    turn = math.pi / 2 / 3
    for step in range(3):
        angle = torch.full((4,), step * turn)
        plain, told = flow.velocity(x, angle, None), flow.velocity(x, angle, features)
        x = math.cos(turn) * x + math.sin(turn) * (plain + 3 * (told - plain))
    torch.testing.assert_close(flow(code), x, atol=1e-4, rtol=1e-4)


def test_guidance_multiplies_what_the_features_change() -> None:
    code = codes()
    x, features, angle = code[:, 3:], code[:, :3], torch.full((4,), 0.0)
    flow = lively(steps=1)
    plain, told = flow.velocity(x, angle, None), flow.velocity(x, angle, features)
    assert not torch.allclose(plain, told)
    for guidance, expected in ((0.0, plain), (1.0, told), (3.0, plain + 3 * (told - plain))):
        torch.testing.assert_close(lively(steps=1, guidance=guidance)(code), expected, atol=1e-5, rtol=1e-5)


def test_withheld_features_are_unknown_ones() -> None:
    flow, code = lively(), codes()
    x, features, angle = code[:, 3:], code[:, :3], torch.rand(4)
    withheld = torch.tensor([True, False, True, False])
    mixed = flow.velocity(x, angle, features, withheld)
    plain, told = flow.velocity(x, angle, None), flow.velocity(x, angle, features)
    torch.testing.assert_close(mixed, torch.where(withheld[:, None], plain, told))


def test_a_code_is_differentiable_in_features_and_noise_and_alone_in_its_batch() -> None:
    flow, code = lively(), codes().requires_grad_()
    (gradient,) = torch.autograd.grad(flow(code)[1].sum(), code)
    assert (gradient[1] != 0).all()
    assert (gradient[[0, 2, 3]] == 0).all()
    torch.testing.assert_close(flow(code[2:3]), flow(code)[2:3])


def test_initial_features_lie_along_the_class_direction() -> None:
    flow, noise = untrained(), codes(5)
    initial = flow.start(torch.arange(5), noise)
    assert torch.equal(initial[:, 3:], noise[:, 3:])
    torch.testing.assert_close(initial[:, :3], FEATURE_SCALE * flow.classes + FEATURE_STD * noise[:, :3])
    assert F.cosine_similarity(initial[:, :3], flow.classes).min() > 0.95
    torch.testing.assert_close(init_features(flow.classes[2], noise[2]), initial[2])  # one code without a batch
    same = flow.start(torch.tensor([1, 1]), noise[:2])
    assert not torch.equal(same[0, :3], same[1, :3]), "seeds differ in their features too"
    assert not torch.equal(same[0, 3:], same[1, 3:])


def test_white_codes_with_and_without_a_flow() -> None:
    mean, basis, flow = torch.randn(2, 4, 4), torch.randn(32, DIRECTIONS), lively()
    plain, flowing = WhitenedCodes(mean, basis), WhitenedCodes(mean, basis, flow)
    assert (plain.dims, flowing.dims) == (DIRECTIONS, 3 + DIRECTIONS)
    code, classes = codes(), torch.tensor([0, 1, 2, 4])
    torch.testing.assert_close(flowing.spatial(code), plain.spatial(flow(code)))
    assert torch.equal(flowing.start(classes, code), flow.start(classes, code))
    assert torch.equal(plain.start(classes, code[:, 3:]), code[:, 3:]), "without a flow noise is where codes begin"
    assert {name for name in flowing.state_dict() if not name.startswith("flow.")} == set(plain.state_dict())


def test_a_result_does_not_depend_on_its_neighbours(tiny_classifier: gp.Classifier) -> None:
    torch.manual_seed(0)
    flow = lively()
    network = WhitenedDecoder(Decoder(2, 64, 0.125), torch.zeros(2, 4, 4), torch.randn(32, DIRECTIONS), flow=flow)
    keys = ["ant", "bee", "crane bird", "golden retriever", "cup"]

    def class_init(wanted: str, noise: Tensor, seed: int) -> Tensor:
        return init_features(flow.classes[keys.index(wanted)], noise)

    generator = gp.Generator(network, (network.dims,), output_range=(0, 1), name="flowing", class_init=class_init)
    assert not torch.equal(generator.initial_code(0, "ant"), generator.initial_code(1, "ant"))
    together = gp.synthesize(tiny_classifier, ["cup", "ant", "conv2:3"], generator, seeds=[4, 2], steps=4)
    alone = gp.synthesize(tiny_classifier, "ant", generator, seeds=[2], steps=4)
    torch.testing.assert_close(together.images[1, 1], alone.images[0, 0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(together.codes[1, 1], alone.codes[0, 0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together.codes[0, 1, :3], together.codes[1, 1, :3], atol=1.0), "classes begin apart"


def test_codes_without_features_bypass_the_flow_and_stay_so() -> None:
    flow = lively()
    codes = torch.randn(3, flow.dims)
    codes[1, :3] = 0
    codes.requires_grad_()
    white = flow(codes)
    assert torch.equal(white[1], codes[1, 3:])
    assert not torch.allclose(white[0], codes[0, 3:], atol=0.1)
    (gradient,) = torch.autograd.grad(white.square().sum(), codes)
    assert (gradient[1, :3] == 0).all(), "so that no step can leave the bypass"
    assert torch.equal(gradient[1, 3:], 2 * codes[1, 3:])
