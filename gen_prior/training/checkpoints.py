"""Checkpoints of a training run: written atomically with their SHA-256; the newest undamaged one is read."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from gen_prior.errors import WeightsError
from gen_prior.training.settings import current_names
from gen_prior.util.files import write_files
from gen_prior.util.reading import BAD_FILE, first_line, read_regular

MAX_BYTES = 2**36
"""Most bytes that are read of a checkpoint."""
KEEP = 2
log = logging.getLogger(__name__)


def save_checkpoint(out: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `checkpoint-STEP.pt` and its SHA-256 atomically and delete all but the newest `KEEP`.

    Raises `OutputError` if the disk is full.
    """
    path = out / f"checkpoint-{step:08d}.pt"
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    write_files({path: data, _digest_path(path): hashlib.sha256(data).hexdigest().encode()})
    for old in checkpoints(out)[KEEP:]:
        old.unlink()
        _digest_path(old).unlink(missing_ok=True)
    return path


def latest_checkpoint(out: Path) -> dict[str, Any] | None:
    """The newest undamaged checkpoint in `out`, by today's names; a damaged one is logged and skipped.

    None if there is no checkpoint. Raises `WeightsError` if all are damaged.
    """
    found = checkpoints(out)
    for path in found:
        try:
            data = read_regular(path, limit=MAX_BYTES)
            recorded = _digest_path(path)
            if recorded.exists() and recorded.read_text(encoding="utf-8") != hashlib.sha256(data).hexdigest():
                raise ValueError("its SHA-256 is not the recorded one")
            state = _renamed(torch.load(io.BytesIO(data), weights_only=True, map_location="cpu"))
        except (*BAD_FILE, pickle.UnpicklingError) as error:
            log.warning("%s is damaged (%s); using the checkpoint before it", path, first_line(error))
            continue
        return state
    if found:
        raise WeightsError(f"every checkpoint in {out} is damaged", fix="start again in another folder")
    return None


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints in `out`, newest first."""
    return sorted(out.glob("checkpoint-*.pt"), reverse=True)


def _renamed(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's state with the names of version 0.1 replaced by today's. Raises `TypeError` for another thing."""
    if not isinstance(state, dict):
        raise TypeError(f"it holds a {type(state).__name__}")
    if "taps" in state:
        state["hook_layers"] = state.pop("taps")
        state["settings"] = current_names(state["settings"])
        if "rehearsal" in state["modules"]:
            state["modules"]["on_policy"] = state["modules"].pop("rehearsal")
    return state


def _digest_path(path: Path) -> Path:
    return path.with_suffix(".sha256")
