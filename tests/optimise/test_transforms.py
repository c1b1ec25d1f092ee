"""Transforms keep shapes and the independence of items, do what they say, and pass gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.generators.base import Generator
from gen_prior.optimise.constraints import CONSTRAINTS
from gen_prior.optimise.synthesize import synthesize
from gen_prior.optimise.transforms import TRANSFORMS, as_transform, build_transform

IMAGES = torch.rand(3, 3, 12, 16, generator=torch.Generator().manual_seed(0))
OPTIONS: dict[str, dict[str, Any]] = {"affine": {"degrees": 20.0, "scale": (0.8, 1.3), "shift": 0.1, "mirror": True}}


def draws(count: int, seed: int = 1) -> Tensor:
    return torch.rand(3, count, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_items_stand_alone_and_gradients_pass(name: str) -> None:
    transform = build_transform(name, OPTIONS.get(name, {}))
    images, drawn = IMAGES.clone().requires_grad_(), draws(transform.count)
    together = transform.apply(images, drawn)
    assert together.shape[:2] == (3, 3)
    for item in range(3):
        alone = transform.apply(images[item : item + 1], drawn[item : item + 1])
        torch.testing.assert_close(alone, together[item : item + 1])
    (gradient,) = torch.autograd.grad(together[1].square().sum(), images)
    assert gradient[1].abs().sum() > 0
    assert not gradient[[0, 2]].any()


@pytest.mark.parametrize("name", sorted(set(TRANSFORMS) - {"pad", *CONSTRAINTS}))
def test_draws_matter_and_the_shape_stays(name: str) -> None:
    transform = build_transform(name, OPTIONS.get(name, {}))
    first, second = (transform.apply(IMAGES, draws(transform.count, seed)) for seed in (1, 2))
    assert first.shape == IMAGES.shape
    assert not torch.equal(first, second)


def test_jitter_only_moves_pixels() -> None:
    moved = build_transform("jitter", {"pixels": 3}).apply(
        IMAGES, torch.tensor([[0.0, 0.999], [0.5, 0.5], [0.999, 0.0]])
    )
    assert torch.equal(moved[0], IMAGES[0].roll((-3, 3), (1, 2)))
    assert torch.equal(moved[1], IMAGES[1])
    assert torch.equal(moved[2], IMAGES[2].roll((3, -3), (1, 2)))


def test_jitter_shrinks_with_images_smaller_than_its_side() -> None:
    draws = torch.tensor([[0.999, 0.0]])
    for side, most in ((8, 1), (56, 2), (224, 8), (448, 8)):
        image = torch.arange(side * side).view(1, 1, side, side).float()
        moved = build_transform("jitter", {"pixels": 8, "side": 224}).apply(image, draws)
        assert torch.equal(moved[0], image[0].roll((most, -most), (1, 2)))
    with pytest.raises(OptionError, match="at least one pixel"):
        build_transform("jitter", {"side": 0})


def test_blur_takes_fine_texture_and_leaves_areas() -> None:
    chequered = torch.ones(2, 3, 32, 32)
    chequered[:, :, ::2, ::2] = chequered[:, :, 1::2, 1::2] = 0
    blur = build_transform("blur", {"deviation": 2.0})
    sharp, soft = blur.apply(chequered, torch.tensor([[0.0], [1.0]]))
    torch.testing.assert_close(sharp, chequered[0])
    inner = soft[:, 8:-8, 8:-8]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.5), atol=1e-3, rtol=0)
    even = torch.full((1, 3, 9, 7), 0.3)
    torch.testing.assert_close(blur.apply(even, torch.ones(1, 1)), even)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(OptionError):
            build_transform("blur", {"deviation": wrong})


def test_affine_without_freedom_changes_nothing() -> None:
    transform = build_transform("affine", {})
    torch.testing.assert_close(transform.apply(IMAGES, draws(transform.count)), IMAGES)


def test_affine_scale_enlarges() -> None:
    dot = torch.zeros(1, 1, 15, 15)
    dot[..., 6:9, 6:9] = 1
    larger = build_transform("affine", {"scale": (2.0, 2.0)}).apply(dot, torch.full((1, 5), 0.5))
    assert larger.sum().item() == pytest.approx(4 * dot.sum().item(), rel=0.05)


def test_colour_in_the_middle_of_its_range_changes_nothing() -> None:
    transform = build_transform("colour", {})
    torch.testing.assert_close(transform.apply(IMAGES, torch.full((3, transform.count), 0.5)), IMAGES)
    brighter = transform.apply(IMAGES * 0.5, torch.tensor([[0.5, 0.5, 0.999]]).expand(3, -1))
    torch.testing.assert_close(brighter, IMAGES * 0.5 + 0.1, atol=1e-3, rtol=0)


def test_pad_frames_the_image() -> None:
    padded = build_transform("pad", {"pixels": 2, "value": 0.25}).apply(IMAGES, draws(0))
    assert padded.shape == (3, 3, 16, 20)
    assert torch.equal(padded[..., 2:-2, 2:-2], IMAGES)
    assert (padded[..., :2, :] == 0.25).all()


def test_a_function_is_a_transform(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    own = as_transform(lambda images: images.flip(-1))
    assert own.count == 0
    assert torch.equal(own.apply(IMAGES, draws(0)), IMAGES.flip(-1))
    jitter = build_transform("jitter", {"pixels": 2})
    assert as_transform(jitter) is jitter
    plain = synthesize(tiny_classifier, "ant", tiny_generator, steps=3)
    seen: list[tuple[int, ...]] = []

    def dark(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        return images * 0.2

    changed = synthesize(tiny_classifier, "ant", tiny_generator, steps=3, transforms=[dark])
    assert seen == [(1, 3, 32, 32)] * 3
    assert not torch.equal(plain.history, changed.history)


def test_what_is_not_a_transform() -> None:
    with pytest.raises(UnknownNameError, match="jitter"):
        build_transform("jiter", {})
    with pytest.raises(OptionError, match="pixel"):
        build_transform("jitter", {"pixel": 2})
    with pytest.raises(OptionError, match="smaller first"):
        build_transform("affine", {"scale": (1.2, 0.8)})
    with pytest.raises(OptionError, match="pixels >= 0"):
        build_transform("pad", {"pixels": -1})
