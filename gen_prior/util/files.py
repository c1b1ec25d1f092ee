"""Files written atomically: a reader sees the old file or the new one, never a part of it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gen_prior.errors import OutputError
from gen_prior.util.run_files import register

PARTIAL = ".part"
"""Ending of temporary files, whose names begin with a dot."""


@contextmanager
def as_output_errors(*paths: Path) -> Iterator[None]:
    """Turn an `OSError` (or a `RecursionError`) in the block into an `OutputError` that names `paths`."""
    try:
        yield
    except (OSError, RecursionError) as error:  # a very deep path raises RecursionError
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"cannot write {', '.join(map(str, paths))}: {reason}",
            fix="free some space, or pass another folder with --out",
        ) from error


@contextmanager
def atomic_write(*paths: Path, before_rename: Callable[[], object] | None = None) -> Iterator[tuple[Path, ...]]:
    """Temporary files that take the names `paths` when the block ends, each atomically, with the umask's mode.

    If writing fails before the first rename, nothing has changed. `before_rename` is called once all data is on disk,
    before the first rename; used to delete what the new files replace. Raises `OSError`.
    """
    partial: list[Path] = []
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=PARTIAL)
            partial.append(Path(name))
            os.close(handle)
        yield tuple(partial)
        mask = os.umask(0)
        os.umask(mask)
        for part in partial:
            with part.open("ab") as file:
                os.fsync(file.fileno())
            part.chmod(0o666 & ~mask)
        if before_rename is not None:
            before_rename()
        register(paths)
        for part, path in zip(partial, paths, strict=True):
            part.replace(path)
    finally:
        for part in partial:
            part.unlink(missing_ok=True)


def is_file(path: str | Path) -> bool:
    """True if there is a regular file; False also of a name that no file can have, where `Path.is_file` raises."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | Path) -> bool:
    """True if there is a folder; False also of a name that no folder can have, where `Path.is_dir` raises."""
    return os.path.isdir(path)  # noqa: PTH112


def files_below(folder: Path) -> list[Path]:
    """All files in `folder` and the folders below it, sorted; links are followed, but each folder is read once."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        try:
            status = Path(parent).stat()
        except OSError:  # a folder that was deleted since, or that this user may not enter
            continue
        if (status.st_dev, status.st_ino) in seen:  # a link back to a folder that was read, or a loop of links
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        found += [Path(parent, name) for name in names]
    return sorted(filter(is_file, found))


def write_files(files: Mapping[Path, bytes], *, before_rename: Callable[[], object] | None = None) -> None:
    """Write several files as `atomic_write` does; the last one is renamed last.

    Raises `OutputError` for a full disk or a read-only folder.
    """
    write_stream(list(files), files.values(), before_rename=before_rename)


def write_stream(
    paths: Sequence[Path], contents: Iterable[bytes], *, before_rename: Callable[[], object] | None = None
) -> None:
    """As `write_files`, with one of the `contents` in memory at a time."""
    with as_output_errors(*paths[-1:]), atomic_write(*paths, before_rename=before_rename) as partial:
        for part, data in zip(partial, contents, strict=True):
            part.write_bytes(data)


def write_bytes(path: Path, data: bytes, *, before_rename: Callable[[], object] | None = None) -> None:
    """Write one file. Raises `OutputError` as `write_files` does."""
    write_files({path: data}, before_rename=before_rename)


def write_json(path: Path, value: Any, *, before_rename: Callable[[], object] | None = None) -> None:
    """Write `value` as indented JSON. Raises `ValueError` for NaN, which JSON does not have."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode(), before_rename=before_rename)
