"""`gen-prior atlas` beside the sweep: pages, tables, clusters, the activation atlas of a layer."""

from __future__ import annotations

from pathlib import Path

from command_runner import Run


def test_an_activation_atlas(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    words = (
        "atlas", "tiny", "--activation-atlas", "conv2", "--images", photo.parent, "--out", tmp_path / "out", "--layout",
        "pca", "--points", "1", "--positions", "3", "--steps", "2", "--generators", "tiny", "--device", "cpu",
    )  # fmt: skip
    page = tmp_path / "out" / "map-conv2.html"
    first = run(*words, "--grid", "1")
    assert first.code == 0, first.err
    assert first.out == f"1 cell of 3 points in {page}\n"
    assert page.is_file()
    assert run(*words, "--grid", "1", "--json").json == {"page": str(page), "cells": 1, "points": 3}
    other = run(*words, "--grid", "2")
    assert other.code == 2
    assert "holds a map of conv2 with another grid" in other.complaint
    assert run(*words, "--grid", "2", "--overwrite", "-q").code == 0


def test_what_an_activation_atlas_needs(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run("atlas", "tiny", "--activation-atlas", "conv2", "--out", tmp_path)
    assert done.code == 2
    assert "needs a folder of photographs" in done.complaint


def test_numbers_and_a_dataset_of_an_atlas(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    out, file = tmp_path / "atlas", tmp_path / "numbers.csv"
    made = run(
        "atlas", "tiny", "--layers", "conv2", "--units", "0-1", "-g", "tiny", "--steps", 2, "--out", out, "--device",
        "cpu", "--workers", 1, "-q",
    )  # fmt: skip
    assert made.code == 0, made.err
    assert run("atlas", "--export", out, file).out == f"2 rows in {file}\n"
    assert run("atlas", "--export", out, file, "--json").json == {"file": str(file), "rows": 2}
    listed = run("export", out, "--to", tmp_path / "hub", "--json").json
    assert listed["files"] == ["README.md", "atlas.json", "data/train-00000-of-00001.parquet"]
    assert run("export", out).code == 2
    assert "one folder" in run("export", out, tmp_path / "a", "--to", tmp_path / "b").complaint


def test_pages_with_and_without_photographs(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    out, site = tmp_path / "atlas", tmp_path / "site"
    made = run(
        "atlas", "tiny", "--layers", "conv2", "--units", "0-1", "-g", "tiny", "--steps", 2, "--out", out, "--device",
        "cpu", "--workers", 1, "--images", photo.parent, "--photographs", "none",
    )  # fmt: skip
    assert made.code == 0, made.err
    assert f"pages: {out / 'index.html'}" in made.err
    data = out / "data" / "shard-00000.js"
    assert "photo.png" not in data.read_text()
    assert run("atlas", "--pages", out).out == f"{out / 'index.html'}\n"
    assert "photographs/patches/" in data.read_text()
    assert run("atlas", "--pages", out, "--photographs", "thumbnails").code == 0
    assert list((out / "thumbnails").glob("*.webp"))
    assert run("atlas", "--pages", out, "--out", site).out == f"{site / 'index.html'}\n"
    assert sorted(path.name for path in site.iterdir()) == ["assets", "data", "index.html", "shards"]
    assert not any(b"photo.png" in path.read_bytes() for path in site.rglob("*") if path.is_file())
    refused = run("atlas", "--pages", out, "--out", site, "--photographs", "thumbnails")
    assert "show no photographs" in refused.complaint
    assert "link, thumbnails, none" in run("atlas", "--pages", out, "--photographs", "all").complaint
    assert "something other than the pages" in run("atlas", "--pages", out, "--out", photo.parent).complaint


def test_a_cluster_file_that_is_missing(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run("atlas", "tiny", "--out", tmp_path / "out", "--executor", tmp_path / "cluster.py")
    assert done.code == 2
    assert "no such file" in done.complaint
