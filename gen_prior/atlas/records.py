"""Records of the finished and the failed shards of an atlas: a small JSON file for each, in `records/` and `failed/`.

A shard is done if its record is of this atlas and its files are there; hashes are compared where rows are read, and of
all files by `verify`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gen_prior.atlas.manifest import Manifest
from gen_prior.hub.tensors import file_sha256
from gen_prior.util.files import PARTIAL, as_output_errors, write_json
from gen_prior.util.folders import shared_folder
from gen_prior.util.reading import read_regular

ATTEMPTS = 3
"""Failures in a row, without a finished neuron between them, after which a shard is set aside."""
MAX_BYTES = 2**26
"""Most bytes that are read of a record."""
REASONS = 8


@dataclass(frozen=True)
class Records:
    """The records of the atlas in `folder`."""

    folder: Path
    manifest: Manifest

    def in_use(self) -> AbstractContextManager[None]:
        """A context in which shards or pages are made; the first of several clears what killed processes left."""
        return shared_folder(self.folder / "shards", self._clear_leftovers)

    def _clear_leftovers(self) -> None:
        photographs, pages = ("photographs", "photographs/exemplars"), ("data", "assets", "thumbnails")
        for place in (".", "records", "failed", *photographs, *pages):
            for name in _names(self.folder / place):
                if name.startswith(".") and name.endswith(PARTIAL):
                    (self.folder / place / name).unlink(missing_ok=True)
        for name in _names(self.folder / "shards"):
            if name.startswith(".") and name.endswith(".new"):
                shutil.rmtree(self.folder / "shards" / name, ignore_errors=True)

    def shard_folder(self, index: int) -> Path:
        """The folder of a finished shard."""
        return self.folder / "shards" / f"{index:05d}"

    def partial(self, index: int) -> Path:
        """The folder in which a shard is made: a file for each finished neuron."""
        return self.folder / "shards" / f".{index:05d}.partial"

    def record_file(self, index: int) -> Path:
        """The record of a finished shard."""
        return self.folder / "records" / f"{index:05d}.json"

    def failed_file(self, index: int) -> Path:
        """The reasons why a shard failed."""
        return self.folder / "failed" / f"{index:05d}.json"

    def read(self, index: int) -> dict[str, Any] | None:
        """The record of a shard; None where there is none, or one that is damaged or of another atlas."""
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            record: dict[str, Any] = json.loads(read_regular(self.record_file(index), limit=MAX_BYTES))
            files = record["files"]
            if record["shard"] == index and record["atlas"] == self.manifest.identity and "shard.json" in files:
                return record
        return None

    def is_done(self, index: int, *, hashes: bool = False) -> bool:
        """True if a shard is finished and its files are there; with `hashes`, with the recorded content.

        Of the few files beside the pictures the sizes are compared too; looking at those of all takes seconds for
        thousands of shards.
        """
        record = self.read(index)
        if record is None:
            return False
        folder = self.shard_folder(index)
        try:
            if not _files_below(folder).issuperset(record["files"]):
                return False
            sizes = {name: size for name, size in record["sizes"].items() if "/" not in name}
            if any((folder / name).stat().st_size != size for name, size in sizes.items()):
                return False
            return not hashes or all(file_sha256(folder / n) == h for n, h in record["files"].items())
        except (OSError, LookupError, AttributeError):
            return False

    def write(self, index: int, files: Mapping[str, str], seconds: float) -> None:
        """Record a shard as done, and forget its failures. Raises `OutputError`."""
        failed, folder = self.failure(index), self.shard_folder(index)
        record = {
            "shard": index,
            "atlas": self.manifest.identity,
            "files": dict(files),
            "sizes": {name: (folder / name).stat().st_size for name in files if "/" not in name},
            "seconds": round(seconds, 3),
            "attempts": (failed["attempts"] if failed is not None else 0) + 1,
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        write_json(self.record_file(index), record)
        with as_output_errors(self.folder):
            self.failed_file(index).unlink(missing_ok=True)

    def forget(self, index: int) -> None:
        """Take a shard that is damaged away, its record first. Raises `OutputError`."""
        with as_output_errors(self.folder):
            self.record_file(index).unlink(missing_ok=True)
            shutil.rmtree(self.shard_folder(index), ignore_errors=True)

    def finished_neurons(self, index: int) -> int:
        """Number of finished neurons of a shard that is being made."""
        return sum(name.endswith(".safetensors") and name[0] != "." for name in _names(self.partial(index)))

    def failure(self, index: int) -> dict[str, Any] | None:
        """`{"attempts", "finished", "reasons"}` of a shard that failed; None for one that did not."""
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            found = json.loads(read_regular(self.failed_file(index), limit=MAX_BYTES))
            return {
                "attempts": int(found["attempts"]),
                "finished": int(found["finished"]),
                "reasons": list(found["reasons"]),
            }
        return None

    def fail(self, index: int, reason: str) -> bool:
        """Note a failure. Returns True if the shard is set aside: `ATTEMPTS` failures without a neuron in between."""
        before = self.failure(index) or {"attempts": 0, "finished": 0, "reasons": []}
        finished = self.finished_neurons(index)
        attempts = 1 if finished > before["finished"] else before["attempts"] + 1
        reasons = [*before["reasons"], reason][-REASONS:]
        write_json(self.failed_file(index), {"attempts": attempts, "finished": finished, "reasons": reasons})
        return attempts >= ATTEMPTS

    def is_set_aside(self, index: int) -> bool:
        """True for a shard that is not tried again before `retry`."""
        failed = self.failure(index)
        return failed is not None and failed["attempts"] >= ATTEMPTS

    def retry(self) -> int:
        """Let all shards that were set aside be tried again. Returns their number. Raises `OutputError`."""
        failed = self.indices("failed")
        with as_output_errors(self.folder):
            for index in failed:
                self.failed_file(index).unlink(missing_ok=True)
        return len(failed)

    def begun(self) -> set[int]:
        """Numbers of the shards that a process has begun, and not cleared away."""
        names = _names(self.folder / "shards")
        found = {name[1:].removesuffix(".partial") for name in names if name.endswith(".partial")}
        return {int(name) for name in found if name.isdecimal() and int(name) < self.manifest.shards}

    def indices(self, kind: str) -> set[int]:
        """Numbers of the shards that have a file in `kind`, "records" or "failed"."""
        names = _names(self.folder / kind)
        found = {int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdecimal()}
        return {index for index in found if index < self.manifest.shards}


def _names(folder: Path) -> list[str]:
    """Names of what is in a folder; none where it is not there."""
    try:
        return [entry.name for entry in os.scandir(folder)]
    except OSError:
        return []


def _files_below(folder: Path) -> set[str]:
    """Names, relative to `folder`, of what is in it and in the folders directly below it. Raises `OSError`."""
    found: set[str] = set()
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            found.update(f"{entry.name}/{one.name}" for one in os.scandir(entry))
        else:
            found.add(entry.name)
    return found
