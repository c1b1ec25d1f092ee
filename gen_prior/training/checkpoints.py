"""Checkpoints of a training run: written whole or not at all, the newest readable one wins."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

KEEP = 2
log = logging.getLogger(__name__)


def save_checkpoint(out: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `checkpoint-STEP.pt` atomically and delete all but the newest `KEEP`."""
    path = out / f"checkpoint-{step:08d}.pt"
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    for old in _checkpoints(out)[KEEP:]:
        old.unlink()
    return path


def latest_checkpoint(out: Path) -> dict[str, Any] | None:
    """The newest checkpoint that reads back whole; a damaged one is reported and the one before is used."""
    for path in _checkpoints(out):
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, ValueError) as error:
            log.warning("%s is damaged (%s); using the checkpoint before it", path, str(error).splitlines()[0])
            continue
        return state
    return None


def _checkpoints(out: Path) -> list[Path]:
    return sorted(out.glob("checkpoint-*.pt"), reverse=True)
