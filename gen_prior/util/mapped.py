"""Arrays that lie in a file, for what is larger than memory."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from gen_prior.util.files import as_output_errors, is_file


def mapped_array(path: Path, dtype: DTypeLike, shape: Sequence[int]) -> np.memmap[Any, Any]:
    """The array in the file `path`, which is made, of zeros, unless there is one of this size.

    All of its space is taken now: a sparse file would end the process by SIGBUS where the disk becomes full. Raises
    `OutputError` for a full disk or a folder that cannot be written to.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with as_output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_whole = is_file(path) and path.stat().st_size == size
        try:
            with path.open("r+b" if is_whole else "wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.truncate(size)
        except OSError:
            if not is_whole:
                path.unlink(missing_ok=True)
            raise
        return np.memmap(path, dtype, "r+", shape=tuple(shape))


__all__ = ["mapped_array"]
