"""A network of the user's own on the command line, and the options that describe it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from command_runner import Run

from gen_prior.cli import COMMANDS
from gen_prior.cli.shared.classifier_options import parse, read_labels
from gen_prior.errors import OptionError

CODE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""
DESCRIBED = ("--input-size", "16x24", "--mean", "0.1,0.2,0.3", "--std", "0.5,0.5,0.5", "--labels", "names.txt")


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current directory with a file of labels beside it; how to name its network."""
    name = f"module_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(CODE)
    (tmp_path / "names.txt").write_text("ant\nbee\ncup\n")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    return f"{name}:build"


def test_synth_layers_and_labels(run: type[Run], code: str) -> None:
    done = run(
        "synth", "bee", "0:1", "-c", code, *DESCRIBED, "-g", "pixel", "--steps", "2", "--device", "cpu", "--json"
    )
    assert done.code == 0, done.err
    assert done.json["settings"]["classifier"]["input_size"] == [16, 24]
    assert [item["target"] for item in done.json["items"]]
    assert run("layers", code, *DESCRIBED, "--json").json["0"] == [4, 14, 22]
    assert "as in gen-prior synth 3:0." in run("layers", code, *DESCRIBED).err
    assert run("labels", "bee", "-c", code, *DESCRIBED, "--json").json[0]["index"] == 1


def test_a_replay_runs_code_only_where_the_user_names_it(run: type[Run], code: str) -> None:
    made = ("synth", "bee", "-c", code, *DESCRIBED, "-g", "pixel", "--seeds", "1", "--steps", "2", "--out", "made")
    assert run(*made, "--device", "cpu", "-q").code == 0
    module = Path(f"{code.partition(':')[0]}.py")
    del sys.modules[module.stem]
    module.write_text(CODE + "open('was-run', 'w').close()\n")
    refused = run("replay", "made")
    assert refused.code == 2
    assert f"--classifier {code}" in " ".join(refused.err.split())
    assert not Path("was-run").exists()
    assert run("replay", "made", "-c", code, *DESCRIBED).code == 0
    assert "made at input size 16x24, and" in run("replay", "made", "-c", code).complaint
    sized = run("replay", "made", "-c", code, "--input-size", "16x24")
    assert "made with mean" in sized.complaint
    assert "give the classifier the same: --mean" in sized.complaint


def test_the_axis_of_units_is_told(run: type[Run], code: str) -> None:
    assert run("layers", code, *DESCRIBED, "--unit-axis", "0=-1", "--json").code == 0
    told = run("synth", "0:20", "-c", code, *DESCRIBED, "--unit-axis", "0=-1", "-g", "pixel", "--steps", "1", "-q")
    assert told.code == 0, told.err  # the last axis has 22 positions, the first one 4 channels
    assert "LAYER=AXIS" in run("layers", code, "--unit-axis", "0").err


def test_every_command_that_takes_a_classifier_takes_them(run: type[Run]) -> None:
    for name in COMMANDS:
        shown = re.sub(r"(\x1b\[[\d;]*m|[│\s])+", " ", run(name, "--help").out)
        if "--classifier" in shown or "CLASSIFIER" in shown:
            assert all(option in shown for option in ("--input-size", "--mean", "--std", "--labels", "--unit-axis")), (
                name
            )
        if "--classifier" in shown and name != "labels":
            assert "imported and run" in shown, name


def test_ratios_are_of_the_input_that_the_table_was_made_at(run: type[Run], code: str, photo: Path) -> None:
    options = ("--images", photo.parent, "--out", "table.safetensors", "--device", "cpu")
    made = run("natural", code, *DESCRIBED, "--layers", "0", *options)
    assert made.code == 0, made.err
    assert "4 units of 1 layer over 1 photograph, in" in made.out
    synth: tuple[object, ...] = ("synth", "0:1", "-g", "pixel", "--seeds", 1, "--steps", 1, "--device", "cpu")
    synth += ("--natural", "table.safetensors")
    done = run(*synth, "-c", code, *DESCRIBED)
    assert done.code == 0, done.err
    assert "1 image in" in done.out
    refused = run(*synth, "-c", code)
    assert refused.code == 2
    assert "made at input size 16, 24, and" in refused.complaint


def test_other_sources_refuse_them(run: type[Run]) -> None:
    done = run("layers", "efficientnet-lite0", "--mean", "0,0,0", "--device", "cpu")
    assert done.code == 2
    assert "does not take 'mean' as an option" in done.complaint


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("12y", None, None), "--input-size is a side or HEIGHTxWIDTH in pixels, got '12y'"),
        ((None, "a,b", None), "--mean is one number per channel, got 'a,b'"),
        ((None, None, "1;2"), "--std is one number per channel"),
    ],
)
def test_bad_values(options: tuple[str | None, str | None, str | None], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        parse(*options, labels=None)


def test_files_of_labels(tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    for content in (["a", "b"], {"1": "b", "0": "a"}):
        file.write_text(json.dumps(content))
        assert read_labels(file) == ["a", "b"]
    for text in ("3", "{", '{"1": "b"}'):
        file.write_text(text)
        with pytest.raises(OptionError, match="no class names in"):
            read_labels(file)
    with pytest.raises(OptionError, match="No such file"):
        read_labels(tmp_path / "absent.txt")
