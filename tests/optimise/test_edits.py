"""Each edit does what its paper says, item by item, and refuses codes that are no images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import gen_prior as gp
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.generators import load_generator
from gen_prior.generators.base import CodePrior, Generator
from gen_prior.optimise.edits.context import Context, Edit
from gen_prior.optimise.edits.gradient import GRADIENT_EDITS, build_gradient_edit
from gen_prior.optimise.edits.latent import EDITS, build_edit
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.util.random import Streams

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
GRADIENT = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
ALL = [*((name, build_edit) for name in EDITS), *((name, build_gradient_edit) for name in GRADIENT_EDITS)]
OPTIONS = {
    "l2_decay": {"decay": 0.3},
    "natural_range": {"low": 0.3},
    "ppgn": {"noise": 0.1},
    "fresh_noise": {"every": 4},
}
IMAGE_EDITS = ["blur", "clip_small_norm", "clip_small_contribution", "natural_range"]


@pytest.fixture
def pixels() -> Generator:
    return load_generator("pixel", device="cpu", image_size=16)


def context(generator: Generator, code: Tensor, gradient: Tensor, step: int = 3, first_seed: int = 0) -> Context:
    streams = Streams(range(first_seed, first_seed + len(code)), torch.device("cpu"))
    return Context(step, 10, 0.1, gradient, code, generator(code), generator, streams)


@pytest.mark.parametrize(("name", "build"), ALL)
def test_items_stand_alone(name: str, build: Callable[..., Edit], pixels: Generator) -> None:
    edit = build(name, OPTIONS.get(name, {}))
    value = GRADIENT if name in GRADIENT_EDITS else IMAGES
    together = edit(value, context(pixels, IMAGES, GRADIENT))
    assert not torch.equal(together, value)
    for item in range(3):
        part = slice(item, item + 1)
        alone = edit(value[part], context(pixels, IMAGES[part], GRADIENT[part], first_seed=item))
        torch.testing.assert_close(alone, together[part])


def test_fresh_noise_is_held_and_drawn_anew(tiny_generator: Generator) -> None:
    tiny_generator.prior = CodePrior(5.0, torch.tensor([0.5, 2.0]).repeat(4))
    code, moved = torch.zeros(4000, 8), torch.ones(4000, 8)
    edit = build_edit("fresh_noise", {"every": 4, "share": 0.5})
    held = edit(moved, context(tiny_generator, code, code, step=4))
    assert torch.equal(held, torch.cat([code[:, :4], moved[:, 4:]], 1))
    drawn = edit(moved, context(tiny_generator, code, code, step=3))
    assert torch.equal(drawn[:, 4:], moved[:, 4:])
    deviations = (drawn[:, :4] - 5) / torch.tensor([0.5, 2.0]).repeat(2)
    assert deviations.abs().max() <= 2
    torch.testing.assert_close(deviations.mean(0), torch.zeros(4), atol=0.06, rtol=0)
    torch.testing.assert_close(deviations.std(0), torch.full((4,), 0.8796), atol=0.04, rtol=0)  # cut at two
    assert torch.equal(edit(moved, context(tiny_generator, code, code, step=9))[:, :4], code[:, :4]), "the last step"
    for wrong in ({"every": 0}, {"share": 0.0}, {"share": 1.0}):
        with pytest.raises(OptionError, match="fresh_noise needs"):
            build_edit("fresh_noise", wrong)
    tiny_generator.options = {"optimise": "class"}
    with pytest.raises(OptionError, match="holds its noise"):
        edit(moved, context(tiny_generator, code, code))


def test_blur_comes_every_few_steps(pixels: Generator) -> None:
    edit = build_edit("blur", {"every": 4, "deviation": 1.0})
    for step in range(9):
        blurred = edit(IMAGES, context(pixels, IMAGES, GRADIENT, step))
        if step in (3, 7):
            assert blurred.var() < 0.3 * IMAGES.var()
            torch.testing.assert_close(blurred.mean(), IMAGES.mean(), atol=0.02, rtol=0)
        else:
            assert torch.equal(blurred, IMAGES)


@pytest.mark.parametrize("percent", [0.0, 25.0, 50.0])
def test_small_norms_become_the_mean(percent: float, pixels: Generator) -> None:
    clipped = build_edit("clip_small_norm", {"percent": percent})(IMAGES, context(pixels, IMAGES, GRADIENT))
    blank = (clipped == 0.5).all(1)
    assert (blank.flatten(1).sum(1) == int(percent / 100 * 256)).all()
    kept = torch.where(blank[:, None], IMAGES, clipped)
    assert torch.equal(kept, IMAGES)
    norms = (IMAGES - 0.5).norm(dim=1)
    for item in range(3 if percent else 0):
        assert norms[item][blank[item]].max() <= norms[item][~blank[item]].min()


def test_small_contributions_become_the_mean(pixels: Generator) -> None:
    gradient = torch.zeros_like(GRADIENT)
    gradient[:, :, 4:8, 4:8] = 1.0  # 16 of 256 pixels matter
    clipped = build_edit("clip_small_contribution", {"percent": 93.0})(IMAGES, context(pixels, IMAGES, gradient))
    assert torch.equal(clipped[..., 4:8, 4:8], IMAGES[..., 4:8, 4:8])
    spared = build_edit("clip_small_contribution", {"percent": 95.0})(IMAGES, context(pixels, IMAGES, gradient))
    assert ((spared != 0.5).any(1).flatten(1).sum(1) == 256 - int(0.95 * 256)).all()


def test_pixels_that_are_all_alike_are_not_blanked(pixels: Generator) -> None:
    flat = torch.full_like(IMAGES, 0.7)
    assert torch.equal(build_edit("clip_small_norm", {"percent": 50.0})(flat, context(pixels, flat, GRADIENT)), flat)


def test_decay_goes_to_the_mean_of_the_prior(pixels: Generator, tiny_generator: Generator) -> None:
    edit = build_edit("l2_decay", {"decay": 0.3})
    torch.testing.assert_close(edit(IMAGES, context(pixels, IMAGES, GRADIENT)), 0.5 + 0.7 * (IMAGES - 0.5))
    codes = torch.randn(3, 8)
    torch.testing.assert_close(edit(codes, context(tiny_generator, codes, codes)), 0.7 * codes)


def test_natural_range_clips(pixels: Generator) -> None:
    edit = build_edit("natural_range", {"low": 0.2, "high": 0.6})
    assert torch.equal(edit(IMAGES, context(pixels, IMAGES, GRADIENT)), IMAGES.clamp(0.2, 0.6))


def test_langevin_keeps_a_gaussian_as_it_is() -> None:
    prior = Generator(lambda code: code.view(-1, 3, 64, 64), (3 * 64 * 64,), code_mean=2.0, code_std=3.0)
    edit = build_edit("langevin", {"pull": 0.2})
    code = torch.full((1, 3 * 64 * 64), 20.0)
    state = context(prior, code, code)
    for _ in range(60):
        code = edit(code, state)
    assert code.mean().item() == pytest.approx(2.0, abs=0.15)
    assert code.std().item() == pytest.approx(3.0, rel=0.03)


def test_norm_sphere_keeps_the_direction_and_sets_the_distance(tiny_generator: Generator) -> None:
    codes = torch.randn(4, 8, generator=torch.Generator().manual_seed(3)) * 5
    moved = build_edit("norm_sphere", {"radius": 1.5})(codes, context(tiny_generator, codes, codes))
    torch.testing.assert_close(moved.square().mean(1).sqrt(), torch.full((4,), 1.5))
    torch.testing.assert_close(torch.cosine_similarity(moved, codes), torch.ones(4))
    with pytest.raises(OptionError, match="radius"):
        build_edit("norm_sphere", {"radius": 0.0})


def test_a_norm_sphere_of_some_dimensions_and_one_that_only_limits() -> None:
    std = torch.tensor([1.0] * 3 + [4.0] * 5)
    parted = Generator(lambda code: code[:, :3, None, None].expand(-1, 3, 64, 64), (8,), code_std=std)
    codes = torch.randn(2, 8, generator=torch.Generator().manual_seed(3)) * torch.tensor([[0.1], [9.0]])
    state = context(parted, codes, codes)
    moved = build_edit("norm_sphere", {"radius": 1.5, "units": (0, 3)})(codes, state)
    torch.testing.assert_close(moved[:, :3].square().mean(1).sqrt(), torch.full((2,), 1.5))
    assert torch.equal(moved[:, 3:], codes[:, 3:])
    held = build_edit("norm_sphere", {"radius": 1.0, "units": (3, 8), "inside": True})(codes, state)
    assert torch.equal(held[:, :3], codes[:, :3])
    assert torch.equal(held[0], codes[0]), "what lies inside stays"
    torch.testing.assert_close((held[1, 3:] / 4).square().mean().sqrt(), torch.tensor(1.0))
    for wrong in ((3, 3), (-1, 2), (1,)):
        with pytest.raises(OptionError, match="units must be"):
            build_edit("norm_sphere", {"units": wrong})
    with pytest.raises(OptionError, match="a code has 8 dimensions"):
        build_edit("norm_sphere", {"units": (0, 9)})(codes, state)


def test_langevin_denoises_by_the_encoder_where_there_is_one(tiny_generator: Generator) -> None:
    encoded = torch.arange(8.0)
    encoding = Generator(tiny_generator.module, (8,), encode=lambda images: encoded.expand(len(images), -1))
    codes = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    options = {"pull": 0.5, "noise": 0.0}
    towards_code = build_edit("langevin", options)(codes, context(encoding, codes, codes))
    torch.testing.assert_close(towards_code, (codes + encoded) / 2)
    towards_mean = build_edit("langevin", options | {"denoiser": "gaussian"})(codes, context(encoding, codes, codes))
    torch.testing.assert_close(towards_mean, codes / 2)
    with pytest.raises(OptionError, match="no encoder"):
        build_edit("langevin", {"denoiser": "encoder"})(codes, context(tiny_generator, codes, codes))


def test_ppgn_is_the_published_sum(tiny_generator: Generator) -> None:
    codes = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    gradient = torch.randn(3, 8, generator=torch.Generator().manual_seed(3))
    edit = build_gradient_edit("ppgn", {"prior_step": 0.1, "gradient_step": 2.0, "noise": 0.3})
    noise = context(tiny_generator, codes, gradient).streams.normal((8,))
    descent = edit(gradient, context(tiny_generator, codes, gradient))
    torch.testing.assert_close(-descent, 2.0 * -gradient + 0.1 * -codes + 0.3 * noise)


def test_laplacian_brings_octaves_to_one_strength_and_smooth_drops_the_finest(pixels: Generator) -> None:
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    board = ((rows + columns) % 2 * 2 - 1).float().expand(1, 3, 16, 16)
    gradient = 1 + 0.01 * board
    state = context(pixels, IMAGES[:1], gradient)
    evened = build_gradient_edit("laplacian", {"levels": 1})(gradient, state)
    torch.testing.assert_close(evened, 1 + board, atol=0.05, rtol=0)
    stronger = build_gradient_edit("laplacian", {"levels": 1})(50 * gradient, state)
    torch.testing.assert_close(stronger, evened, atol=1e-3, rtol=0)
    smoothed = build_gradient_edit("smooth", {})(gradient, state)
    torch.testing.assert_close(smoothed, torch.ones_like(gradient), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", IMAGE_EDITS)
@pytest.mark.parametrize("mode", ["fourier", "maco", "tiny"])
def test_edits_of_images_refuse_other_codes(
    name: str, mode: str, tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    generator = tiny_generator if mode == "tiny" else load_generator(mode, device="cpu", image_size=16)
    with pytest.raises(OptionError, match=r"is not its image.*use the generator pixel"):
        synthesize(tiny_classifier, "ant", generator, recipe=Recipe(steps=1, edits=((name, {}),)))


@pytest.mark.parametrize(("name", "build"), ALL)
def test_a_synthesis_with_it_is_the_same_alone_and_in_a_batch(
    name: str, build: Callable[..., Edit], tiny_classifier: Classifier, pixels: Generator
) -> None:
    field = "edits" if build is build_edit else "gradient_edits"
    recipe = Recipe(steps=5, rate=0.02).with_options(**{field: ((name, OPTIONS.get(name, {})),)})
    together = synthesize(tiny_classifier, "ant", pixels, seeds=[4, 2, 9], recipe=recipe)
    alone = synthesize(tiny_classifier, "ant", pixels, seeds=[2], recipe=recipe)
    torch.testing.assert_close(together.codes[:, 1:2], alone.codes)
    assert torch.equal(synthesize(tiny_classifier, "ant", pixels, seeds=[2], recipe=recipe).codes, alone.codes)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("blur", {"every": 0}),
        ("blur", {"deviation": 0.0}),
        ("blur", {"radius": 2}),
        ("clip_small_norm", {"percent": 100.0}),
        ("clip_small_contribution", {"percent": -1.0}),
        ("l2_decay", {"decay": 1.5}),
        ("natural_range", {"low": 1.0}),
        ("langevin", {"pull": 2.0}),
        ("langevin", {"denoiser": "magic"}),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        build_edit(name, options)


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="langevin"):
        build_edit("langevine", {})
    with pytest.raises(UnknownNameError, match="laplacian"):
        build_gradient_edit("laplacien", {})
    for name, options in (("smooth", {"deviation": 0}), ("laplacian", {"levels": 0}), ("ppgn", {"denoiser": ""})):
        with pytest.raises(OptionError):
            build_gradient_edit(name, options)


def test_the_old_name_of_norm_sphere_still_works() -> None:
    with pytest.warns(DeprecationWarning, match="norm_sphere"):
        assert gp.edits.shell is gp.edits.norm_sphere
    codes, generator = torch.ones(1, 8), gp.Generator(lambda code: code.view(-1, 1, 2, 4).expand(-1, 3, -1, -1), (8,))
    state = context(generator, codes, codes)
    moved = [build_edit(name, {"radius": 2.0})(codes, state) for name in ("shell", "norm_sphere")]  # 0.1, 0.2
    assert torch.equal(moved[0], moved[1])
    assert moved[0].square().mean().sqrt() == pytest.approx(2.0)
