"""`accentuate`: an image for each target, a sheet, numbers, a film on request, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_runner import Run

from gen_prior.applications.accentuation import RECORD
from gen_prior.optimise.result import Result
from gen_prior.optimise.synthesize import synthesize


def test_accentuate_writes_all_of_it(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    common = ("accentuate", photo, "bee", "conv2:3@mean", "--layer", "conv1", "--out", tmp_path / "out", *tiny)
    done = run(*common, "--film", "webp")
    assert done.code == 0, done.err
    assert "distance at conv1" in done.out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    images = {"photograph.png", "accentuation-sheet.png", "bee.png", "bee.webp", "bee-strip.png", "conv2-3-mean.png"}
    assert images <= names
    assert {"numbers.csv", "accentuation.json", "bee.safetensors"} <= names
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.safetensors")}
    again = run(*common)
    assert (again.code, again.out) == (0, done.out)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.safetensors")} == times
    refused = run(*common, "--nearness", 3)
    assert refused.code == 2
    assert "holds an accentuation with another nearness" in refused.complaint
    replaced = run(*common, "--overwrite", "--json", "--through", "tiny")
    assert replaced.json["images"][0]["activation"] >= replaced.json["images"][0]["start_activation"]
    assert not (tmp_path / "out" / "bee.webp").exists(), "a film of the run that was replaced"


def test_a_stopped_accentuation_goes_on(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("accentuate", photo, "bee", "cup", "--layer", "conv1", "--batch", 1, *tiny)
    assert run(*common, "--out", tmp_path / "whole").code == 0
    calls: list[int] = []

    def stopped(*arguments: Any, **options: Any) -> Result:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return synthesize(*arguments, **options)

    monkeypatch.setattr("gen_prior.applications.accentuation_run.synthesize", stopped)
    done = run(*common, "--out", tmp_path / "out")
    assert done.code == 130
    assert "finished image" in done.complaint
    assert (tmp_path / "out" / "accentuation-sheet.png").is_file()
    assert [row["target"] for row in json.loads((tmp_path / "out" / RECORD).read_text())["images"]] == ["bee"]
    assert run(*common, "--out", tmp_path / "out").code == 0
    assert len(calls) == 3
    for name in ("numbers.csv", RECORD, "bee.png", "cup.safetensors", "accentuation-sheet.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_accentuate_refuses_in_one_line(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ((photo, "bee", "--layer", "conv9"), "conv2"),
        ((photo, "bees", "--layer", "conv1"), "did you mean bee"),
        ((tmp_path / "none.jpg", "bee", "--layer", "conv1"), "no such image"),
        ((photo, "bee", "--layer", "conv1", "--film", "avi"), ".gif, .webp, .mp4"),
    ):
        done = run("accentuate", *arguments, "--out", tmp_path / "out", *tiny)
        assert done.code != 0
        assert words in done.complaint
        assert not (tmp_path / "out").exists()
