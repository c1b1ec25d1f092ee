"""weights/make/average.py: between two priors, by the share that is asked for; refused where they do not fit."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from gen_prior.generators.dgn.generator import FILE
from gen_prior.hub.tensors import file_sha256, read_file_metadata, read_tensors, save_safetensors
from gen_prior.training.prior_file import NETWORKS_FILE

SCRIPT = Path(__file__).parents[2] / "weights" / "make" / "average.py"


def average(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def whole(number: int) -> dict[str, torch.Tensor]:
    return {"layouts": torch.full((2,), number, dtype=torch.int8)}


def test_weights_between_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, out = (tmp_path / name for name in ("first", "second", "out"))
    save_safetensors(
        first / FILE, {"weight": torch.zeros(3).half(), "kept": torch.ones(2), **whole(1)}, {"name": "first"}
    )
    save_safetensors(
        second / FILE, {"weight": torch.ones(3).half(), "kept": torch.ones(2), **whole(4)}, {"name": "second"}
    )
    save_safetensors(second / NETWORKS_FILE, {"weight": torch.ones(1)}, {})
    average(monkeypatch, first, second, "--share", 0.25, "--metadata", "version=2", "--out", out)
    averaged, metadata = read_tensors(out / FILE), read_file_metadata(out / FILE)
    assert torch.equal(averaged["weight"], torch.full((3,), 0.25).half())
    assert torch.equal(averaged["kept"], torch.ones(2))
    assert torch.equal(averaged["layouts"], whole(4)["layouts"]), "whole numbers have no mean"
    assert (out / NETWORKS_FILE).read_bytes() == (second / NETWORKS_FILE).read_bytes(), "what a training goes on from"
    assert (metadata["name"], metadata["version"]) == ("second", "2")
    record = json.loads(metadata["averaging"])
    assert record == {"share": 0.25, "sha256": [file_sha256(first / FILE), file_sha256(second / FILE)]}
    average(monkeypatch, first, out, "--share", 0.5, "--out", tmp_path / "again")
    again = read_file_metadata(tmp_path / "again" / FILE)
    assert again["averaging"] == metadata["averaging"]
    assert json.loads(again["averaging_2"])["share"] == 0.5


def test_other_shapes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    save_safetensors(first / FILE, {"weight": torch.zeros(3)}, {})
    save_safetensors(second / FILE, {"weight": torch.zeros(4)}, {})
    with pytest.raises(SystemExit):
        average(monkeypatch, first, second, "--out", tmp_path / "out")
    assert "different shapes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
