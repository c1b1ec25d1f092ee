"""Photographs as people have them: every function takes a file, a picture or a tensor, and refuses all else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import gen_prior as gp
from gen_prior.util.image_io import read_image, write_png

Call = Callable[[Any, gp.Classifier, gp.Generator], Tensor]

CALLS: dict[str, Call] = {
    "accentuate": lambda image, c, _: gp.accentuate(c, image, "bee", layer="conv1", steps=1).images[0].image,
    "dream": lambda image, c, _: gp.dream(c, image, "conv2", octaves=1, steps=1),
    "dream guide": lambda image, c, _: gp.dream(
        c, torch.full((3, 32, 32), 0.5), "conv2", guide=image, octaves=1, steps=1
    ),
    "dream_frames": lambda image, c, _: next(gp.dream_frames(c, image, "conv2", octaves=1, steps=1, frames=1)),
    "dream_through": lambda image, c, g: (
        gp.dream_through(c, g, torch.zeros(8), style=image, style_layers=["conv1"], steps=1).images
    ),
    "encode": lambda image, _, g: gp.encode(g, image, steps=1),
    "invert": lambda image, c, g: gp.invert(c, image, "conv1", g, steps=1).original,
    "morph": lambda image, c, g: gp.morph(c, [image, torch.zeros(8)], g, frames=2).images,
    "style": lambda image, c, g: gp.synthesize(c, gp.objectives.style(c, image, ["conv1"]), g, steps=1).images,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_photograph_may_be_a_file_a_picture_or_a_tensor(
    name: str, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator, tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    write_png(path, torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)))
    with Image.open(path) as picture:
        given = [read_image(path), path, str(path), picture.copy()]
    wanted, *others = (CALLS[name](one, tiny_classifier, tiny_generator) for one in given)
    assert all(torch.equal(wanted, other) for other in others)
    for wrong in (torch.full((3, 32, 32), 200.0), torch.zeros(2, 3, 32, 32), 0.5, tmp_path / "none.png"):
        with pytest.raises(gp.GenPriorError):
            CALLS[name](wrong, tiny_classifier, tiny_generator)


def test_one_name_is_a_list_of_one(tiny_classifier: gp.Classifier, tmp_path: Path) -> None:
    image = torch.full((3, 32, 32), 0.5)
    assert list(gp.invert(tiny_classifier, image, "conv1", "fourier", steps=1).reconstructions) == ["fourier"]
    with pytest.raises(gp.GenPriorError, match="a list of two ends, got 'bee'"):
        gp.morph(tiny_classifier, "bee", "fourier")
