"""The page of an activation map: pictures in sheets, numbers in a classic script, one HTML file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from gen_prior.atlas.shards import webp
from gen_prior.objectives.targets import file_name
from gen_prior.report.pages.render import asset, render
from gen_prior.util.files import as_output_errors, write_bytes
from gen_prior.util.image_io import read_picture
from gen_prior.util.words import counted

TILE, BLOCK = 192, 6
"""Side of a cell's picture on the page, in pixels; and of a sheet, in cells."""


@dataclass(frozen=True)
class MapCell:
    """A cell of an activation map.

    Attributes:
        row, column: its place, from the top left.
        points: how many sampled activations it holds.
        classes: the classes it speaks for, with the rise of their logits, highest first; empty for a network without.
        photographs: mean projection of the cell's activations on the direction that is drawn.
        activations: {generator: projection that the picture reaches}.
        pictures: {generator: file of the picture}.
    """

    row: int
    column: int
    points: int
    classes: list[tuple[str, float]]
    photographs: float
    activations: dict[str, float]
    pictures: dict[str, Path]


def write_page(folder: Path, slug: str, settings: Mapping[str, Any], cells: Sequence[MapCell], points: int) -> Path:
    """Write `map-SLUG.html` with its data and assets into `folder`; returns the page.

    `points` is how many activations were laid out. Raises `OutputError`.
    """
    data, side = f"data/map-{slug}", int(settings["grid"])
    names = list(cells[0].pictures)
    generators = [{"name": name, "folder": f"{data}/{file_name(name)}"} for name in names]
    for name, generator in zip(names, generators, strict=True):
        _write_sheets(folder / generator["folder"], name, cells)
    described = {
        "layer": settings["layer"],
        "side": side,
        "tile": TILE,
        "block": BLOCK,
        "generators": generators,
        "cells": [
            {
                "row": cell.row,
                "column": cell.column,
                "points": cell.points,
                "classes": cell.classes,
                "photographs": cell.photographs,
                "activations": [cell.activations[name] for name in names],
            }
            for cell in cells
        ],
    }
    text = json.dumps(described, ensure_ascii=True, allow_nan=False)
    write_bytes(folder / data / "cells.js", f"window.activationMap = {text};\n".encode())
    write_bytes(folder / "assets" / "map.css", (asset("pages.css") + asset("map.css", __package__)).encode())
    write_bytes(folder / "assets" / "map.js", (asset("theme.js") + asset("map.js", __package__)).encode())
    html = render(
        "map.html", package=__package__, map=described, settings=settings, data=data, cells=cells, points=points,
        counted=counted, atlas=(folder / "manifest.json").exists(),
    )  # fmt: skip
    page = folder / f"map-{slug}.html"
    write_bytes(page, html.encode())
    return page


def _write_sheets(folder: Path, generator: str, cells: Sequence[MapCell]) -> None:
    """Write sheets of `BLOCK` x `BLOCK` cells, named by their row and column; delete those of an earlier map."""
    blocks: dict[tuple[int, int], list[MapCell]] = {}
    for cell in cells:
        blocks.setdefault((cell.row // BLOCK, cell.column // BLOCK), []).append(cell)
    wanted = set()
    for (row, column), members in blocks.items():
        sheet = Image.new("RGB", (BLOCK * TILE, BLOCK * TILE))
        for cell in members:
            picture = read_picture(cell.pictures[generator], str(cell.pictures[generator]))
            small = picture.resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(small, (cell.column % BLOCK * TILE, cell.row % BLOCK * TILE))
        wanted.add(f"{row}-{column}.webp")
        write_bytes(folder / f"{row}-{column}.webp", webp(sheet, quality=85))
    with as_output_errors(folder):
        for file in folder.glob("*.webp"):
            if file.name not in wanted:
                file.unlink()
