"""Static pages of an atlas: one index, data that is loaded when it is looked at, no server and no network."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from gen_prior.atlas.manifest import Manifest
from gen_prior.atlas.neighbours import nearest
from gen_prior.atlas.page_data import SIGNATURE, Json, LayerColumns, inside, planned_layers, read_shard, read_signatures
from gen_prior.atlas.page_photographs import PagePhotographs, PhotographMode, check_mode
from gen_prior.atlas.records import Records
from gen_prior.errors import OptionError, OutputError
from gen_prior.report.pages.render import asset, render
from gen_prior.util.files import write_bytes
from gen_prior.util.image_io import read_picture
from gen_prior.util.reading import open_regular, reading
from gen_prior.util.words import counted

INDEX = "index.html"
COPIED_SIDE, COPIED_QUALITY = 160, 75
"""Side in pixels, and WebP quality, of the pictures of pages that are copied to another folder."""
SCRIPTS = ("dom", "store", "search", "words", "summary", "layout", "overview", "unit", "main")
"""Files of assets/, without their ending, that make up `atlas.js`, in this order."""


def build_pages(folder: str | Path, photographs: PhotographMode = "link", *, out: str | Path | None = None) -> Path:
    """Write the pages of the atlas in `folder` there, and return the path of their `index.html`, to open from disk.

    They show what is finished, so that they may be built while the atlas is being made. Of `photographs`, the pages
    take along "none"; or "thumbnails", small crops copied into `thumbnails/`, which are published with the pages; or a
    "link" to the crops in `photographs/`: these are seen on this machine, and where that folder is left out, as
    `gen-prior export` does, the pages say so.

    With `out`, a folder, the pages are written there, with copies of the pictures of at most `COPIED_SIDE` pixels and
    nothing else of the atlas: a few kilobytes a unit, to be put on a site. They show no photographs.

    Raises `OptionError` for another value of `photographs`, or one that is not "none" with `out`; `OutputError` if
    there is no atlas in `folder`, if it is damaged, if it cannot be written to, or if `out` holds something else.
    """
    check_mode(photographs)
    folder = Path(folder)
    home = folder if out is None else Path(out)
    if out is not None and photographs != "none":
        raise OptionError("pages that are copied to another folder show no photographs", fix='photographs="none"')
    if home != folder and home.is_dir() and any(home.iterdir()) and not (home / "data" / "index.js").is_file():
        raise OutputError(f"{home} holds something other than the pages of an atlas", fix="pass another --out")
    with reading("atlas", folder):
        return _build(folder, home, photographs)


def _build(folder: Path, home: Path, photographs: PhotographMode) -> Path:
    records = Records(folder, Manifest.read(folder))
    with records.in_use() if home == folder else nullcontext():
        return _build_of(_Contents(records), folder, home, photographs)


def _build_of(contents: _Contents, folder: Path, home: Path, photographs: PhotographMode) -> Path:
    written = _write_shards(contents, PagePhotographs(folder, photographs), home)
    for left in (home / "data").glob("shard-*.js"):
        if left.name not in written:
            left.unlink()
    if home != folder:
        for index in contents.shards:
            _copy_pictures(folder, contents.records.shard_folder(index), home / "shards" / f"{index:05d}")
    return write_overview(home, contents.records.manifest, contents.layers, contents.words, photographs)


def _copy_pictures(folder: Path, shard: Path, home: Path) -> None:
    """Copy the sheet of a shard, and its pictures in at most `COPIED_SIDE` pixels; no file from outside `folder`."""
    if (shard / "sheet.webp").exists():
        with open_regular(shard / "sheet.webp", within=folder) as file:
            write_bytes(home / "sheet.webp", file.read())
    for path in sorted((shard / "images").glob("*.webp")):
        with open_regular(path, within=folder) as file:
            picture = read_picture(file, str(path))
        picture.thumbnail((COPIED_SIDE, COPIED_SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=COPIED_QUALITY, method=6)
        write_bytes(home / "images" / path.name, buffer.getvalue())


class _Contents:
    """Every unit that is finished now: columns by layer, and, in the order of shards, its place and its neighbours."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.shards = [index for index in sorted(records.indices("records")) if records.is_done(index)]
        self.words: dict[str, int] = {}
        found = {layer.name: layer for layer in planned_layers(records)}
        numbers = {name: number for number, name in enumerate(found)}
        self.layers = list(found.values())
        self.places: list[list[int]] = []
        signatures = [np.zeros((0, SIGNATURE), np.float32)]
        for index in self.shards:
            shard = read_shard(records, index)
            layer = found[shard.layer]
            first = len(layer.units)
            layer.add(shard, self.words)
            made = zip(layer.units[first:], layer.tiles[first:], strict=True)
            self.places += [[numbers[shard.layer], unit, index, tile] for unit, tile in made]
            signatures.append(read_signatures(records.shard_folder(index) / "codes.safetensors", len(shard.rows)))
        self._nearest, self._cosines = nearest(np.concatenate(signatures))

    def neighbours(self, unit: int) -> list[list[int]]:
        """[layer, unit, shard, tile, cosine in percent] of the nearest units of `unit`, counted over all shards."""
        close = zip(self._nearest[unit].tolist(), self._cosines[unit].tolist(), strict=True)
        return [[*self.places[other], round(100 * cosine)] for other, cosine in close if other >= 0]


