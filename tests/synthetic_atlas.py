"""A small atlas in the format of the real ones, with drawn pictures, for tests of its pages; or one of any size."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save

from gen_prior.atlas.manifest import FORMAT, Manifest, Shard
from gen_prior.atlas.page_data import ShardRows, planned_layers
from gen_prior.atlas.pages import write_overview
from gen_prior.atlas.records import Records

Floats = NDArray[np.float64]
CLASSES = ("goldfish", "tabby", "golden retriever", "monarch", "cheeseburger", "school bus", "volcano", "broccoli")
LAYERS = {"blocks.1": "0-19", "blocks.10": "0-69", "logits": "0-11"}
SIDE, TILE, COLUMNS = 64, 96, 8
DESIGNS = 48


def write_atlas(
    folder: Path,
    layers: Mapping[str, str] = LAYERS,
    *,
    generators: Sequence[str] = ("dgn-lite0", "fourier"),
    seeds: Sequence[int] = (0, 1),
    unfinished: Sequence[int] = (),
    failed_units: Sequence[str] = (),
    labels: Sequence[str] = CLASSES,
    pictures: bool = True,
    photographs: int = 200,
) -> Path:
    """Write an atlas without pages into `folder`: `layers` by name with their units, `unfinished` shards left out.

    Without `pictures`, the rows name pictures as ever, but only the sheets of thumbnails are written.
    """
    chosen = [{"name": name, "chosen": units} for name, units in layers.items()]
    manifest = Manifest(manifest_content(chosen, generators, seeds, photographs))
    manifest.write(folder)
    records = Records(folder, manifest)
    for index in range(manifest.shards):
        if index not in unfinished:
            Maker(records, manifest.shard(index), labels, failed_units, pictures).write()
    return folder


def write_large_overview(folder: Path, layers: int, units: int) -> int:
    """Write the overview of an atlas of `layers` x `units` made-up units, whose own pages and pictures are missing.

    Sheets of thumbnails are there, eight different ones under many names. Returns the bytes of all but the sheets.
    """
    chosen = [{"name": f"blocks.{n}.conv", "chosen": f"0-{units - 1}"} for n in range(layers)]
    manifest = Manifest(manifest_content(chosen, ["dgn-lite0"], [0], 1000))
    records = Records(folder, manifest)
    columns, words = planned_layers(records), dict[str, int]()
    by_name = {layer.name: layer for layer in columns}
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(8):
        (folder / f"sheet-{number}.webp").write_bytes(ready_sheet(number))
    for index in range(manifest.shards):
        shard = manifest.shard(index)
        maker = Maker(records, shard, CLASSES, (), pictures=False)
        rows = [maker.row(unit, tile) for tile, unit in enumerate(shard.units)]
        colours = [f"{unit % 4096:03x}" for unit in shard.units]
        by_name[shard.layer].add(ShardRows(index, shard.layer, rows, (8, 8), colours), words)
        home = records.shard_folder(index)
        home.mkdir(parents=True)
        (home / "sheet.webp").hardlink_to(folder / f"sheet-{index % 8}.webp")
    write_overview(folder, manifest, columns, words, "none")
    return sum(path.stat().st_size for path in [*(folder / "data").iterdir(), *(folder / "assets").iterdir()])


def manifest_content(
    layers: Sequence[Mapping[str, str]], generators: Sequence[str], seeds: Sequence[int], photographs: int
) -> dict[str, Any]:
    """What the pages read of a manifest."""
    return {
        "format": FORMAT,
        "classifier": {"name": "synthetic-net"},
        "layers": list(layers),
        "generators": [{"name": name} for name in generators],
        "seeds": list(seeds),
        "evaluations": 64,
        "shard_size": 64,
        "images": {"count": photographs} if photographs else None,
    }


class Maker:
    """Writes one shard: its rows, sheet, pictures, signatures, and the photographs of its units."""

    def __init__(
        self, records: Records, shard: Shard, labels: Sequence[str], failed: Sequence[str], pictures: bool
    ) -> None:
        self.records, self.shard, self.labels, self.failed, self.pictures = records, shard, labels, failed, pictures
        self.content = records.manifest.content
        self.random = np.random.default_rng(shard.index)
        self.files: dict[str, bytes] = {}

    def write(self) -> None:
        """Write all files, then the record."""
        rows = [self.row(unit, tile) for tile, unit in enumerate(self.shard.units)]
        values = {"index": self.shard.index, "layer": self.shard.layer, "neurons": rows}
        signatures = np.stack([self.signature(unit) for unit in self.shard.units]).astype(np.float16)
        self.files |= {
            "shard.json": json.dumps(values).encode(),
            "codes.safetensors": save({"signature": signatures}),
            "sheet.webp": self.sheet(),
        }
        folder = self.records.shard_folder(self.shard.index)
        (folder / "images").mkdir(parents=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        if self.content["images"]:
            self.write_photographs(rows)
        self.records.write(
            self.shard.index, {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}, 1.5
        )

    def row(self, unit: int, tile: int) -> dict[str, Any]:
        """The row of a unit; every 17th is dead, every 23rd dense."""
        target = f"{self.shard.layer}:{unit}"
        prior = self.content["generators"][0]["name"]
        row: dict[str, Any] = {
            "target": target,
            "layer": self.shard.layer,
            "unit": unit,
            "name": self.labels[unit % len(self.labels)] if self.shard.layer == "logits" else None,
            "tile": tile,
            "photographs": None,
            "exemplars": [],
            "command": f"gen-prior synth {target} --classifier synthetic-net --generator {prior} --seed 0 --steps 63",
        }
        if target in self.failed:
            return row | {"error": "the optimisation diverged"}
        if self.content["images"]:
            dead, dense = unit % 17 == 16, unit % 23 == 22
            active = 0.0 if dead else 1.0 if dense else float(self.random.beta(2, 3))
            best = 0.0 if dead else float(self.random.uniform(1, 9))
            row["photographs"] = {
                "best": best, "median": best / 4, "images": self.content["images"]["count"], "active": active,
                "dead": dead, "dense": dense,
            }  # fmt: skip
            row["exemplars"] = [] if dead else [self.exemplar(unit, n, best) for n in range(8)]
        return row | {"methods": [self.method(row, m) for m in range(len(self.content["generators"]))]}

    def exemplar(self, unit: int, n: int, best: float) -> dict[str, Any]:
        """One of the photographs of a unit."""
        label = self.labels[(unit + n * n) % len(self.labels)]
        return {"file": f"some/photo-{unit}-{n}.jpg", "activation": best * 0.93**n, "position": [3, 4], "label": label}

    def method(self, row: Mapping[str, Any], m: int) -> dict[str, Any]:
        """The pictures and numbers of one generator."""
        name, unit, seeds = self.content["generators"][m]["name"], row["unit"], self.content["seeds"]
        photographs = row["photographs"]
        best = float(self.random.uniform(3, 12)) * (0.8 if m else 1)
        ratio = best / photographs["best"] if photographs and photographs["best"] else None
        stem = f"images/{unit}-{name}"
        found = {
            "generator": name,
            "evaluations": self.content["evaluations"],
            "seeds": seeds,
            "activations": [best * 0.9**n for n in range(len(seeds))],
            "quantile": None if ratio is None else min(1.0, ratio),
            "ratio": ratio,
            "path": float(self.random.normal(0.6, 0.3)) if photographs else None,
            "two_alternatives": float(self.random.uniform(0.45, 0.95)) if photographs else None,
            "judge": {"top1": float(unit % 3 > 0), "label": row["name"]} if row["name"] else None,
            "images": [f"{stem}-{seed}.webp" for seed in seeds],
            "in_place": [f"{stem}-{seed}-in-place.webp" for seed in seeds],
            "least": {"activation": -best / 3, "image": f"{stem}-least.webp"},
        }
        if self.pictures:
            for seed, path, placed in zip(seeds, found["images"], found["in_place"], strict=True):
                self.files[path] = picture_file(self.design(unit), seed + 10 * m, "plain")
                self.files[placed] = picture_file(self.design(unit), seed + 10 * m, "in place")
            self.files[found["least"]["image"]] = picture_file(self.design(unit), 0, "least")
        return found

    def design(self, unit: int) -> int:
        """The number of a unit's design, one of `DESIGNS`."""
        return int.from_bytes(hashlib.sha256(f"{self.shard.layer}:{unit}".encode()).digest()[:4], "big") % DESIGNS

    def sheet(self) -> bytes:
        """The thumbnails; without pictures, one of eight sheets for all shards."""
        if not self.pictures:
            return ready_sheet(self.shard.index % 8)
        return sheet_of([drawn(self.design(unit), 0, TILE) for unit in self.shard.units])

    def signature(self, unit: int) -> Floats:
        """Units of the same remainder by 12 are alike."""
        alike = np.random.default_rng(unit % 12).normal(size=64)
        return alike + 0.5 * self.random.normal(size=64)

    def write_photographs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The exemplars of the shard, with patches if pictures are drawn."""
        root, found = self.records.folder / "photographs", {}
        for row in rows:
            most = []
            for n, one in enumerate(row["exemplars"]):
                patch = f"photographs/patches/{self.shard.index}-{row['unit']}-{n}.webp" if self.pictures else None
                if patch:
                    path = self.records.folder / patch
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(picture_file(self.design(row["unit"]), n, "patch"))
                most.append(one | {"patch": patch})
            found[row["target"]] = {"most": most, "least": [], "active": 0.4}
        (root / "exemplars").mkdir(parents=True, exist_ok=True)
        (root / "exemplars" / f"{self.shard.index:05d}.json").write_text(json.dumps(found), encoding="utf-8")


@cache
def picture_file(design: int, variant: int, kind: str) -> bytes:
    """A picture as a WebP file: "plain", "in place" (small, in the middle of grey), "least" or "patch"."""
    picture = drawn(design, variant)
    if kind == "in place":
        whole = np.full((SIDE, SIDE, 3), 0.5)
        whole[SIDE // 4 : SIDE // 4 * 3, SIDE // 4 : SIDE // 4 * 3] = picture[::2, ::2]
        return webp(whole)
    return webp({"plain": picture, "least": 1 - picture, "patch": picture**0.6}[kind])


@cache
def drawn(design: int, variant: int, side: int = SIDE) -> Floats:
    """A picture `[side, side, 3]` in [0, 1] of coloured waves and a blob; variants of a design are alike."""
    base, own = np.random.default_rng(design), np.random.default_rng((design, variant))
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    angle, pitch = base.uniform(0, np.pi) + own.normal(0, 0.15), base.uniform(2, 12)
    colours = base.uniform(0, 1, (2, 3))
    bend = base.uniform(0, 3) * np.sin(2 * y + own.uniform(0, 6))
    wave = 0.5 + 0.5 * np.sin(pitch * (x * np.cos(angle) + y * np.sin(angle)) + bend + own.uniform(0, 6))
    blob = np.exp(-3 * ((x - own.normal(0, 0.2)) ** 2 + (y - own.normal(0, 0.2)) ** 2))
    mixed = wave[..., None] * colours[0] + (1 - wave[..., None]) * colours[1]
    return np.clip(0.5 + (mixed - 0.5) * (0.35 + blob[..., None]), 0, 1)


def sheet_of(pictures: Sequence[Floats]) -> bytes:
    """The file of a shard's thumbnails."""
    whole = np.full((-(-len(pictures) // COLUMNS) * TILE, COLUMNS * TILE, 3), 0.5)
    for n, picture in enumerate(pictures):
        y, x = n // COLUMNS * TILE, n % COLUMNS * TILE
        whole[y : y + TILE, x : x + TILE] = picture
    return webp(whole, 80)


@cache
def ready_sheet(number: int) -> bytes:
    """A full sheet of made-up units."""
    return sheet_of([drawn((64 * number + unit) % DESIGNS, 0, TILE) for unit in range(64)])


def webp(picture: Floats, quality: int = 85) -> bytes:
    """A picture in [0, 1] as a WebP file."""
    buffer = io.BytesIO()
    Image.fromarray((picture * 255).round().astype(np.uint8)).save(buffer, "WEBP", quality=quality, method=0)
    return buffer.getvalue()
