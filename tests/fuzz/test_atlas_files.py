"""Files of an atlas: manifest, records, shards, neurons that are being made, the pages made of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzz.mutations import LONG, as_text, damaged, damaged_header, damaged_json, fuzz
from synthetic_atlas import write_atlas

import gen_prior as gp
from gen_prior.atlas.hub_export import export_numbers
from gen_prior.atlas.reader import load_atlas
from gen_prior.atlas.shards import NeuronRecord
from gen_prior.errors import GenPriorError

COUNTS = pytest.mark.parametrize("count", [10, pytest.param(150, marks=LONG)])
SLOW_COUNTS = pytest.mark.parametrize("count", [3, pytest.param(30, marks=LONG)])


@pytest.fixture
def atlas(tmp_path: Path) -> Path:
    return write_atlas(tmp_path / "atlas", {"logits": "0-2"}, generators=["fourier"], seeds=[0], photographs=5)


def read(folder: Path) -> None:
    """All that a reader of an atlas asks for."""
    with contextlib.suppress(GenPriorError):
        made = load_atlas(folder)
        for ask in (made.status, made.verify, made.table, lambda: made["logits:1"], lambda: made.image("logits:1")):
            with contextlib.suppress(GenPriorError):
                ask()
        with contextlib.suppress(GenPriorError):
            export_numbers(folder, folder.parent / "numbers.csv")


@COUNTS
@pytest.mark.parametrize("file", ["manifest.json", "records/00000.json", "failed/00000.json"])
def test_records(count: int, file: str, atlas: Path) -> None:
    if file.startswith("failed"):
        (atlas / "failed").mkdir()
        (atlas / file).write_text(json.dumps({"attempts": 1, "finished": 0, "reasons": ["x"]}))
    valid = json.loads((atlas / file).read_text())

    def check(record: Any) -> None:
        (atlas / file).write_text(as_text(record), encoding="utf-8", errors="surrogatepass")
        read(atlas)

    known = []
    if file == "manifest.json":
        layer = valid["layers"][0]
        known = [valid | {"layers": [layer | {"chosen": "0-99999999999999"}]}, valid | {"shard_size": 10**400}]
    fuzz(count, damaged_json(valid), check, known)


@SLOW_COUNTS
def test_shards(count: int, atlas: Path) -> None:
    path, record = atlas / "shards" / "00000" / "shard.json", atlas / "records" / "00000.json"
    valid, known = json.loads(path.read_text()), json.loads(record.read_text())

    def check(shard: Any) -> None:
        data = as_text(shard).encode(errors="surrogatepass")
        path.write_bytes(data)
        known["files"]["shard.json"], known["sizes"]["shard.json"] = hashlib.sha256(data).hexdigest(), len(data)
        record.write_text(json.dumps(known))
        read(atlas)
        with contextlib.suppress(GenPriorError):
            gp.build_pages(atlas, out=atlas.parent / "pages")
        shutil.rmtree(atlas.parent / "pages", ignore_errors=True)
        outside = [p for p in atlas.parent.rglob("*") if not p.is_relative_to(atlas) and p.name != "numbers.csv"]
        assert [p.name for p in outside if p.name not in ("numbers.parquet",)] == []

    fuzz(count * 3, damaged_json(valid), check)


@COUNTS
def test_neurons_that_are_made(count: int, tmp_path: Path) -> None:
    path = tmp_path / "3.safetensors"
    made = NeuronRecord({"target": "logits:3", "methods": []}, {"a.webp": b"abc"}, {"fourier": torch.ones(4)})
    made.save(path, "x" * 64)
    valid = path.read_bytes()

    def check(data: bytes) -> None:
        path.write_bytes(data)
        found = NeuronRecord.load(path, "x" * 64)
        assert found is None or isinstance(found.row, dict)

    fuzz(count, damaged(valid), check, [valid.replace(b"signature", b"signaturf")])
    fuzz(count, damaged_header(valid), check)


def test_pages_clear_what_killed_writers_left(atlas: Path) -> None:
    gp.build_pages(atlas)
    left = [atlas / name for name in ("data/.shard-00000.js.abc.part", "assets/.atlas.css.abc.part")]
    for path in left:
        path.touch()
    gp.build_pages(atlas)
    assert not any(path.exists() for path in left)


def test_pages_take_no_file_from_outside_along(atlas: Path, tmp_path: Path) -> None:
    secret, sheet = tmp_path / "secret.webp", atlas / "shards" / "00000" / "sheet.webp"
    secret.write_bytes(sheet.read_bytes())
    sheet.unlink()
    sheet.symlink_to(secret)
    with pytest.raises(GenPriorError, match="lies outside"):
        gp.build_pages(atlas, "none", out=tmp_path / "site")
    assert not (tmp_path / "site" / "shards" / "00000" / "sheet.webp").exists()
