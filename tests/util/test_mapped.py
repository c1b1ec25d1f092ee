"""Memory-mapped arrays: all their space on the disk is reserved when they are made, or they are not made."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gen_prior.errors import OutputError
from gen_prior.util.mapped import mapped_array

SHAPE = (100, 3, 50)


def test_an_array_takes_its_space_at_once_and_keeps_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.f16"
    made = mapped_array(path, np.float16, SHAPE)
    assert path.stat().st_blocks * 512 >= made.nbytes == path.stat().st_size  # not sparse
    assert not made.any()
    made[3] = 2
    made.flush()
    assert (mapped_array(path, np.float16, SHAPE)[3] == 2).all()
    assert not mapped_array(path, np.float16, (7, 2)).any()  # of another size: a new one


def test_one_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="cannot write"):
        mapped_array(tmp_path / ("a/" * 2000) / "x.f16", np.float16, SHAPE)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match=r"cannot write .*x\.f16: No space left on device\. Fix: free some space"):
        mapped_array(tmp_path / "x.f16", np.float16, SHAPE)
    assert not (tmp_path / "x.f16").exists()
