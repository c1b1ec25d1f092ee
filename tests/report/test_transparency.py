"""Opacity is where the gradient was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from gen_prior.classifiers import Classifier
from gen_prior.generators import Generator, load_generator
from gen_prior.optimise.synthesize import synthesize
from gen_prior.report.transparency import Transparency
from gen_prior.util.image_io import write_png


def test_only_what_the_unit_sees_is_opaque(tiny_classifier: Classifier, tmp_path: Path) -> None:
    clear = Transparency()
    pixels = load_generator("pixel-raw", device="cpu", image_size=32)
    result = synthesize(tiny_classifier, "conv2:3@5,5", pixels, steps=4, record=clear, scale="image")
    rgba = clear.rgba(result.images)
    assert rgba.shape == (1, 1, 4, 32, 32)
    assert rgba[0, 0, 3, 10, 10] == 1
    assert rgba[0, 0, 3, 20:].max() == 0
    write_png(tmp_path / "clear.png", rgba[0, 0])
    with Image.open(tmp_path / "clear.png") as picture:
        assert picture.mode == "RGBA"
        assert [picture.getchannel(3).getpixel((10, y)) for y in (10, 30)] == [255, 0]


def test_watching_changes_no_result_and_every_batching_gives_the_same_maps(
    tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    plain = synthesize(tiny_classifier, ["bee", "cup"], tiny_generator, seeds=2, steps=5)
    maps = []
    for batch in (4, 3):
        clear = Transparency()
        watched = synthesize(
            tiny_classifier, ["bee", "cup"], tiny_generator, seeds=2, steps=5, batch=batch, record=clear
        )
        assert torch.allclose(watched.codes, plain.codes, atol=1e-5)
        maps.append(torch.stack([clear.sums[item] for item in range(4)]))
    assert torch.allclose(maps[0], maps[1], rtol=1e-3, atol=1e-7)
    assert maps[0].flatten(1).sum(1).min() > 0


def test_a_map_is_the_sum_over_steps(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    sums = []
    for steps in (1, 2):
        clear = Transparency()
        synthesize(tiny_classifier, "bee", tiny_generator, steps=steps, final_rate=0.1, rate=0.1, record=clear)
        sums.append(clear.sums[0].sum().item())
    assert sums[1] == pytest.approx(2 * sums[0], rel=0.3)


def test_a_generator_needs_no_wrapping_any_more(tiny_generator: Generator) -> None:
    with pytest.warns(DeprecationWarning, match="not needed"):
        assert Transparency().watch(tiny_generator) is tiny_generator
