"""DeePSim: every generator against a network written here from the published layer lists."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.generators.code_statistics import Accumulator, save
from gen_prior.generators.deepsim import generator as deepsim
from gen_prior.generators.deepsim.network import recognise
from gen_prior.hub.files import Files
from gen_prior.optimise.synthesize import synthesize

State = dict[str, Tensor]
Layers = list[tuple[str, tuple[int, ...], str]]

# name -> (weight shape, kind); kinds: f fully connected, t transposed 4/2/1, s transposed 3/1/1, cPS convolution
# with padding P and stride S. Written down separately from the library's own table.
FC: Layers = [
    ("defc6", (4096, 4096), "f"),
    ("defc5", (4096, 4096), "f"),
    ("deconv5", (256, 256, 4, 4), "t"),
]
TAIL: Layers = [
    ("conv5_1", (256, 512, 3, 3), "s"),
    ("deconv4", (512, 256, 4, 4), "t"),
    ("conv4_1", (256, 256, 3, 3), "s"),
    ("deconv3", (256, 128, 4, 4), "t"),
    ("conv3_1", (128, 128, 3, 3), "s"),
    ("deconv2", (128, 64, 4, 4), "t"),
    ("deconv1", (64, 32, 4, 4), "t"),
    ("deconv0", (32, 3, 4, 4), "t"),
]
CONV: Layers = [
    ("Rconv6", (384, 384, 3, 3), "c01"),
    ("Rconv7", (512, 384, 3, 3), "c01"),
    ("Rconv8", (512, 512, 2, 2), "c01"),
    ("deconv5", (512, 256, 4, 4), "t"),
    ("conv5_1", (256, 256, 3, 3), "s"),
    ("deconv4", (256, 128, 4, 4), "t"),
    ("conv4_1", (128, 128, 3, 3), "s"),
    ("deconv3", (128, 128, 4, 4), "t"),
    ("conv3_1", (128, 128, 3, 3), "s"),
    ("deconv2", (128, 64, 4, 4), "t"),
    ("conv2_1", (32, 64, 3, 3), "c11"),
    ("deconv1", (32, 16, 4, 4), "t"),
    ("conv1_1", (3, 16, 3, 3), "c11"),
]
NORM: Layers = [
    ("Rconv8", (128, 128, 3, 3), "c11"),
    ("deconv4", (128, 128, 4, 4), "t"),
    ("conv4_1", (128, 128, 3, 3), "c11"),
    ("deconv3", (128, 64, 4, 4), "t"),
    ("conv3_1", (64, 64, 3, 3), "c11"),
    ("deconv2", (64, 32, 4, 4), "t"),
    ("conv2_1", (32, 32, 3, 3), "c11"),
    ("deconv1", (32, 16, 4, 4), "t"),
    ("conv1_1", (3, 16, 3, 3), "c11"),
]
LISTS: dict[str, Layers] = {
    "deepsim-fc6": [("defc7", (4096, 4096), "f"), *FC, *TAIL],
    "deepsim-fc6-eucl": [("defc7", (4096, 4096), "f"), *FC, *TAIL],
    "deepsim-fc7": [("defc7", (4096, 4096), "f"), *FC, *TAIL],
    "deepsim-fc8": [("defc7", (4096, 1000), "f"), *FC, *TAIL],
    "deepsim-pool5": [
        ("Rconv6", (512, 256, 3, 3), "c11"),
        ("Rconv7", (512, 512, 3, 3), "c11"),
        ("Rconv8", (512, 512, 3, 3), "c01"),
        ("deconv5", (512, 256, 4, 4), "t"),
        *TAIL,
    ],
    "deepsim-conv4": CONV,
    "deepsim-conv3": CONV,
    "deepsim-norm2": [("Rconv6", (256, 256, 3, 3), "c21"), ("Rconv7", (128, 256, 3, 3), "c11"), *NORM],
    "deepsim-norm1": [("Rconv6", (128, 96, 3, 3), "c22"), ("Rconv7", (128, 128, 3, 3), "c11"), *NORM],
}
CODES = {
    "pool5": (256, 6, 6),
    "conv4": (384, 13, 13),
    "conv3": (384, 13, 13),
    "norm2": (256, 13, 13),
    "norm1": (96, 27, 27),
}


def random_state(name: str, quirk: bool = True) -> State:
    """A checkpoint in the published layout with random weights of a lively scale; every third layer has the quirk."""
    source = torch.Generator().manual_seed(5)
    state: State = {}
    for index, (layer, shape, kind) in enumerate(LISTS[name]):
        middle = ".1" if quirk and index % 3 == 1 else ""
        transposed = kind in "ts"
        fan = (shape[0] if transposed else shape[1]) * math.prod(shape[2:]) / (4 if kind == "t" else 1)
        state[f"{layer}{middle}.weight"] = torch.randn(shape, generator=source) * (1.6 / fan) ** 0.5
        state[f"{layer}{middle}.bias"] = torch.randn(shape[1 if transposed else 0], generator=source) * 0.1
    last = [key for key in state if key.endswith("weight")][-1]
    if not name.endswith(("conv4", "conv3", "norm2", "norm1")):
        state[last] = state[last] * 60  # these give pixels in 0..255 without a tanh
    return state


def reference(name: str, state: State, codes: Tensor) -> Tensor:
    """The network in Caffe's terms: BGR in 0..255 with the mean subtracted, then RGB in [0, 1]."""
    x, layers = codes, LISTS[name]
    for index, (layer, _, kind) in enumerate(layers):
        middle = "" if f"{layer}.weight" in state else ".1"
        weight, bias = state[f"{layer}{middle}.weight"], state[f"{layer}{middle}.bias"]
        if kind == "f":
            x = F.linear(x, weight, bias)
        elif kind == "t":
            x = F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
        elif kind == "s":
            x = F.conv_transpose2d(x, weight, bias, stride=1, padding=1)
        else:
            x = F.conv2d(x, weight, bias, padding=int(kind[1]), stride=int(kind[2]))
        if index < len(layers) - 1 and not (name in ("deepsim-norm1", "deepsim-norm2") and layer == "deconv1"):
            x = F.leaky_relu(x, 0.3)
        if layer == "defc5":
            x = x.reshape(-1, 256, 4, 4)
    if "deconv0" not in dict.fromkeys(layer for layer, _, _ in layers):
        x = 255 * x.tanh()
    rgb = x[:, [2, 1, 0]] + torch.tensor([123.0, 117.0, 104.0]).view(3, 1, 1)
    return rgb.clamp(0, 255) / 255


