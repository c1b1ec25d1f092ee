"""Fixed mean and contrast: as edits of pixels, as transforms of any image, and never undone by returning the start."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gen_prior as gp
from gen_prior.errors import OptionError

BOTH: tuple[tuple[str, dict[str, Any]], ...] = (("rms_contrast", {"value": 0.1}), ("mean", {"value": 0.4}))


@pytest.mark.parametrize("channels", [1, 3])
def test_edits_keep_every_image_at_mean_and_contrast(channels: int, tiny_classifier: gp.Classifier) -> None:
    pixels = gp.load_generator("pixel-raw", device="cpu", image_size=(20, 24), channels=channels)
    for steps in (1, 12):
        options: dict[str, Any] = {"edits": BOTH, "steps": steps}
        recipe = pixels.recipe.with_options(**options)
        result = gp.synthesize(tiny_classifier, ["bee", "conv2:3@mean"], pixels, seeds=2, recipe=recipe)
        for images in (result.images[:, :, :channels], result.codes):
            torch.testing.assert_close(images.mean((2, 3, 4)), torch.full((2, 2), 0.4), atol=1e-3, rtol=0)
            torch.testing.assert_close(images.std((2, 3, 4), correction=0), torch.full((2, 2), 0.1), atol=1e-3, rtol=0)
    again = result.replay()
    assert torch.equal(again.images, result.images)


def test_transforms_show_the_classifier_such_images() -> None:
    images = torch.rand(3, 3, 8, 10)
    contrast, mean = (gp.transforms.build_transform(*one) for one in BOTH)
    shown = mean.apply(contrast.apply(images, images[:, :0, 0, 0]), images[:, :0, 0, 0])
    torch.testing.assert_close(shown.mean((1, 2, 3)), torch.full((3,), 0.4))
    torch.testing.assert_close(shown.std((1, 2, 3), correction=0), torch.full((3,), 0.1))
    torch.testing.assert_close(contrast.apply(images, images).mean((1, 2, 3)), images.mean((1, 2, 3)))


@pytest.mark.parametrize("kind", [gp.edits, gp.transforms])
def test_impossible_values_are_refused(kind: Any) -> None:
    for name, value in (("mean", 0.0), ("mean", 1.1), ("rms_contrast", 0.6), ("rms_contrast", float("nan"))):
        with pytest.raises(OptionError, match=f"{name} must be above 0 and at most"):
            getattr(kind, name)(value)


def test_edits_need_pixels(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    with pytest.raises(OptionError, match="'mean' edits images"):
        gp.synthesize(tiny_classifier, "bee", tiny_generator, edits=[gp.edits.mean(0.5)], steps=1)
