"""The file of a search without gradients: settings, scores, the last generation and the best code."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_prior.errors import OutputError
from gen_prior.generators.base import Generator
from gen_prior.util.files import write_bytes
from gen_prior.util.reading import read_arrays

FORMAT = "gen-prior/evolution-3"
KNOWN = (FORMAT, "gen-prior/evolution-2")
"""Formats that are read; 0.1 wrote the second, which has no `start`, `spread` or missing scores."""
MAX_BYTES = 2**31
"""Most bytes that are read of a saved search, and of a generation of points."""
NAMES_IN_FILE = {"dims": "numbers"}
"""Settings that have another name in files."""


def write_evolution(path: Path, settings: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write a search as one `.npz`, atomically. Raises `OutputError` if that fails."""
    named = {"format": FORMAT} | {NAMES_IN_FILE.get(name, name): value for name, value in settings.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, settings=np.frombuffer(json.dumps(named).encode(), np.uint8), **arrays)
    write_bytes(path, buffer.getvalue())


def read_evolution(path: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Settings and arrays of the search at `path`.

    Raises `OutputError` for another format, and an exception of any kind for a file that is damaged.
    """
    arrays: dict[str, NDArray[Any]] = dict(read_arrays(path, limit=MAX_BYTES))
    settings = json.loads(arrays.pop("settings").tobytes())
    if settings.pop("format") not in KNOWN:
        raise OutputError(
            f"{path} is not an evolution of format {FORMAT}", fix="name a file that gen-prior evolve wrote"
        )
    names = {old: name for name, old in NAMES_IN_FILE.items()}
    return {names.get(name, name): value for name, value in settings.items()}, arrays


def generator_identity(generator: Generator) -> dict[str, Any]:
    """Values that must be equal for a code to give the same image."""
    described = generator.describe()
    identity: dict[str, Any] = json.loads(
        json.dumps({name: described[name] for name in ("name", "options", "code_shape", "sha256")}, default=str)
    )
    return identity


def check_same_generator(path: str | Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises `OutputError` if the search at `path` was saved with another generator than `now`."""
    if changed := [name for name in now if before[name] != now[name]]:
        words = {
            "name": "",
            "options": " with other options",
            "code_shape": f" with codes of shape {before['code_shape']}",
            "sha256": " with other weights",
        }[changed[0]]
        raise OutputError(
            f"{path} belongs to {before['name']}{words}, not to this {now['name']}", fix="save to another file"
        )


__all__ = ["FORMAT", "MAX_BYTES", "check_same_generator", "generator_identity", "read_evolution", "write_evolution"]
