"""Units whose pictures excite the same features: nearest by the cosine of their signatures."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

NEAREST = 8
ROWS_AT_ONCE, GROUP = 256, 64
ABSENT = -2.0
"""Below every cosine."""


def nearest(signatures: NDArray[np.float32], count: int = NEAREST) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `count` nearest other rows of each row of `signatures` `[N, size]`, and their cosines, both `[N, count]`.

    Nearest first. Rows of zeros are nobody's neighbours; where there are too few others, the index is -1. Time grows
    with N squared, memory with N.
    """
    present = np.flatnonzero(np.abs(signatures).sum(1))
    rows = F.normalize(torch.from_numpy(signatures[present]), dim=1)
    wanted = min(count, max(len(rows) - 1, 0))
    indices = np.full((len(signatures), count), -1, np.int64)
    cosines = np.zeros((len(signatures), count), np.float32)
    columns = F.pad(rows, (0, 0, 0, -len(rows) % GROUP)).T.contiguous()
    buffer = torch.empty(min(ROWS_AT_ONCE, len(rows)), columns.shape[1])  # fresh memory each time takes longer to get
    for first in range(0, len(rows) if wanted else 0, ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        similar = torch.mm(rows[part], columns, out=buffer[: len(rows[part])])
        similar[:, len(rows) :] = ABSENT
        similar.diagonal(first).fill_(ABSENT)  # nobody is a neighbour of its own
        values, found = _highest(similar, wanted)
        indices[present[part], :wanted] = present[found.numpy()]
        cosines[present[part], :wanted] = values.clamp(-1, 1).numpy()
    return indices, cosines


def _highest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` highest of each row of `[rows, groups * GROUP]`, in order, and where they are.

    Each of them is in one of the `count` groups of neighbouring columns with the highest maxima; finding these first
    takes a quarter of the time of one `topk` of everything.
    """
    grouped = values.unflatten(1, (-1, GROUP))
    groups = grouped.amax(2).topk(min(count, grouped.shape[1]), dim=1, sorted=False).indices
    few = grouped.gather(1, groups[:, :, None].expand(-1, -1, GROUP)).flatten(1)
    highest, places = few.topk(count, dim=1)
    return highest, groups.gather(1, places // GROUP) * GROUP + places % GROUP
