"""The pages of an atlas as files: what they hold, what they leave out, and what they do with bad names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from synthetic_atlas import CLASSES, write_atlas

from gen_prior.atlas.manifest import Manifest, numbers
from gen_prior.atlas.neighbours import NEAREST, nearest
from gen_prior.atlas.page_data import inside, quartiles
from gen_prior.atlas.pages import build_pages
from gen_prior.atlas.records import Records
from gen_prior.errors import OptionError, OutputError

SMALL = {"conv1": "0-9", "conv2": "0,3,7"}


def values_in(path: Path) -> list[Any]:
    """What a data file hands to the page."""
    text = path.read_text(encoding="utf-8").strip()
    assert text.startswith("atlas")
    assert text.endswith(");")
    return list(json.loads("[" + text[text.index("(") + 1 : -2] + "]"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An atlas of two layers, ten and three units, with photographs, without pages."""
    return write_atlas(tmp_path / "atlas", SMALL)


def test_index_counts_the_units_of_each_layer(folder: Path) -> None:
    assert build_pages(folder) == folder / "index.html"
    (index,) = values_in(folder / "data" / "index.js")
    assert [(layer["name"], layer["count"], layer["planned"]) for layer in index["layers"]] == [
        ("conv1", 10, 10),
        ("conv2", 3, 3),
    ]
    assert index["words"] == [name for name in index["words"] if name in CLASSES]
    assert "13 units of 2 layers" in (folder / "index.html").read_text(encoding="utf-8")


def test_the_search_names_a_unit_of_this_atlas(folder: Path) -> None:
    page = build_pages(folder).read_text(encoding="utf-8")
    layer, unit = page.split('placeholder="Search: ')[1].split(",")[0].rsplit(":", 1)
    manifest = Manifest.read(folder)
    chosen = {one["name"]: one["chosen"] for one in manifest.content["layers"]}
    assert int(unit) in numbers(chosen[layer])


def test_columns_are_those_of_the_rows(folder: Path) -> None:
    build_pages(folder)
    number, columns = values_in(folder / "data" / "layer-0001.js")
    rows = json.loads((folder / "shards" / "00001" / "shard.json").read_text(encoding="utf-8"))["neurons"]
    assert number == 1
    assert columns["units"] == [0, 3, 7]
    assert columns["ratio"] == [round(100 * row["methods"][0]["ratio"]) for row in rows]
    assert len(columns["colours"]) == 9
    assert "names" not in columns
    (index,) = values_in(folder / "data" / "index.js")
    median = sorted(row["methods"][0]["path"] for row in rows)[1]
    assert index["layers"][1]["path"][1] == pytest.approx(median, rel=1e-3)


def test_a_unit_has_its_row_and_its_neighbours(folder: Path) -> None:
    build_pages(folder)
    number, rows = values_in(folder / "data" / "shard-00000.js")
    assert number == 0
    assert [row["unit"] for row in rows] == list(range(10))
    assert rows[4]["methods"][1]["images"] == ["images/4-fourier-0.webp", "images/4-fourier-1.webp"]
    assert rows[4]["command"].startswith("gen-prior synth conv1:4 ")
    assert len(rows[4]["nearest"]) == NEAREST
    cosines = [one[4] for one in rows[4]["nearest"]]
    assert cosines == sorted(cosines, reverse=True)
    assert [0, 4, 0, 4] not in [one[:4] for one in rows[4]["nearest"]]


def test_what_is_not_made_or_failed_is_said(tmp_path: Path) -> None:
    folder = write_atlas(tmp_path, {"conv1": "0-99", "conv2": "0-3"}, unfinished=[1], failed_units=["conv1:5"])
    records = Records(folder, Manifest.read(folder))
    while not records.fail(1, "no memory left"):
        pass
    build_pages(folder)
    (index,) = values_in(folder / "data" / "index.js")
    first = index["layers"][0]
    assert (first["count"], first["planned"], first["failed"]) == (64, 100, 1)
    assert first["set_aside"] == ["no memory left"]
    _, rows = values_in(folder / "data" / "shard-00000.js")
    assert rows[5]["error"] == "the optimisation diverged"
    assert rows[5]["methods"] == []