def generator_of(name: str, state: State, **options: int | str | None) -> Generator:
    files = Files("test", repo=None, folder=None, known={})
    return deepsim.assemble(name, dict(state), files, name=name, **options)


@pytest.mark.parametrize("name", LISTS)
@torch.no_grad()
def test_equal_to_the_layer_list(name: str) -> None:
    state = random_state(name)
    shape = CODES.get(name.removeprefix("deepsim-"), (1000,) if name == "deepsim-fc8" else (4096,))
    codes = torch.randn(1, *shape, generator=torch.Generator().manual_seed(6)).abs()
    generator = generator_of(name, state, crop=None)
    expected = reference(name, state, codes)
    assert generator.code_shape == shape
    assert expected.shape[-1] == (240 if "norm" in name else 256)
    assert expected.std() > 0.1
    torch.testing.assert_close(generator(codes), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_defaults_are_those_of_nguyen_2016() -> None:
    state = random_state("deepsim-fc6")
    generator = generator_of("deepsim-fc6", state)
    codes = torch.rand(1, 4096, generator=torch.Generator().manual_seed(7))
    whole = reference("deepsim-fc6", state, codes)
    torch.testing.assert_close(generator(codes), whole[..., 14:241, 14:241], atol=1e-5, rtol=0)
    assert generator.image_shape() == (227, 227)
    recipe = generator.recipe
    assert (recipe.steps, recipe.optimiser, recipe.rate, recipe.final_rate) == (200, "normalised", 8.0, 0.0)
    assert (recipe.shrink, recipe.score, recipe.keep, recipe.transforms) == (0.99, "activation", "last", ())
    start = generator.initial_code(3)
    assert abs(float(start.mean())) < 0.1
    assert abs(float(start.std()) - 1) < 0.1
    projected = generator.prior.project(100 * start[None])
    assert projected.min() == 0
    assert float(projected.max()) == pytest.approx(11.85)
    assert "not calibrated" in generator.notes["bounds"]


def test_calibrated_bounds_are_mean_and_three_deviations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen_prior.hub.convert.cache_folder", lambda: tmp_path)
    name, state = "deepsim-norm1", random_state("deepsim-norm1")
    (tmp_path / "published").mkdir()
    files = Files("hf-hub:someone/somewhere", repo=None, folder=tmp_path / "published", known={})
    files.sha256["upconvGAN_norm1.pt"] = "0" * 64
    before = deepsim.assemble(name, dict(state), files, name=name)
    accumulator = Accumulator(before.code_shape)
    codes = torch.rand(6, *before.code_shape)
    accumulator.add(codes[:4])
    accumulator.add(codes[4:])
    save(accumulator.result(), before)
    after = deepsim.assemble(name, dict(state), files, name=name)
    limit = codes.mean(0) + 3 * codes.std(0)
    torch.testing.assert_close(after.prior.project(torch.full((1, *codes.shape[1:]), 1e3))[0], limit)
    assert "calibrated" in after.notes["bounds"]


def test_gradient_reaches_the_code() -> None:
    generator = generator_of("deepsim-norm1", random_state("deepsim-norm1"))
    code = generator.initial_code(0)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(generator(code).sum(), code)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


def test_fc8_takes_negative_codes() -> None:
    prior = generator_of("deepsim-fc8", random_state("deepsim-fc8")).prior
    assert float(prior.project(torch.full((1, 1000), -100.0)).min()) == -30


@pytest.fixture
def looking_at(make_tiny_network: Callable[..., nn.Module]) -> Callable[[int], Classifier]:
    """A classifier that takes images of so many pixels."""
    return lambda side: Classifier(make_tiny_network(), input_size=side, name=f"takes-{side}")


@pytest.mark.parametrize(
    ("input_size", "options", "kept"),
    [
        (224, {}, 224),
        (227, {}, 227),
        (240, {}, 240),
        (299, {}, 240),
        (64, {}, 227),
        (224, {"crop": None}, 240),
        (224, {"crop": 200}, 200),
        (224, {"crop": 227}, 227),
    ],
)
def test_the_image_is_cropped_to_what_the_classifier_takes(
    looking_at: Callable[[int], Classifier], input_size: int, options: dict[str, int | None], kept: int
) -> None:
    state = random_state("deepsim-norm1")
    generator, whole = generator_of("deepsim-norm1", state, **options), generator_of("deepsim-norm1", state, crop=None)
    result = synthesize(looking_at(input_size), 1, generator, steps=1)
    edge = (240 - kept) // 2
    expected = whole(result.codes[0])[..., edge : edge + kept, edge : edge + kept]
    assert result.images.shape[-2:] == (kept, kept)
    torch.testing.assert_close(result.images[0], expected, atol=2e-4, rtol=0)
    assert expected.std() > 0.05
    assert (result.settings["generator"]["options"]["crop"] or 240) == kept  # a replay needs no classifier to know
    assert generator.image_shape() == (227 if not options else kept,) * 2, "the generator itself is left as it was"


def test_a_fitted_generator_keeps_its_recipe_and_is_not_fitted_again(looking_at: Callable[[int], Classifier]) -> None:
    generator = generator_of("deepsim-norm1", random_state("deepsim-norm1"))
    generator.recipe = generator.recipe.with_options(rate=2.0)
    fitted = generator.fitted_to((224, 224))
    assert fitted.recipe.rate == 2.0
    assert fitted.fitted_to((227, 227)).image_shape() == (224, 224)
    fixed = generator.fitted_to((224, 224)).with_module(fitted.module)
    assert synthesize(looking_at(227), 1, fixed, steps=1).images.shape[-1] == 224


@pytest.mark.parametrize("crop", [0, 300, -1, "centre"])
def test_crop_is_checked(crop: int | str) -> None:
    with pytest.raises(OptionError, match="crop must be"):
        generator_of("deepsim-norm1", random_state("deepsim-norm1"), crop=crop)


def test_wrong_tensors_are_named() -> None:
    state = random_state("deepsim-norm1", quirk=False)
    state["Rconv7.weight"] = state["Rconv7.weight"][:5]
    with pytest.raises(WeightsError, match=r"Rconv7\.weight \[5, 128, 3, 3\] where \[128, 128, 3, 3\] is expected"):
        generator_of("deepsim-norm1", state)
    del state["Rconv7.weight"]
    state["extra.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError, match=r"lacks .*Rconv7\.weight; it has unexpected .*extra\.weight"):
        generator_of("deepsim-norm1", state)


def test_a_layer_under_both_of_its_names_is_refused() -> None:
    state = random_state("deepsim-norm1", quirk=False)
    state["deconv4.1.weight"] = state["deconv4.weight"] * 5
    with pytest.raises(WeightsError, match=r"layers\.deconv4\.weight twice, one as deconv4\.1\.weight"):
        generator_of("deepsim-norm1", state)


def test_each_layout_is_recognised() -> None:
    twins = {"deepsim-fc6-eucl": "deepsim-fc6", "deepsim-fc7": "deepsim-fc6", "deepsim-conv3": "deepsim-conv4"}
    for name, layers in LISTS.items():
        shapes = {f"{layer}.1.weight": shape for layer, shape, _ in layers}
        shapes |= {f"{layer}.bias": (shape[1] if kind in "ts" else shape[0],) for layer, shape, kind in layers}
        assert recognise(shapes) == twins.get(name, name)
    assert recognise({"a.weight": (1,)}) is None
