"""One writer a folder: a lock that ends with the process, and no temporary files of writers that were killed."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gen_prior.errors import OptionError, OutputError
from gen_prior.util.files import PARTIAL, as_output_errors, is_file
from gen_prior.util.run_files import listing, remove_listed

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

RECORDS = {
    "result.json": "a synthesis",
    "comparison.json": "a comparison",
    "inversion.json": "an inversion",
    "dream.png": "a dream",
    "morph.json": "a morph",
    "benchmark.json": "a benchmark",
    "accentuation.json": "an accentuation",
    "evolution.npz": "an evolution",
    "experiment.json": "an experiment",
    "settings.json": "a dataset",
    "manifest.json": "an atlas",
}
"""The file by which a folder holds a run -> kind of the run."""
NEVER_REPLACED = ("evolution.npz", "experiment.json", "settings.json", "manifest.json")
"""Records of runs of days, and of experiments: an option of another command must not take them away."""
OTHER_RUN_FIX = "pass another --out, or replace it with --overwrite (in Python: overwrite=True)"


class InUseError(OutputError):
    """A folder that another process or thread writes to."""


_guard = threading.Lock()
_held: dict[tuple[int, int], int] = {}
"""(device, inode) of a locked folder -> the thread that holds it."""


@contextlib.contextmanager
def only_writer(folder: str | Path) -> Iterator[Path]:
    """Create `folder` and be its only writer in the block; a thread that is so already enters again.

    Deletes temporary files of writers that were killed, and a new folder into which nothing was written. Without locks
    (Windows, some network folders) two processes are not kept apart.

    Raises `InUseError` for a folder that another process or thread writes to, `OutputError` for one that cannot be
    written to.
    """
    path = Path(folder)
    with as_output_errors(path):
        is_new = not path.exists()
    handle = _opened(path)
    if handle is None:
        yield path
        return
    found = os.fstat(handle)
    key, me = (found.st_dev, found.st_ino), threading.get_ident()
    try:
        with _guard:
            again = _held.get(key) == me
            if not again:
                _lock(handle, path, _held.get(key) is not None)
                _held[key] = me
        try:
            if not again:
                _check_writable(path, found)
            yield path
        finally:
            if is_new:
                with contextlib.suppress(OSError):
                    path.rmdir()  # nothing was written; while it is locked, so that it is no other writer's
            if not again:
                with _guard:
                    del _held[key]
    finally:
        os.close(handle)


def _opened(path: Path) -> int | None:
    """Create the folder and open it; None without locks. Raises as `only_writer` does."""
    with as_output_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            if path.exists():
                raise
            raise _in_use(path) from error  # another writer has just deleted it, since it wrote nothing
        try:
            return os.open(path, os.O_RDONLY) if fcntl is not None else None
        except FileNotFoundError as error:
            raise _in_use(path) from error


def _check_writable(path: Path, opened: os.stat_result) -> None:
    """Delete what killed writers left in the locked folder that was opened. Raises as `only_writer` does."""
    with as_output_errors(path):
        if not path.exists() or not os.path.samestat(path.stat(), opened):
            raise _in_use(path)
        tempfile.TemporaryFile(dir=path).close()
        for left in path.rglob(f".*{PARTIAL}"):
            left.unlink()


@contextlib.contextmanager
def run_writer(folder: str | Path) -> Iterator[Path]:
    """As `only_writer`, of the folder of one run: the files that are written below it are listed for `remove_run`."""
    with only_writer(folder) as path, listing(path):
        yield path


@contextlib.contextmanager
def shared_folder(folder: Path, when_alone: Callable[[], None] | None = None) -> Iterator[None]:
    """Create `folder` and be one of its users in the block; if there is no other, call `when_alone` before.

    Without locks (Windows, some network folders) nobody knows, and it is not called. Raises `OutputError` for a folder
    that cannot be written to.
    """
    with as_output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY) if fcntl is not None else None
    if handle is None:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            if when_alone is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                when_alone()
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, path: Path, held: bool) -> None:
    """Lock an open folder. Raises `InUseError` where it is held, by another thread or process."""
    try:
        if held:
            raise BlockingIOError
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(path) from error
    except OSError as error:
        log.info("%s cannot be locked (%s)", path, error)


def _in_use(path: Path) -> InUseError:
    return InUseError(f"another process is writing to {path}", fix="wait until it has ended, or pass another --out")


def check_kind(folder: Path, record: str | Sequence[str] | None, *, overwrite: bool = False) -> None:
    """Raise `OptionError` where `folder` holds a run of another kind than that of `record`, or of any for None.

    `record` may be several files, of a kind of run that writes several.

    With `overwrite`, the other run may be there, unless it is one that is never replaced; `remove_run` deletes it.
    """
    ours = () if record is None else (record,) if isinstance(record, str) else record
    for name in RECORDS:
        if name in ours or not is_file(folder / name):
            continue
        if name in NEVER_REPLACED:
            raise OptionError(f"{folder} holds {RECORDS[name]} ({name})", fix="pass another --out")
        if not overwrite:
            raise OptionError(f"{folder} holds {RECORDS[name]} ({name})", fix=OTHER_RUN_FIX)


def check_empty(folder: Path) -> None:
    """Raise `OutputError` unless `folder` is empty or does not exist yet."""
    with as_output_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} is not empty", fix="name a new folder")


def remove_run(folder: Path) -> bool:
    """Delete the run in `folder`: its records first, then all files that it wrote; False if it left no list of them.

    Files that no run wrote stay. Call it when the new run has something to write, so that a wrong option costs
    nothing. Raises `OutputError`.
    """
    with as_output_errors(folder):
        for name in RECORDS:
            if name not in NEVER_REPLACED:
                (folder / name).unlink(missing_ok=True)
        return remove_listed(folder)
