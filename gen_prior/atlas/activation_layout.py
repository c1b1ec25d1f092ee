"""Activations -> places on a plane -> cells of a grid, each with its mean activation and a direction to draw."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen_prior.errors import MissingExtraError, OptionError

Rows = NDArray[np.float32]
NEIGHBOURS, DISTANCE = 20, 0.01
"""Settings of UMAP in Carter et al. (2019), with the cosine as the metric."""
EDGE, MARGIN = 1.0, 0.05
"""The grid holds all but so many percent of the points at each side of each axis, so that no outlier stretches it, and
a margin around these, as a share of its side."""
SHRINKAGE = 0.1
"""Share of a multiple of the identity in the second moment that whitens directions: few points do not fill a space."""
CHUNK = 65536


def umap(rows: Rows, seed: int) -> Rows:
    """Places `[N, 2]` by UMAP (McInnes et al. 2018), on one thread, so that they follow from `rows` and `seed`.

    Raises `MissingExtraError` without umap-learn.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that Tensorflow, which is not needed, is not installed
            from umap import UMAP
    except ImportError as error:
        raise MissingExtraError(
            "the layout 'umap' needs umap-learn, which is not installed",
            fix="pip install 'gen-prior[atlas]', or choose the layout 'pca'",
        ) from error
    made = UMAP(
        n_neighbors=min(NEIGHBOURS, len(rows) - 1), min_dist=DISTANCE, metric="cosine", random_state=seed, n_jobs=1
    )
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(made.fit_transform(rows), np.float32)
    finally:
        torch.set_num_threads(threads)  # its library sets the number of threads of the whole process


def pca(rows: Rows, seed: int) -> Rows:
    """Places `[N, 2]` along the two directions in which the activations vary most; `seed` is not used."""
    mean = rows.mean(0, dtype=np.float64)
    covariance = sum((part - mean).T @ (part - mean) for part in _parts(rows))
    _, axes = np.linalg.eigh(covariance)
    first = axes[:, :-3:-1]
    first = first * np.sign(first[np.abs(first).argmax(0), [0, 1]])  # eigenvectors have no sign of their own
    return np.concatenate([(part - mean) @ first for part in _parts(rows)]).astype(np.float32)


LAYOUTS: dict[str, Callable[[Rows, int], Rows]] = {"umap": umap, "pca": pca}
"""Name -> function of activations `[N, units]` and a seed that returns places `[N, 2]`."""


@dataclass(frozen=True)
class Grid:
    """The cells of a map that hold enough points.

    Attributes:
        side: cells along each side of the map.
        cells: (row, column) of each, rows from the top, in order.
        points: how many points each holds.
        means: mean activation of each, `[cells, units]`.
        mean: the mean activation of all points `[units]`.
        moment: their second moment about zero, `[units, units]`.
    """

    side: int
    cells: list[tuple[int, int]]
    points: list[int]
    means: Tensor
    mean: Tensor
    moment: Tensor

    def directions(self) -> Tensor:
        """Directions `[cells, units]` to draw: each mean times the inverse square root of the second moment.

        Otherwise what all activations share outweighs what they differ in. Carter et al. (2019) take the inverse; with
        some thousand points, its root gives pictures of EfficientNet-Lite0 that name the cell's classes more often.
        """
        moment = self.moment.double()
        level = moment.diagonal().mean()
        shrunk = (1 - SHRINKAGE) * moment + SHRINKAGE * level * torch.eye(len(moment), dtype=torch.float64)
        values, axes = torch.linalg.eigh(shrunk)
        return (self.means.double() @ axes * values.clamp_min(1e-12 * float(level) + 1e-30).rsqrt() @ axes.T).float()


def bin_points(rows: Rows, places: Rows, side: int, smallest: int) -> Grid:
    """Divide the plane into `side` x `side` cells, and keep those with at least `smallest` points.

    Args:
        rows: activations `[N, units]`.
        places: `[N, 2]`, x to the right and y upwards.

    Raises `OptionError` where no cell has so many.
    """
    low, high = np.percentile(places, [EDGE, 100 - EDGE], axis=0)
    margin = MARGIN * np.maximum(high - low, 1e-12)
    scaled = (places - low + margin) / (high - low + 2 * margin)
    column, row = np.minimum(np.floor(scaled * side), side - 1).astype(int).T
    inside = ((scaled >= 0) & (scaled <= 1)).all(1)
    number = np.where(inside, (side - 1 - row) * side + column, -1)
    counts = np.bincount(number[inside], minlength=side * side)
    kept = np.flatnonzero(counts >= smallest)
    if not len(kept):
        raise OptionError(
            f"no cell of {side} x {side} holds {smallest} of the {len(rows)} points; the fullest holds {counts.max()}",
            fix="fewer cells, fewer points a cell, more positions or more photographs",
        )
    means = np.stack([rows[number == cell].mean(0, dtype=np.float64) for cell in kept]).astype(np.float32)
    moment = sum(part.astype(np.float64).T @ part for part in _parts(rows)) / len(rows)
    return Grid(
        side,
        [(int(cell) // side, int(cell) % side) for cell in kept],
        counts[kept].tolist(),
        torch.from_numpy(means),
        torch.from_numpy(rows.mean(0, dtype=np.float64).astype(np.float32)),
        torch.from_numpy(np.asarray(moment, np.float32)),
    )


def _parts(rows: Rows) -> list[Rows]:
    return [rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK)]
