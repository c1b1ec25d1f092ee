"""Units whose pictures excite the same features: nearest by the cosine of their signatures."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

NEAREST = 8
ROWS_AT_ONCE = 256


def nearest(signatures: NDArray[np.float32], count: int = NEAREST) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `count` nearest other rows of each row of `signatures` `[N, size]`, and their cosines, both `[N, count]`.

    Nearest first. Rows of zeros are nobody's neighbours; where there are too few others, the index
    is -1. Time grows with N squared (half a minute for 100,000 rows on one core), memory with N.
    """
    present = np.flatnonzero(np.abs(signatures).sum(1))
    rows = F.normalize(torch.from_numpy(signatures[present]), dim=1)
    wanted = min(count, max(len(rows) - 1, 0))
    indices = np.full((len(signatures), count), -1, np.int64)
    cosines = np.zeros((len(signatures), count), np.float32)
    for first in range(0, len(rows) if wanted else 0, ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        similar = rows[part] @ rows.T
        similar.diagonal(first).fill_(-2)  # nobody is a neighbour of its own
        values, found = similar.topk(wanted, dim=1)
        indices[present[part], :wanted] = present[found.numpy()]
        cosines[present[part], :wanted] = values.clamp(-1, 1).numpy()
    return indices, cosines
