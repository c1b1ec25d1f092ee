"""The folder of an atlas -> what its pages show: an index of layers, columns of numbers, and the rows of each shard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from gen_prior.atlas.manifest import numbers
from gen_prior.atlas.records import Records
from gen_prior.util.image_io import read_picture
from gen_prior.util.reading import open_regular, read_regular, reading

TILE, SIGNATURE = 96, 64
"""Side of a thumbnail in a shard's sheet in pixels, and numbers of a signature."""
SCALES = {"ratio": 100, "quantile": 1000, "path": 100, "two_alternatives": 100}
"""Measure of a method -> its factor in the pages' columns, which hold whole numbers to be short."""
FINE, DEAD, DENSE, FAILED = ".", "d", "D", "x"
"""How a unit does, one character each in a column."""
MAX_BYTES = 2**30
"""Most bytes that are read of a JSON file."""
Json = dict[str, Any]


@dataclass
class ShardRows:
    """A finished shard: up to 64 units of one layer, `sheet` with so many columns and rows of thumbnails."""

    index: int
    layer: str
    rows: list[Json]
    sheet: tuple[int, int]
    colours: list[str]


@dataclass
class LayerColumns:
    """The units of a layer that are made, a column for each property."""

    name: str
    planned: int
    """Units that the manifest names; some may not be made yet."""
    set_aside: list[str] = field(default_factory=list)
    """Reasons of shards that failed again and again."""
    shards: list[list[int]] = field(default_factory=list)
    """For each shard its index, its number of units, and the columns and rows of its sheet."""
    units: list[int] = field(default_factory=list)
    tiles: list[int] = field(default_factory=list)
    state: list[str] = field(default_factory=list)
    colours: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    activation: list[float | None] = field(default_factory=list)
    measures: dict[str, list[float | None]] = field(default_factory=lambda: {name: [] for name in SCALES})

    def add(self, shard: ShardRows, words: dict[str, int]) -> None:
        """Append the units of `shard`; `words` numbers the class names, and learns new ones."""
        self.shards.append([shard.index, len(shard.rows), *shard.sheet])
        for position, row in enumerate(shard.rows):
            method = (row.get("methods") or [{}])[0]
            tile = row.get("tile")
            tile = tile if isinstance(tile, int) else position
            self.units.append(int(row["unit"]))
            self.tiles.append(tile)
            self.state.append(state_of(row))
            self.colours.append(shard.colours[tile] if 0 <= tile < len(shard.colours) else "")
            self.names.append(row.get("name"))
            labels = dict.fromkeys(one["label"] for one in row.get("exemplars") or [] if one.get("label"))
            self.labels.append([words.setdefault(label, len(words)) for label in labels])
            activations = [value for value in method.get("activations") or [] if value is not None]
            self.activation.append(max(activations, default=None))
            for name, column in self.measures.items():
                column.append(method.get(name))

    def columns(self) -> Json:
        """Everything that the overview needs of each unit, short: whole numbers, columns that hold nothing left out."""
        found: Json = {"units": self.units, "state": "".join(self.state)}
        found["colours"] = "".join(f"{colour:3}" for colour in self.colours)
        if self.tiles != [n for _, count, *_ in self.shards for n in range(count)]:
            found["tiles"] = self.tiles
        if any(self.names):
            found["names"] = self.names
        if any(self.labels):
            found["labels"] = self.labels
        found["activation"] = [None if value is None else float(f"{value:.4g}") for value in self.activation]
        for name, column in self.measures.items():
            if any(value is not None for value in column):
                found[name] = [None if value is None else round(SCALES[name] * value) for value in column]
        return found

    def summary(self) -> Json:
        """How well the layer is explained: quartiles of each measure, and counts of what is dead, dense or failed."""
        ratios = [value for value in self.measures["ratio"] if value is not None]
        return {
            "name": self.name,
            "count": len(self.units),
            "planned": self.planned,
            "set_aside": self.set_aside,
            "shards": self.shards,
            **{kind: self.state.count(mark) for kind, mark in (("dead", DEAD), ("dense", DENSE), ("failed", FAILED))},
            "beyond": sum(value > 1 for value in ratios) / len(ratios) if ratios else None,
            **{name: quartiles(column) for name, column in self.measures.items()},
        }


def planned_layers(records: Records) -> list[LayerColumns]:
    """The layers of an atlas, in network order, without units as yet."""
    content = records.manifest.content
    found = {layer["name"]: LayerColumns(layer["name"], len(numbers(layer["chosen"]))) for layer in content["layers"]}
    for index in sorted(records.indices("failed")):
        failure = records.failure(index)
        if failure is not None and records.is_set_aside(index):
            found[records.manifest.shard(index).layer].set_aside += failure["reasons"][-1:]
    return list(found.values())


def state_of(row: Mapping[str, Any]) -> str:
    """One of `FINE`, `DEAD` (no photograph excites the unit), `DENSE` (nearly all do), `FAILED`."""
    photographs = row.get("photographs") or {}
    if row.get("error") or not row.get("methods"):
        return FAILED
    return DEAD if photographs.get("dead") else DENSE if photographs.get("dense") else FINE


def quartiles(values: Iterable[float | None]) -> list[float] | None:
    """[lower quartile, median, upper quartile] of the values that there are, with four digits."""
    known = [value for value in values if value is not None]
    return [float(f"{value:.4g}") for value in np.percentile(known, (25, 50, 75))] if known else None


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises `OutputError` if it is missing or damaged."""
    with reading("atlas", path.parent):
        return json.loads(read_regular(path, limit=MAX_BYTES))


def read_shard(records: Records, index: int, *, sheet: bool = True) -> ShardRows:
    """A finished shard, with `sheet` also what is in its sheet. Raises `OutputError` for a damaged one."""
    home = records.shard_folder(index)
    content = read_json(home / "shard.json")
    with reading("shard", home):
        layer, rows = str(content["layer"]), list(content["neurons"])
        colours, tiles = sheet_of(home / "sheet.webp", len(rows)) if sheet else ([], (0, 0))
        return ShardRows(index, layer, rows, tiles, colours)


def sheet_of(path: Path, count: int) -> tuple[list[str], tuple[int, int]]:
    """The mean colour of each thumbnail as three hexadecimal digits, and how many columns and rows of them there are.

    Without a sheet (all units of a shard may have failed) there are no colours.
    """
    if not path.is_file():
        return [], (8, -(-count // 8))
    with open_regular(path) as file:
        small = np.asarray(read_picture(file, str(path)).reduce(TILE))
    levels = np.round(small.astype(float) / 17).astype(int).reshape(-1, 3)
    return ["".join(f"{level:x}" for level in colour) for colour in levels], (small.shape[1], small.shape[0])


def read_signatures(path: Path, count: int) -> NDArray[np.float32]:
    """`[count, size]` the features of each unit's best picture, from a shard's file; zeros where there are none."""
    with reading("shard", path.parent):
        if path.is_file():
            with safe_open(path, "numpy") as file:
                if "signature" in file.keys():  # noqa: SIM118
                    found = np.asarray(file.get_tensor("signature"), dtype=np.float32)
                    if found.shape != (count, SIGNATURE):
                        raise ValueError(f"signatures of shape {found.shape} for {count} units")
                    return np.nan_to_num(found)
    return np.zeros((count, SIGNATURE), np.float32)


def inside(name: object) -> str | None:
    """`name` if it is a path that stays below its folder, else None."""
    is_path = isinstance(name, str) and name != "" and not name.startswith("/") and ".." not in name.split("/")
    return str(name) if is_path else None
