"""Checkpoints: whole, the newest undamaged one wins."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from gen_prior.errors import OutputError, WeightsError
from gen_prior.training.checkpoints import checkpoints, latest_checkpoint, save_checkpoint


def state(step: int) -> dict[str, object]:
    return {"step": step, "weights": torch.full((100,), float(step))}


def test_the_newest_is_read_and_few_are_kept(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    for step in (1, 2, 30):
        save_checkpoint(tmp_path, step, state(step))
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-00000030.pt", "checkpoint-00000002.pt"]
    assert len(list(tmp_path.iterdir())) == 4
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest["step"] == 30


@pytest.mark.parametrize("harm", ["empty", "truncated", "flipped", "html"])
def test_a_damaged_one_is_reported_and_the_one_before_is_used(
    harm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, 1, state(1))
    path = save_checkpoint(tmp_path, 2, state(2))
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    path.write_bytes({"empty": b"", "truncated": data[:-50], "flipped": flipped, "html": b"<html>"}[harm])
    with caplog.at_level(logging.WARNING):
        latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest["step"] == 1
    assert caplog.text.count("is damaged") == 1


@pytest.mark.parametrize("harm", [b"", b"<html>", b"PK\x03\x04"])
def test_without_a_digest_only_what_reads_is_used(harm: bytes, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 2, state(2))
    path.with_suffix(".sha256").unlink()
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    path.write_bytes(harm)
    with pytest.raises(WeightsError, match="every checkpoint"):
        latest_checkpoint(tmp_path)


def test_a_full_disk_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, state(1))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save_checkpoint(tmp_path, 2, state(2))
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 2
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest["step"] == 1


def test_names_of_version_0_1_are_read(tmp_path: Path) -> None:
    old = {"taps": ["1"], "settings": {"rehearsed": 0.5, "extends": "ab"}, "modules": {"rehearsal": {}, "critic": {}}}
    save_checkpoint(tmp_path, 1, old)
    assert latest_checkpoint(tmp_path) == {
        "hook_layers": ["1"],
        "settings": {"on_policy": 0.5, "parent_sha256": "ab"},
        "modules": {"on_policy": {}, "critic": {}},
    }
