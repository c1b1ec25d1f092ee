"""Read files that may be untrusted: regular files only, of bounded size, and, where asked, only below a folder."""

from __future__ import annotations

import errno
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from gen_prior.errors import ImageError, OutputError, WeightsError

BAD_FILE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, RuntimeError, EOFError,
    SafetensorError,
)  # fmt: skip
"""Exceptions that readers, ours and those of libraries, raise for damaged or unexpected files."""


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
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if limit is not None and found.st_size > limit:
            raise OSError(errno.EFBIG, f"{path} has {found.st_size} bytes, the limit is {limit}")
        return os.fdopen(handle, "rb")
    except OSError:
        os.close(handle)
        raise


def read_regular(path: str | Path, *, limit: int, within: Path | None = None) -> bytes:
    """All bytes of a regular file. Raises `OSError` as `open_regular` does."""
    with open_regular(path, limit=limit, within=within) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1)  # not `limit + 1`: so much memory would be asked for
    if len(data) > size:
        raise OSError(errno.EFBIG, f"{path} grew while it was read")
    return data


def read_arrays(path: str | Path, *, limit: int) -> dict[str, NDArray[np.float64]]:
    """Name -> array of an `.npz` file; no more memory is asked for than the file says that it holds.

    Raises an exception of any kind for a file that is damaged or holds more than `limit` bytes.
    """
    arrays: dict[str, NDArray[np.float64]] = {}
    with zipfile.ZipFile(io.BytesIO(read_regular(path, limit=limit))) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > limit:
            raise ValueError(f"it holds more than {limit} bytes")
        for entry in archive.infolist():
            stream = io.BytesIO(archive.read(entry))
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError(f"{entry.filename} is of another format")
            shape, in_columns, dtype = np.lib.format.read_array_header_1_0(stream)
            if in_columns or dtype.hasobject:
                raise ValueError(f"{entry.filename} holds other things than numbers")
            arrays[entry.filename.removesuffix(".npy")] = np.frombuffer(stream.read(), dtype).reshape(shape)
    return arrays


@contextmanager
def reading(kind: str, folder: str | Path) -> Iterator[None]:
    """Turn what bad files raise in the block into an `OutputError`: the `kind` in `folder` is missing or damaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise OutputError(f"no {kind} in {folder}: {Path(str(error.filename)).name} is missing") from error
    except (WeightsError, ImageError) as error:
        raise OutputError(f"the {kind} in {folder} is damaged: {error.message}") from error
    except BAD_FILE as error:
        raise OutputError(f"the {kind} in {folder} is damaged: {first_line(error)}") from error


@contextmanager
def reading_weights(path: str | Path) -> Iterator[None]:
    """Turn what bad files raise in the block into a `WeightsError`: the file or folder `path` is damaged."""
    try:
        yield
    except BAD_FILE as error:
        raise WeightsError(f"{path} is damaged or of another kind: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none."""
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return kind if not lines else f"{kind}: {lines[0]}" if isinstance(error, LookupError) else lines[0]