def _write_shards(contents: _Contents, photographs: PagePhotographs, home: Path) -> set[str]:
    """Write what the page of each unit shows into `home`, a file for each shard; returns the files' names."""
    written, first = set(), 0
    for index in contents.shards:
        shard = read_shard(contents.records, index, sheet=False)
        rows = [
            unit_row(row) | {"exemplars": exemplars, "nearest": contents.neighbours(first + n)}
            for n, (row, exemplars) in enumerate(zip(shard.rows, photographs.of(shard), strict=True))
        ]
        first += len(rows)
        written.add(_write_data(home, f"shard-{index:05d}", "Shard", [index, rows]))
    photographs.finish()
    return written


def write_overview(
    folder: Path, manifest: Manifest, layers: Sequence[LayerColumns], words: Mapping[str, int], mode: PhotographMode
) -> Path:
    """Write all but the data of single units: layers, the index, style and script, and `index.html`, last."""
    written = {
        _write_data(folder, f"layer-{number:04d}", "Layer", [number, layer.columns()])
        for number, layer in enumerate(layers)
    }
    for left in (folder / "data").glob("layer-*.js"):
        if left.name not in written:
            left.unlink()
    index = describe(manifest, layers, words, mode)
    _write_data(folder, "index", "Index", [index])
    write_bytes(folder / "assets" / "atlas.css", (asset("pages.css") + asset("atlas.css", __package__)).encode())
    write_bytes(folder / "assets" / "atlas.js", script().encode())
    maps = [{"layer": path.stem.removeprefix("map-"), "file": path.name} for path in sorted(folder.glob("map-*.html"))]
    shown = {"maps": maps, "example": _example(layers), **words_of(index)}
    write_bytes(folder / INDEX, render("atlas.html", package=__package__, **shown).encode())
    return folder / INDEX


def _example(layers: Sequence[LayerColumns]) -> str:
    """A unit of the atlas, from the middle of it."""
    made = [layer for layer in layers if layer.units] or list(layers)
    layer = made[len(made) // 2]
    return f"{layer.name}:{layer.units[len(layer.units) // 2] if layer.units else 0}"


def unit_row(row: Mapping[str, Any]) -> Json:
    """Content of a unit's page, from its row; names of files that lead out of the shard's folder are left out."""
    kept = {name: row.get(name) for name in ("target", "layer", "unit", "name", "photographs", "command", "error")}
    methods = []
    for method in row.get("methods") or []:
        least = method.get("least")
        methods.append(
            dict(method)
            | {kind: [inside(name) for name in method.get(kind) or []] for kind in ("images", "in_place")}
            | {"least": {**least, "image": inside(least.get("image"))} if least else None}
        )
    return {**kept, "methods": methods}


def describe(
    manifest: Manifest, layers: Sequence[LayerColumns], words: Mapping[str, int], photographs: PhotographMode
) -> Json:
    """The index: what the overview needs before any layer is loaded."""
    content = manifest.content
    return {
        "title": f"What {content['classifier']['name']} wants to see",
        "methods": [one["name"] for one in content["generators"]],
        "evaluations": content["evaluations"],
        "identity": manifest.identity,
        "planned": manifest.neurons,
        "layers": [layer.summary() for layer in layers],
        "words": list(words),
        "photographs": {"mode": photographs, "images": (content.get("images") or {}).get("count", 0)},
    }


def words_of(index: Mapping[str, Any]) -> dict[str, str]:
    """Title, first sentence and foot of the overview."""
    made = sum(layer["count"] for layer in index["layers"])
    layers = sum(layer["count"] > 0 for layer in index["layers"])
    photographs, mode = index["photographs"]["images"], index["photographs"]["mode"]
    lead = f"{counted(made, 'unit')} of {counted(layers, 'layer')}, "
    lead += f"each as {' and as '.join(index['methods'])} shows it"
    lead += f" after {counted(index['evaluations'], 'evaluation')} of the network"
    if photographs:
        lead += f", beside the {counted(photographs, 'photograph')} that it was compared with"
    if made < index["planned"]:
        lead += f". Still to be made: {counted(index['planned'] - made, 'unit')}"
    foot = f"Atlas {index['identity'][:12]}, made with gen-prior. "
    foot += {
        "link": "It holds crops of photographs, in photographs/, for this machine only: leave that folder out of what "
        "you publish.",
        "thumbnails": "It holds small copies of photographs, in thumbnails/: publish it only if you may publish these.",
        "none": "It shows no photographs.",
    }[mode if photographs else "none"]
    return {"title": index["title"], "lead": lead + ".", "footer": foot}


def script() -> str:
    """`atlas.js`: the files of assets/ in one function, so that they share names with each other and nobody else."""
    parts = "\n".join(asset(f"{name}.js", __package__) for name in SCRIPTS)
    return asset("theme.js") + '(function () {\n"use strict";\n' + parts + "})();\n"


def _write_data(folder: Path, name: str, call: str, values: Sequence[Any]) -> str:
    """Write `data/NAME.js`, which hands `values` to the page's function `atlasCALL`; returns the file's name."""
    listed = ",".join(json.dumps(value, allow_nan=False, separators=(",", ":")) for value in values)
    safe = listed.replace("<", "\\u003c")  # so that no text in it can end a script, wherever it is put
    write_bytes(folder / "data" / f"{name}.js", f"atlas{call}({safe});\n".encode())
    return f"{name}.js"
