"""The files that a run wrote into its folder: listed there, so that a new run replaces all of them and nothing else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

LIST = ".gen-prior-files"
"""Name of the list: one path on each line, relative to the folder."""
_open: dict[Path, set[str]] = {}
"""Folder of a run that is being written -> its files."""
_guard = threading.Lock()


@contextlib.contextmanager
def listing(folder: Path) -> Iterator[None]:
    """In the block, list each file that is written below `folder` in it; a block inside another one changes nothing."""
    key = folder.resolve()
    with _guard:
        is_first = key not in _open
        if is_first:
            _open[key] = set(_listed(key))
    try:
        yield
    finally:
        if is_first:
            with _guard:
                del _open[key]
            _sort(key)


def _sort(folder: Path) -> None:
    """Write the list in the order of its names, so that it does not tell in how many runs it was written."""
    names = _listed(folder)
    if names != (ordered := sorted(set(names))):
        partial = folder / f"{LIST}.part"
        text = "".join(f"{name}\n" for name in ordered)
        with contextlib.suppress(OSError):  # the list as it is does as well
            partial.write_text(text, encoding="utf-8", errors="surrogateescape")
            partial.replace(folder / LIST)


def register(paths: Iterable[Path]) -> None:
    """List files that are about to take their names, in the folders of runs that are being written."""
    if not _open:
        return
    whole = [path.parent.resolve() / path.name for path in paths]
    with _guard:
        for folder, known in _open.items():
            names = [path.relative_to(folder).as_posix() for path in whole if folder in path.parents]
            if new := [name for name in dict.fromkeys(names) if name not in known and "\n" not in name]:
                with (folder / LIST).open("a", encoding="utf-8", errors="surrogateescape") as file:
                    file.writelines(f"{name}\n" for name in new)
                known.update(new)


def remove_listed(folder: Path) -> bool:
    """Delete the listed files of `folder` and the folders that this leaves empty; False if there is no list.

    All other files stay. Raises `OSError`.
    """
    folder = folder.resolve()
    if not (folder / LIST).is_file():
        return False
    paths = [folder / name for name in _listed(folder)]
    for path in paths:
        if folder in (path.parent.resolve() / path.name).parents:  # not through a link to elsewhere
            path.unlink(missing_ok=True)
    inside = {parent for path in paths for parent in path.parents if folder in parent.parents}
    for parent in sorted(inside, reverse=True):  # the inner ones first
        if parent.is_dir() and not parent.is_symlink():
            (parent / LIST).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                parent.rmdir()  # not where there are files of the user's
    (folder / LIST).unlink()
    with _guard:
        for key, known in _open.items():
            if key == folder or folder in key.parents:
                known.clear()
    return True


def _listed(folder: Path) -> list[str]:
    """The names in the list of a folder, none that leads out of it."""
    try:
        lines = (folder / LIST).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:
        return []
    return [line for line in lines if line and not PurePosixPath(line).is_absolute() and ".." not in line.split("/")]