def test_an_atlas_without_photographs(tmp_path: Path) -> None:
    build_pages(write_atlas(tmp_path, {"conv1": "0-3"}, photographs=0))
    _, columns = values_in(tmp_path / "data" / "layer-0000.js")
    assert not {"ratio", "quantile", "path", "labels"} & columns.keys()
    assert "It shows no photographs." in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_an_atlas_of_which_nothing_is_finished(tmp_path: Path) -> None:
    build_pages(write_atlas(tmp_path, {"conv1": "0-3"}, unfinished=[0]))
    assert "0 units of 0 layers" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_photographs_are_linked_copied_small_or_left_out(folder: Path) -> None:
    build_pages(folder)
    photograph = values_in(folder / "data" / "shard-00000.js")[1][2]["exemplars"][0]
    assert photograph["image"].startswith("photographs/patches/")
    assert (folder / photograph["image"]).is_file()
    assert photograph["file"] == "photo-2-0.jpg"  # without the folder it was in
    build_pages(folder, "thumbnails")
    photograph = values_in(folder / "data" / "shard-00000.js")[1][2]["exemplars"][0]
    with Image.open(folder / photograph["image"]) as copy:
        assert max(copy.size) <= 96
    build_pages(folder, "none")
    assert not (folder / "thumbnails").exists()
    photograph = values_in(folder / "data" / "shard-00000.js")[1][2]["exemplars"][0]
    assert sorted(photograph) == ["activation", "label"]
    assert "photo-" not in "".join(path.read_text(encoding="utf-8") for path in (folder / "data").iterdir())


def test_pages_that_are_built_again_hold_nothing_of_before(folder: Path) -> None:
    build_pages(folder)
    (folder / "records" / "00001.json").unlink()
    (folder / "data" / "layer-0009.js").write_text("", encoding="utf-8")
    build_pages(folder)
    names = sorted(path.name for path in (folder / "data").iterdir())
    assert names == ["index.js", "layer-0000.js", "layer-0001.js", "shard-00000.js"]


def test_pages_of_a_site_have_small_pictures_and_nothing_else_of_the_atlas(folder: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    for _ in range(2):  # the second time over the first
        assert build_pages(folder, "none", out=site) == site / "index.html"
    names = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    shown = {path.relative_to(folder).as_posix() for path in folder.glob("shards/*/images/*.webp")}
    assert {name for name in names if "/images/" in name} == shown
    assert {name.partition("/")[0] for name in names} == {"index.html", "assets", "data", "shards"}
    assert not any(name.endswith((".json", ".safetensors")) for name in names)
    (index,) = values_in(site / "data" / "index.js")
    assert index["photographs"]["mode"] == "none"
    with pytest.raises(OptionError, match="show no photographs"):
        build_pages(folder, "thumbnails", out=site)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine")
    with pytest.raises(OutputError, match="something other"):
        build_pages(folder, "none", out=tmp_path / "mine")


def test_hostile_names_end_no_script(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    build_pages(write_atlas(tmp_path, {evil: "0-3"}, labels=[evil]))
    for path in [tmp_path / "index.html", *(tmp_path / "data").iterdir()]:
        assert "<script>alert" not in path.read_text(encoding="utf-8"), path
    (index,) = values_in(tmp_path / "data" / "index.js")
    assert index["layers"][0]["name"] == evil


@pytest.mark.parametrize("name", ["../secret.webp", "/etc/secret.webp", "images/../../secret.webp", "", None, 3])
def test_pictures_outside_their_folder_are_left_out(name: object) -> None:
    assert inside(name) is None


def test_links_into_the_folder_are_kept() -> None:
    assert inside("images/4-a..b-0.webp") == "images/4-a..b-0.webp"


def test_refusals(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="link, thumbnails, none"):
        build_pages(folder, "all")  # type: ignore[arg-type]
    with pytest.raises(OutputError, match=r"no atlas.*manifest\.json is missing"):
        build_pages(tmp_path / "elsewhere")


def test_nearest_are_the_most_alike_and_rows_of_zeros_are_nobodys() -> None:
    rows = np.zeros((700, 8), np.float32)  # more than are compared at once
    rows[:600] = np.random.default_rng(0).normal(size=(600, 8))
    rows[500] = 3 * rows[2]
    indices, cosines = nearest(rows, 3)
    assert indices[2, 0] == 500
    assert cosines[2, 0] == pytest.approx(1)
    unit = rows[:600] / np.linalg.norm(rows[:600], axis=1, keepdims=True)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -2)
    assert (indices[:600] == np.argsort(-similar, axis=1)[:, :3]).all()
    assert (indices[600:] == -1).all()
    assert nearest(rows[:2])[0].tolist() == [[1] + 7 * [-1], [0] + 7 * [-1]]


def test_quartiles_of_nothing() -> None:
    assert quartiles([None, None]) is None
    assert quartiles([3.0, None, 1.0, 2.0]) == [1.5, 2.0, 2.5]
