"""Calls of the public functions with a hostile value in one place, by what kind of value stands there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gen_prior as gp
from gen_prior.atlas.hub_export import export_numbers
from gen_prior.training.recipe import read_recipe

SOURCE = torch.Generator().manual_seed(0)
IMAGE = torch.rand(3, 32, 32, generator=SOURCE)
CODE = torch.zeros(8)
NUMBERS: list[Any] = [-1, 0, 1, 2, 10**9, 2**63, 2**70, -(2**63), float("nan"), float("inf"), 0.5, 1e-320, True]
TENSORS: list[Tensor] = [
    torch.zeros(0), torch.zeros(()), torch.zeros(3, 0, 5), torch.full((3, 32, 32), torch.nan), IMAGE * 1e30, IMAGE - 5,
    IMAGE.half(), IMAGE.bfloat16(), IMAGE.double(), IMAGE.to(torch.complex64), (IMAGE * 255).byte(), IMAGE > 0.5,
    IMAGE[None], IMAGE[:1], IMAGE.to("meta"), torch.rand(4, 8, 8), torch.full((8,), torch.inf),
    torch.zeros(7), torch.zeros(2, 2, 8), torch.zeros(8, dtype=torch.int64), torch.zeros(8).to("meta"),
    torch.rand(3, 1, 1), torch.rand(3, 2, 3000),
]  # fmt: skip
Call = Callable[[Any, Any, Any, Path], Any]
"""(hostile value, classifier, generator, a folder) -> anything."""
OF_NAMES: list[Call] = [
    lambda x, c, g, _: gp.parse_targets(x, c),
    lambda x, c, g, _: gp.parse_target(x, c),
    lambda x, c, g, _: gp.load_generator(x),
    lambda x, c, g, _: gp.load_classifier(x),
    lambda x, c, g, _: gp.preset(x),
    lambda x, c, g, _: gp.preset_generator(x),
    lambda x, c, g, _: gp.receptive_field(c, x),
    lambda x, c, g, _: gp.synthesize(c, "bee", g, steps=1, scale=x),
    lambda x, c, g, _: gp.synthesize(c, "bee", g, steps=1, score=x),
    lambda x, c, g, _: gp.synthesize(c, "bee", g, steps=1, precision=x),
    lambda x, c, g, _: gp.synthesize(c, "bee", g, recipe=x),
    lambda x, c, g, _: gp.dream(c, IMAGE, x, steps=1, octaves=1),
    lambda x, c, g, _: gp.invert(c, IMAGE, [x], [g], steps=1),
    lambda x, c, g, _: gp.accentuate(c, IMAGE, "bee", g, layer=x, steps=1),
    lambda x, c, g, _: gp.compare(c, "bee", [x], judge=None, seeds=1, evaluations=1),
    lambda x, c, g, _: gp.morph(c, [x, "bee"], g, frames=2, steps=1),
    lambda x, c, g, folder: gp.Experiment(folder / "e", g, neurons=[x]).ask(),
    lambda x, c, g, folder: gp.make_dataset(c, g, folder / "d", classes=[x], per_class=1, steps=1),
    lambda x, c, g, folder: gp.make_atlas(c, x, units="0", generators=[g], evaluations=1, out=folder / "a", workers=1),
    lambda x, c, g, folder: gp.make_atlas(
        c, "conv2", units=x, generators=[g], evaluations=1, out=folder / "b", workers=1
    ),
    lambda x, c, g, folder: gp.write_animation(folder / f"x.{x}", [IMAGE, IMAGE]),
    lambda x, c, g, folder: gp.Recorder(1, out=folder, kind=x),
]
OF_FILES: list[Call] = [
    lambda x, c, g, _: gp.load_result(x),
    lambda x, c, g, _: gp.load_comparison(x),
    lambda x, c, g, _: gp.load_atlas(x),
    lambda x, c, g, _: gp.load_dictionary(x),
    lambda x, c, g, _: gp.gallery(x),
    lambda x, c, g, _: gp.build_pages(x),
    lambda x, c, g, folder: gp.export_atlas(x, folder / "exported"),
    lambda x, c, g, folder: export_numbers(x, folder / "numbers.csv"),
    lambda x, c, g, _: gp.NaturalStatistics.load(x),
    lambda x, c, g, _: gp.find_exemplars(c, "bee", x, count=1),
    lambda x, c, g, _: gp.parse_targets(f"conv2/direction:{x}:0", c),
    lambda x, c, g, _: gp.parse_targets(f"conv2/sae:{x}:0", c),
    lambda x, c, g, _: gp.load_generator(f"local-dir:{x}"),
    lambda x, c, g, _: gp.load_classifier(f"local-dir:{x}"),
    lambda x, c, g, _: gp.Evolution.load(x, g),
    lambda x, c, g, _: read_recipe(Path(x)),
]
OF_NUMBERS: list[Call] = [
    lambda x, c, g, _: gp.synthesize(c, "bee", g, steps=1, seeds=x if x != 10**9 else -1),
    lambda x, c, g, _: gp.synthesize(c, "bee", g, seeds=[x], steps=1),
    lambda x, c, g, _: gp.synthesize(c, "bee", g, steps=x if x not in (10**9, 2**63, 2**70) else -1),
    lambda x, c, g, _: gp.synthesize(c, "bee", g, steps=1, rate=x),
    lambda x, c, g, _: gp.synthesize(c, "bee", g, steps=1, batch=x),
    lambda x, c, g, _: gp.synthesize(c, "bee", g, steps=1, scale=x),
    lambda x, c, g, _: gp.synthesize(c, x, g, steps=1),
    lambda x, c, g, _: gp.dream(c, IMAGE, "conv2", steps=1, octaves=x),
    lambda x, c, g, _: gp.interpolate(g, CODE, torch.ones(8), torch.tensor([float(x)])),
    lambda x, c, g, _: gp.Evolution(g, population=x),
    lambda x, c, g, _: gp.Recorder(x),
    lambda x, c, g, folder: gp.write_animation(folder / "x.gif", [IMAGE, IMAGE], fps=x),
    lambda x, c, g, _: gp.load_generator("pixel", image_size=x),
    lambda x, c, g, _: gp.Recipe(rate=x),
]
OF_TENSORS: list[Call] = [
    lambda x, c, g, _: gp.synthesize(c, "bee", g, start=x, steps=1),
    lambda x, c, g, _: gp.dream(c, x, "conv2", steps=1, octaves=1),
    lambda x, c, g, _: gp.invert(c, x, ["conv2"], [g], steps=1),
    lambda x, c, g, _: gp.accentuate(c, x, "bee", g, layer="conv1", steps=1),
    lambda x, c, g, _: gp.encode(g, x, steps=1),
    lambda x, c, g, _: gp.fit_code(g, x, c, layer="conv1", steps=1),
    lambda x, c, g, _: gp.interpolate(g, x, torch.ones(8), torch.tensor([0.5])),
    lambda x, c, g, _: gp.dream_through(c, g, x, "conv2", steps=1),
    lambda x, c, g, folder: gp.write_animation(folder / "x.gif", [x, x]),
    lambda x, c, g, _: gp.objectives.style(c, x, ["conv1"]),
]
KINDS: dict[str, tuple[list[Call], list[Any]]] = {
    "names": (OF_NAMES, []),
    "files": (OF_FILES, []),
    "numbers": (OF_NUMBERS, NUMBERS),
    "tensors": (OF_TENSORS, TENSORS),
}
"""Kind of a value -> the calls that take one, and hostile values; names and files are those of `attack_inputs`."""
