"""Each run has a folder of its own; a stopped one goes on; another is refused; a replay says what it replayed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_runner import Run
from torch import Tensor

from gen_prior import generators
from gen_prior.generators import Generator
from gen_prior.optimise.load_result import load_result

SYNTH = ("synth", "bee", "conv2:3", "--generator", "tiny", "--seeds", "2")
COMPARE = ("compare", "bee", "-m", "tiny", "-m", "pixel-raw", "--judge", "none", "--seeds", "2")


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch, tiny_generator: Generator) -> list[int]:
    """Registers the generator `tiny` anew: its next calls count down the number in this list, then it is Ctrl-C."""
    left = [10**9]

    def decode(code: Tensor) -> Tensor:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        images: Tensor = tiny_generator.module(code)
        return images

    monkeypatch.setitem(generators.NAMED, "tiny", lambda name: Generator(decode, (8,), name=name))
    return left


def test_each_run_has_a_folder_of_its_own(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(*SYNTH, *tiny).code == 0
    assert run(*COMPARE, *tiny).code == 0
    assert run("dream", photo, "--layer", "conv2", "--octaves", 1, *tiny).code == 0
    assert run("synth", "bea", *tiny).code == 2
    folders = sorted(path.name for path in Path("gen-prior-out").iterdir())
    assert folders == ["compare-bee", "dream-photo", "synth-bee-conv2-3", "synth-bee-conv2-3-2"]
    assert run("replay", "gen-prior-out/synth-bee-conv2-3-2").code == 0


def test_a_wrong_option_leaves_no_folder(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("synth", "bea", *tiny).code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_synthesis_goes_on(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, stopping: list[int]
) -> None:
    command = (*SYNTH, "--batch", 1, "--out", tmp_path / "out", *tiny)
    assert run(*command).code == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix == ".safetensors"}
    stopping[0] = 2 * 12
    stopped = run(*command, "--overwrite")
    assert stopped.code == 130
    assert "finished image" in stopped.complaint
    made = sum(one == "ok" for row in load_result(tmp_path / "out").status for one in row)
    assert 0 < made < 4
    assert (tmp_path / "out" / "contact-sheet.png").is_file()
    replayed = run("replay", tmp_path / "out", "--json")
    assert replayed.code == 0, replayed.err
    assert (replayed.json[0]["images"], replayed.json[0]["not_finished"]) == (made, 4 - made)
    assert f"the {made} finished of 4 images, identical" in " ".join(run("replay", tmp_path / "out").out.split())
    assert run(*command).code == 0
    again = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix == ".safetensors"}
    assert again == whole
    refused = run(*command, "--rate", 0.5)
    assert refused.code == 2
    assert "holds a run with another rate" in refused.complaint
    assert "--overwrite" in refused.complaint


def test_a_stopped_comparison_goes_on(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, stopping: list[int]
) -> None:
    command = (*COMPARE, "--out", tmp_path / "out", *tiny)
    assert run(*command).code == 0
    whole = json.loads((tmp_path / "out" / "comparison.json").read_text())
    stopping[0] = 4
    assert run(*command, "--overwrite").code == 130
    assert "no method of the comparison" in run("replay", tmp_path / "out").complaint
    stopping[0] = 10**9
    assert run(*command).code == 0
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["finished"] is True
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    for mine, other in zip(record["methods"], whole["methods"], strict=True):
        assert mine["items"] == other["items"]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    assert run(*command).code == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")} == times
    assert "other methods" in run(*command, "-m", "fourier").complaint
    assert "holds a comparison" in run(*SYNTH, "--out", tmp_path / "out", *tiny).complaint


def test_a_stopped_inversion_goes_on(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, photo: Path, stopping: list[int]
) -> None:
    given = ("invert", photo, "--layer", "conv2", "-g", "pixel-raw", "-g", "tiny", "--out", tmp_path / "out", *tiny)
    stopping[0] = 3
    assert run(*given).code == 130
    record = json.loads((tmp_path / "out" / "inversion.json").read_text())
    assert (record["finished"], list(record["feature_error"])) == (False, ["pixel-raw"])
    assert (tmp_path / "out" / "inversion.png").is_file()
    stopping[0] = 10**9
    done = run(*given, "--json")
    assert done.code == 0, done.err
    assert list(done.json["feature_error"]) == ["pixel-raw", "tiny"]
    assert done.json["feature_error"]["pixel-raw"] == record["feature_error"]["pixel-raw"]
    assert "another distance" in run(*given, "--distance", "cosine").complaint
