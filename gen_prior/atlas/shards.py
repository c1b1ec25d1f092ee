"""The folder of a shard: finished neurons while it is made, then one published folder.

While a shard is made, each finished neuron is one file, written atomically. Once all are there, the published folder is
written beside them, renamed into place, and recorded; the files of the neurons are deleted last. So a process may be
killed at any moment, and no finished neuron is lost.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from gen_prior.atlas.manifest import Shard
from gen_prior.atlas.records import Records
from gen_prior.errors import OutputError, WeightsError
from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors
from gen_prior.util.files import as_output_errors
from gen_prior.util.image_io import to_pil
from gen_prior.util.reading import BAD_FILE, read_regular, reading

THUMBNAIL, COLUMNS = 96, 8
"""Side in pixels of a picture in `sheet.webp`, and pictures in a row."""
SIGNATURE = 64
"""Length of a picture's feature vector, by which similar units are found."""
QUALITY = 90
"""Quality of WebP pictures, at most 100."""
MAX_BYTES = 2**28
"""Most bytes that are read of `shard.json`."""
EMPTY = (128, 128, 128)
"""Colour of the thumbnail of a neuron without a picture."""


@dataclass
class NeuronRecord:
    """A finished neuron: its row, its pictures as files, its codes and the signature of its best picture `[64]`."""

    row: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    codes: dict[str, Tensor] = field(default_factory=dict)
    signature: Tensor = field(default_factory=lambda: torch.zeros(SIGNATURE, dtype=torch.float16))

    def save(self, path: Path, atlas: str) -> None:
        """Write the neuron as one file, atomically. Raises `OutputError`."""
        tensors = {f"code/{name}": code for name, code in self.codes.items()} | {"signature": self.signature}
        tensors |= {
            f"file/{name}": torch.from_numpy(np.frombuffer(data, np.uint8).copy()) for name, data in self.files.items()
        }
        with as_output_errors(path):
            row = json.dumps(self.row, ensure_ascii=False, allow_nan=False)
            save_safetensors(path, tensors, {"row": row, "atlas": atlas})

    @classmethod
    def load(cls, path: Path, atlas: str) -> NeuronRecord | None:
        """The neuron in a file; None where there is none, or one that is damaged or of another atlas."""
        if not path.is_file():
            return None
        try:
            metadata = read_file_metadata(path)
            if metadata["atlas"] != atlas:
                return None
            tensors, row = read_tensors(path), dict(json.loads(metadata["row"]))
            signature = tensors["signature"]
        except (WeightsError, *BAD_FILE):
            return None
        codes = {name.removeprefix("code/"): one for name, one in tensors.items() if name.startswith("code/")}
        files = {
            name.removeprefix("file/"): one.numpy().tobytes()
            for name, one in tensors.items()
            if name.startswith("file/")
        }
        return cls(row, files, codes, signature)


def neuron_file(records: Records, shard: Shard, unit: int) -> Path:
    """The file of a finished neuron while its shard is made."""
    return records.partial(shard.index) / f"{unit}.safetensors"


def finished_units(records: Records, shard: Shard) -> set[int]:
    """Units of a shard whose files are whole."""
    files = {unit: neuron_file(records, shard, unit) for unit in shard.units}
    return {unit for unit, file in files.items() if NeuronRecord.load(file, records.manifest.identity) is not None}


def publish(records: Records, shard: Shard, seconds: float) -> None:
    """Turn the finished neurons of a shard into its published folder, and record it. Raises `OutputError`."""
    made, final = records.folder / "shards" / f".{shard.name}.new", records.shard_folder(shard.index)
    with as_output_errors(final):
        shutil.rmtree(made, ignore_errors=True)
        hashes = _write(made, records, shard)
        shutil.rmtree(final, ignore_errors=True)  # one without a record: of a process that was killed here
        made.rename(final)
        _sync_names(final.parent)
    records.write(shard.index, hashes, seconds)
    clear_partial(records, shard.index)


def clear_partial(records: Records, index: int) -> None:
    """Delete what is left of the making of a finished shard."""
    shutil.rmtree(records.partial(index), ignore_errors=True)


def _write(folder: Path, records: Records, shard: Shard) -> dict[str, str]:
    """Write the files of a shard into a new folder; their SHA-256 by name."""
    (folder / "images").mkdir(parents=True)
    rows, codes, signatures, thumbnails = [], dict[str, Tensor](), [], []
    hashes: dict[str, str] = {}
    for tile, unit in enumerate(shard.units):
        neuron = NeuronRecord.load(neuron_file(records, shard, unit), records.manifest.identity)
        if neuron is None:
            raise OutputError(f"the file of neuron {shard.layer}:{unit} is missing, damaged, or of another atlas")
        rows.append(neuron.row | {"tile": tile})
        codes |= {f"{unit}/{name}": code for name, code in neuron.codes.items()}
        signatures.append(neuron.signature)
        thumbnails.append(_thumbnail(neuron))
        for name, data in neuron.files.items():
            hashes[name] = _write_file(folder / name, data)
    text = json.dumps(
        {"index": shard.index, "layer": shard.layer, "neurons": rows}, ensure_ascii=False, allow_nan=False
    )
    hashes["shard.json"] = _write_file(folder / "shard.json", (text + "\n").encode(errors="backslashreplace"))
    hashes["codes.safetensors"] = _write_file(
        folder / "codes.safetensors", save(codes | {"signature": torch.stack(signatures)})
    )
    hashes["sheet.webp"] = _write_file(folder / "sheet.webp", webp(_sheet(thumbnails), quality=80))
    for name in hashes:  # fsync after all writes: the first sync flushes most of the rest, which is faster
        _sync(folder / name)
    for each in (folder / "images", folder):
        _sync_names(each)
    return hashes


def _write_file(path: Path, data: bytes) -> str:
    """Write a file of a folder that nobody reads yet; returns the SHA-256."""
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _sync(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk. Raises `OSError`."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_names(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can."""
    with suppress(OSError):
        _sync(folder)


def _thumbnail(neuron: NeuronRecord) -> Image.Image:
    """The best picture of the first generator, small."""
    name = neuron.row.get("thumbnail")
    if name not in neuron.files:
        return Image.new("RGB", (THUMBNAIL, THUMBNAIL), EMPTY)
    with Image.open(io.BytesIO(neuron.files[name]), formats=("WEBP",)) as picture:
        return picture.convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)


def _sheet(thumbnails: list[Image.Image]) -> Image.Image:
    rows = -(-len(thumbnails) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * THUMBNAIL, rows * THUMBNAIL), EMPTY)
    for tile, picture in enumerate(thumbnails):
        sheet.paste(picture, (tile % COLUMNS * THUMBNAIL, tile // COLUMNS * THUMBNAIL))
    return sheet


def webp(image: Tensor | Image.Image, quality: int = QUALITY) -> bytes:
    """An image `[3, H, W]` in [0, 1], or a picture, as a WebP file."""
    buffer = io.BytesIO()
    (to_pil(image) if isinstance(image, Tensor) else image).save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def read_rows(records: Records, index: int, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a finished shard, checked against its record. Raises `OutputError` for a damaged one."""
    path = records.shard_folder(index) / "shard.json"
    with reading("shard", path.parent):
        data = read_regular(path, limit=MAX_BYTES)
        if hashlib.sha256(data).hexdigest() != record["files"]["shard.json"]:
            raise OutputError(
                f"{path} is damaged: its SHA-256 is not the recorded one",
                fix="make it again: gen-prior atlas --verify DIR, then the command that made the atlas",
            )
        rows: list[dict[str, Any]] = json.loads(data)["neurons"]
    return rows
