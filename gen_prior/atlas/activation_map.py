"""Activation atlases (Carter et al. 2019, Activation Atlas): the space that a layer's units span, drawn as a map."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gen_prior.defaults as defaults
from gen_prior.applications.methods import Method, MethodLike, load_methods
from gen_prior.applications.photograph_pass import run_pass
from gen_prior.applications.photographs import image_paths, listing_sha256
from gen_prior.atlas.activation_layout import LAYOUTS, Grid, bin_points
from gen_prior.atlas.activation_samples import SampledActivations
from gen_prior.atlas.filled_layer import class_effects, names_classes
from gen_prior.atlas.map_page import MapCell, write_page
from gen_prior.atlas.networks import methods_within
from gen_prior.atlas.shards import webp
from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.hub.tensors import read_tensors, save_safetensors
from gen_prior.objectives.targets import file_name
from gen_prior.objectives.units import CENTRE, direction
from gen_prior.optimise.synthesize import synthesize
from gen_prior.util.devices import environment
from gen_prior.util.files import as_output_errors, write_files, write_json
from gen_prior.util.folders import OTHER_RUN_FIX, only_writer
from gen_prior.util.progress import Progress, ProgressCallback
from gen_prior.util.random import check_seed
from gen_prior.util.reading import read_regular
from gen_prior.util.words import others

GENERATORS = (defaults.GENERATOR, "fourier")
CLASSES = 8
"""Classes that are named of a cell."""
COSINE_POWER = 1.0
AT_ONCE = 16
"""Cells that an accelerator draws at once."""


@dataclass(frozen=True)
class ActivationMap:
    """A map of a layer's activations, in a folder.

    Attributes:
        layer: the layer.
        page: the page, to open with a browser from the disk.
        cells: its cells, rows from the top.
        places: `[points, 2]`, where each sampled activation lies.
    """

    layer: str
    page: Path
    cells: list[MapCell]
    places: Tensor


def make_activation_map(
    classifier: Classifier | str,
    layer: str,
    *,
    images: str | Path,
    out: str | Path,
    generators: Sequence[MethodLike] | MethodLike = GENERATORS,
    layout: str = "umap",
    grid: int = 12,
    smallest: int = 4,
    positions: int = 4,
    evaluations: int = 48,
    seed: int = 0,
    overwrite: bool = False,
    on_bad: Callable[[str], None] | None = None,
    progress: ProgressCallback | None = None,
) -> ActivationMap:
    """Make an activation atlas of one layer (Carter et al. 2019): a page that shows what its activations stand for.

    One pass over photographs collects the layer's activations at random positions. They are laid out on a plane, so
    that similar ones are neighbours, and the plane is divided into cells. For each cell, the direction of its mean
    activation, whitened by the second moment of all, is drawn at the scale of what the layer sees; and the classes are
    listed whose logits rise most when the layer holds that mean everywhere, instead of the mean of all activations.

    A call with the same arguments goes on where an earlier one stopped: in the pass, or with the next cell. The
    photographs are not part of the page, and need not be there once it is made.

    Args:
        layer: any layer whose unit axis is known.
        images: a folder of photographs; a thousand show the outlines, more give finer maps.
        out: a folder, of an atlas or not. The page is `map-LAYER.html`, its data lies in `data/map-LAYER`, and what
            the next call goes on with in `maps/LAYER`.
        generators: what draws the cells, as the methods of `compare`; the page switches between them.
        layout: "umap" (needs umap-learn, the extra `atlas`), or "pca", which shows coarse differences only.
        grid: cells along each side of the map.
        smallest: the fewest points of a cell that is drawn.
        positions: random positions of each photograph.
        evaluations: classifier evaluations for each picture.
        seed: of the positions, the layout and the pictures.
        overwrite: replace a map of this layer with other settings; what its pass found is used again where it fits.
        on_bad: called with a message for each photograph that cannot be read; if None, such a file raises.
        progress: called with a `Progress` in photographs, then in pictures.

    Raises:
        GenPriorError: unknown names, no photographs, no cell with enough points, umap-learn missing, or a folder that
            holds another map of this layer or cannot be written to.
    """
    if layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    for name, value in (("grid", grid), ("smallest", smallest), ("positions", positions), ("evaluations", evaluations)):
        if value < 1:
            raise OptionError(f"{name} must be at least 1, got {value}")
    network, seed = as_classifier(classifier), check_seed(seed)
    listed: list[MethodLike] = [generators] if isinstance(generators, MethodLike) else list(generators)
    methods = methods_within(load_methods(listed, network.device), evaluations, None)
    paths = image_paths(images)
    settings = {
        "classifier": network.describe(),
        "layer": layer,
        "photographs": listing_sha256(Path(images), paths),
        "layout": layout,
        "grid": grid,
        "smallest": smallest,
        "positions": positions,
        "seed": seed,
        "evaluations": evaluations,
        "generators": [
            {"name": one.name, "generator": one.generator.describe(), "recipe": one.unit_recipe.to_dict()}
            for one in methods
        ],
        "environment": environment(network.device),
    }
    making = _Making(network, layer, Path(out), methods, json.loads(json.dumps(settings)), progress)
    with only_writer(making.folder):
        making.check(overwrite)
        chart = making.chart(Path(images), len(paths), on_bad)
        cells = making.draw(chart)
        page = write_page(Path(out), making.slug, settings, cells, len(chart["places"]))
    return ActivationMap(layer, page, cells, chart["places"])


class _Making:
    """One map while it is made, in `maps/LAYER` of the folder `out`."""

    def __init__(
        self,
        classifier: Classifier,
        layer: str,
        out: Path,
        methods: Sequence[Method],
        settings: dict[str, Any],
        progress: ProgressCallback | None,
    ) -> None:
        self.classifier, self.layer, self.methods, self.settings = classifier, layer, methods, settings
        self.slug = file_name(layer)
        self.folder = out / "maps" / self.slug
        self.progress = progress
        self.sides = classifier.layout(layer).sides

    def check(self, overwrite: bool) -> None:
        """Write the settings, or compare them. Raises `OptionError` where a map with others is there."""
        file = self.folder / "settings.json"
        if file.exists() and not overwrite:
            with as_output_errors(file):
                before = json.loads(read_regular(file, limit=2**24))
            if changed := [name for name in self.settings if before.get(name) != self.settings[name]]:
                raise OptionError(
                    f"{self.folder} holds a map of {self.layer} with {others(changed)}",
                    fix=OTHER_RUN_FIX,
                )
        write_json(file, self.settings)

    def chart(self, images: Path, count: int, on_bad: Callable[[str], None] | None) -> dict[str, Tensor]:
        """The points, cells and directions of the map; from the disk where they are there.

        Returns tensors: places `[points, 2]`; cells `[cells, 2]` (row, column) with points, means, directions and, if
        there are classes, effects.
        """
        key = hashlib.sha256(json.dumps([self.settings[name] for name in _CHART], sort_keys=True).encode()).hexdigest()
        file = self.folder / f"chart-{key[:16]}.safetensors"
        if file.is_file():
            return read_tensors(file)
        seed, state = self.settings["seed"], self.folder / "activations"
        samples = SampledActivations(self.classifier, self.layer, state, count, self.settings["positions"], seed)
        run_pass(self.classifier, images, {"samples": samples}, state=state, on_bad=on_bad, progress=self.progress)
        rows = samples.rows[: int(samples.count)]
        places = LAYOUTS[self.settings["layout"]](rows, seed)
        grid = bin_points(rows, places, self.settings["grid"], self.settings["smallest"])
        chart = {"places": torch.from_numpy(places)} | _of_cells(grid)
        if names_classes(self.classifier, self.layer):
            chart["effects"] = class_effects(self.classifier, self.layer, grid.means, grid.mean)
        save_safetensors(file, chart, {"layer": self.layer})
        return chart

    def draw(self, chart: dict[str, Tensor]) -> list[MapCell]:
        """Draw all cells that are not drawn, each written before the next begins; returns the cells."""
        cells = [(int(row), int(column)) for row, column in chart["cells"]]
        total, found = len(cells) * len(self.methods), dict[tuple[str, tuple[int, int]], dict[str, Any]]()
        for number, method in enumerate(self.methods):
            missing = []
            for index, cell in enumerate(cells):
                drawn = self._drawn(method, cell, chart["directions"][index])
                if drawn is None:
                    missing.append(index)
                else:
                    found[method.name, cell] = drawn
            size = torch.get_num_threads() if self.classifier.device.type == "cpu" else AT_ONCE
            for first in range(0, len(missing), size):
                chunk = missing[first : first + size]
                rows = self._draw(method, [cells[index] for index in chunk], chart["directions"][chunk])
                found |= {(method.name, cells[index]): row for index, row in zip(chunk, rows, strict=True)}
                if self.progress is not None:
                    done = number * len(cells) + len(cells) - len(missing) + first + len(chunk)
                    self.progress(Progress(done, total, f"drawing cells through {method.name}"))
        return [self._cell(index, cell, chart, found) for index, cell in enumerate(cells)]

    def _cell(
        self, index: int, cell: tuple[int, int], chart: dict[str, Tensor], found: dict[Any, dict[str, Any]]
    ) -> MapCell:
        classes = []
        if "effects" in chart:
            effects = chart["effects"][index]
            best = effects.topk(min(CLASSES, len(effects)))
            classes = [
                (self.classifier.class_name(int(number)), round(float(value), 3))
                for value, number in zip(best.values, best.indices, strict=True)
            ]
        unit = chart["directions"][index] / chart["directions"][index].norm()
        return MapCell(
            *cell,
            points=int(chart["points"][index]),
            classes=classes,
            photographs=round(float(chart["means"][index] @ unit), 3),
            activations={one.name: found[one.name, cell]["activation"] for one in self.methods},
            pictures={one.name: self._file(one, cell, ".webp") for one in self.methods},
        )

    def _file(self, method: Method, cell: tuple[int, int], ending: str) -> Path:
        return self.folder / method.folder / f"{cell[0]:03d}-{cell[1]:03d}{ending}"

    def _drawn(self, method: Method, cell: tuple[int, int], direction: Tensor) -> dict[str, Any] | None:
        """The record of a cell; None where it is not drawn, or drawn for another direction."""
        try:
            row: dict[str, Any] = json.loads(read_regular(self._file(method, cell, ".json"), limit=2**20))
            picture = read_regular(self._file(method, cell, ".webp"), limit=2**28)
        except (OSError, ValueError):
            return None
        whole = row.get("sha256") == hashlib.sha256(picture).hexdigest()
        return row if whole and row.get("of") == self._identity(method, direction) else None

    def _identity(self, method: Method, direction: Tensor) -> str:
        """Hash of all that a picture follows from."""
        number = [one.name for one in self.methods].index(method.name)
        names = ("classifier", "layer", "seed", "environment")
        what = [self.settings["generators"][number], *(self.settings[name] for name in names), direction.tolist()]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def _draw(self, method: Method, cells: list[tuple[int, int]], directions: Tensor) -> list[dict[str, Any]]:
        """Draw some cells and write them."""
        position = CENTRE if self.sides else "mean"
        result = synthesize(
            self.classifier,
            [direction(self.layer, one, position, COSINE_POWER).reporting(direction(self.layer, one, position))
             for one in directions],
            method.generator,
            seeds=[self.settings["seed"]],
            recipe=method.unit_recipe,
            batch=len(cells),
        )  # fmt: skip
        rows = []
        for number, (cell, one) in enumerate(zip(cells, directions, strict=True)):
            picture = webp(result.images[number, 0])
            row = {
                "activation": round(float(result.activations[number, 0]), 3),
                "sha256": hashlib.sha256(picture).hexdigest(),
                "of": self._identity(method, one),
            }
            files = {".webp": picture, ".json": json.dumps(row, indent=1).encode()}
            write_files({self._file(method, cell, ending): data for ending, data in files.items()})
            rows.append(row)
        return rows


_CHART = ("classifier", "layer", "photographs", "layout", "grid", "smallest", "positions", "seed", "environment")
"""Settings that the places and cells follow from."""


def _of_cells(grid: Grid) -> dict[str, Tensor]:
    return {
        "cells": torch.tensor(grid.cells),
        "points": torch.tensor(grid.points),
        "means": grid.means,
        "directions": grid.directions(),
    }
