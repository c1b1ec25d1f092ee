"""`gen-prior atlas` on tiny networks."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from command_runner import Run

from gen_prior.atlas.networks import loaded_networks
from gen_prior.atlas.neurons import Maker

LAYERS = ("--layers", "conv1", "conv2", "--units", "0-2", "--steps", 2, "-g", "tiny")


def test_an_atlas_goes_on_and_says_how_far_it_is(tiny: tuple[str, ...], run: type[Run], tmp_path: Path) -> None:
    words = ("atlas", "tiny", *LAYERS, "--device", "cpu", "--workers", 1, "--out", tmp_path)
    first = run(*words)
    assert first.code == 0, first.err
    assert first.out == f"6 of 6 neurons in {tmp_path}\n"
    assert "6 of 6 neurons" in first.err
    assert run(*words, "-q").err == ""
    other = run(*words, "--steps", 3)
    assert other.code == 2
    assert "holds an atlas with" in other.complaint
    assert "evaluations" in other.complaint
    status = run("atlas", "--status", tmp_path, "--json").json
    assert (status["neurons"], status["finished"], status["failed"]) == (6, 6, [])
    assert run("atlas", "--status", tmp_path).out == "6 of 6 neurons finished, 2 of 2 shards, 0 begun\n"
    assert run("atlas", "--worker", "1/2", "--workers", 1, "--out", tmp_path).code == 0
    damaged = tmp_path / "shards" / "00001" / "shard.json"
    damaged.write_bytes(damaged.read_bytes().replace(b"conv2", b"conv3"))
    assert "shards/00001 damaged" in run("atlas", "--verify", tmp_path, "--workers", 1).err
    assert b"conv2" in damaged.read_bytes()


def test_what_failed_is_said_and_tried_again_when_asked(
    tiny: tuple[str, ...], run: type[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("atlas", "tiny", *LAYERS, "--device", "cpu", "--workers", 1, "--out", tmp_path, "-q")
    with monkeypatch.context() as patch:
        patch.setattr(Maker, "_made", lambda *_: 1 / 0)
        failed = run(*words)
    assert failed.code == 1
    assert "2 shards failed, the first one (conv1:0-2) with ZeroDivisionError" in failed.complaint
    assert "conv2:0-2 failed 3 times, set aside: ZeroDivisionError" in run("atlas", "--status", tmp_path).out
    assert run(*words).code == 1, "they are not tried again unasked"
    again = run("atlas", "--retry-failed", tmp_path, "--workers", 1)
    assert again.code == 0, again.err
    assert "2 shards that failed will be tried again" in again.err
    assert again.out == f"6 of 6 neurons in {tmp_path}\n"


def test_mistakes_are_one_line(tiny: tuple[str, ...], run: type[Run], tmp_path: Path) -> None:
    assert "needs a folder" in run("atlas", "tiny").complaint
    assert "needs the name of a classifier" in run("atlas", "--out", tmp_path).complaint
    assert "takes K/N" in run("atlas", "--worker", "3", "--out", tmp_path / "a").complaint
    assert "no atlas in" in run("atlas", "--status", tmp_path).complaint
    assert "RANGE" in run("atlas", "tiny", "--units", "=", "--out", tmp_path / "a").complaint
    assert "conv9" in run("atlas", "tiny", "--layers", "conv9", "--out", tmp_path / "a").complaint
    (tmp_path / "result.json").write_text("{}")
    assert "holds a synthesis" in run("atlas", "tiny", *LAYERS, "--out", tmp_path).complaint


CODE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""


def test_code_runs_only_where_the_user_names_it(
    run: type[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"module_{tmp_path.name.replace('-', '_')}"
    module = tmp_path / f"{name}.py"
    module.write_text(CODE)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    words = ("--layers", "0", "--units", "0-1", "--steps", 2, "-g", "pixel", "--input-size", "16", "--judge", "none")
    made = run("atlas", f"{name}:build", *words, "--device", "cpu", "--workers", 1, "--out", "made")
    assert made.code == 0, made.err
    shutil.rmtree("made/records")
    shutil.rmtree("made/shards")
    loaded_networks.cache_clear()
    del sys.modules[name]
    module.write_text(CODE + "open('was-run', 'w').close()\n")
    again = ("--worker", "1/1", "--workers", 1, "--out", "made")
    assert "not run because a file names it" in run("atlas", *again).complaint
    assert "is an atlas of" in run("atlas", "efficientnet-lite0", *again).complaint
    assert not Path("was-run").exists()
    assert run("atlas", f"{name}:build", *again).code == 0
