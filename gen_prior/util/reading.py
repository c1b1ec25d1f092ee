"""Read files of strangers: regular files only, of bounded size, and, where asked, only below a folder."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: str | Path, *, limit: int | None = None, within: Path | None = None) -> BinaryIO:
    """Open a regular file for reading bytes; it never waits for a writer, as opening a FIFO does.

    Raises `OSError` for a FIFO, a device or a folder, a file of more than `limit` bytes, and, with `within`, a path
    that leads out of that folder, by `..` or a link.
    """
    if within is not None and not Path(path).resolve().is_relative_to(within.resolve()):
        raise OSError(errno.EPERM, f"{path} lies outside {within}")
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, f"{path} is not a regular file")
        if limit is not None and found.st_size > limit:
            raise OSError(errno.EFBIG, f"{path} has {found.st_size} bytes, the limit is {limit}")
        return os.fdopen(handle, "rb")
    except OSError:
        os.close(handle)
        raise


def read_regular(path: str | Path, *, limit: int, within: Path | None = None) -> bytes:
    """All bytes of a regular file. Raises `OSError` as `open_regular` does."""
    with open_regular(path, limit=limit, within=within) as file:
        data = file.read(limit + 1)
    if len(data) > limit:  # it grew
        raise OSError(errno.EFBIG, f"{path} has more than {limit} bytes")
    return data
