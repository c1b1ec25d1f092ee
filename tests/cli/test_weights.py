"""`pull` and `export` as commands; `calibrate` refuses what has no encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gen_prior.generators import load_generator


def test_export_leaves_a_folder_that_loads(run, tmp_path: Path) -> None:
    done = run("export", "dgn-lite0", tmp_path / "out")
    assert done.code == 0, done.err
    assert "generator.safetensors" in done.out
    ours, embedded = (load_generator(spec, device="cpu") for spec in (f"local-dir:{tmp_path / 'out'}", "dgn-lite0"))
    code = embedded.initial_code(1)[None]
    assert torch.equal(ours(code), embedded(code))


@pytest.mark.parametrize("command", ["pull", "export"])
def test_an_unknown_name_has_close_matches(run, tmp_path: Path, command: str) -> None:
    arguments = [command, "dgn-lite1", *([tmp_path / "out"] if command == "export" else [])]
    done = run(*arguments)
    assert done.code == 2
    assert "dgn-lite0" in done.complaint
    assert not (tmp_path / "out").exists()


def test_calibrate_needs_an_encoder(run, tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    done = run("calibrate", "dgn-lite0", tmp_path / "photographs")
    assert done.code in (1, 2)
    assert done.complaint
