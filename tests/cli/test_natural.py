"""`natural`: a table of what photographs reach."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from command_runner import Run

from gen_prior.objectives.natural_statistics import NaturalStatistics
from gen_prior.util.image_io import write_png


def test_natural_makes_a_table_and_removes_its_state(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path
) -> None:
    options = ("--images", photo.parent, "--out", tmp_path / "made" / "table.safetensors", "--device", "cpu")
    done = run("natural", "tiny", "--layers", "conv*", "--source", "noise", "--json", *options)
    assert done.code == 0, done.err
    assert json.loads(done.out)["units"] == 8 + 12
    table = NaturalStatistics.load(tmp_path / "made" / "table.safetensors")
    assert table.metadata["source"] == "noise"
    assert set(table.tables) == {"conv1", "conv2"}
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["table.safetensors"]
    assert run("natural", "tiny", "--layers", "conv9", *options).code == 2
    listed = run("layers", "tiny", "--natural", tmp_path / "made" / "table.safetensors", "--json")
    assert json.loads(listed.out)[0] == {"layer": "conv1", "units": 8, "never_active": None, "mostly_active": None}


def test_synth_measures_faithfulness(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    for number in range(31):
        image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(number))
        write_png(photo.parent / f"{number}.png", image)
    options = ("--images", photo.parent, "--faithfulness", "--judge", "tiny-judge", "--seeds", 1)
    done = run("synth", "conv2:3", "-g", "tiny", "--out", tmp_path / "out", *options, *tiny)
    assert done.code == 0, done.err
    (target,) = json.loads((tmp_path / "out" / "faithfulness.json").read_text())
    assert target["faithfulness"]["controls"]["random network"]["two_alternatives"] >= 0
    assert "times the best of the folder's 32 photographs" in done.out
    assert "two-alternative score" in done.out
    for control in ("start", "shuffled unit", "random network"):
        assert f"  control, {control}: " in done.out
    with (tmp_path / "out" / "numbers.csv").open(newline="") as file:
        (columns,) = csv.DictReader(file)
    assert float(columns["photograph_ratio"]) != 0
    controls = target["faithfulness"]["controls"]
    assert float(columns["target_two_alternatives_start"]) == controls["start"]["two_alternatives"]
    network = controls["random network"]["two_alternatives"]
    assert float(columns["target_two_alternatives_random_network"]) == network
