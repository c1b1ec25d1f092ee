"""Layouts, cells and directions of an activation map, on points whose places are known."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from gen_prior.atlas.activation_layout import Rows, bin_points, pca, umap
from gen_prior.errors import MissingExtraError, OptionError


def blobs(points: int = 40, units: int = 6) -> Rows:
    """Three groups of points far from each other, one after the other."""
    source = np.random.default_rng(0)
    centres = 4 * np.eye(3, units)
    return np.concatenate([centre + 0.3 * source.standard_normal((points, units)) for centre in centres]).astype(
        np.float32
    )


def test_umap_keeps_groups_together_and_follows_from_its_seed() -> None:
    rows = blobs()
    places = umap(rows, 3)
    groups = places.reshape(3, 40, 2)
    within = np.linalg.norm(groups - groups.mean(1, keepdims=True), axis=2).max()
    centres = groups.mean(1)
    between = min(np.linalg.norm(centres[a] - centres[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert between > 2 * within
    assert np.array_equal(places, umap(rows, 3))


def test_pca_puts_the_widest_direction_first_whatever_its_sign() -> None:
    rows = (np.random.default_rng(1).standard_normal((500, 4)) * [0.1, 5, 1, 0.1]).astype(np.float32)
    places = pca(rows, 0)
    assert abs(np.corrcoef(places[:, 0], rows[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(places[:, 1], rows[:, 2])[0, 1]) > 0.99
    assert np.array_equal(places, pca(rows, 7))


def test_cells_hold_the_means_of_their_points() -> None:
    source = np.random.default_rng(2)
    places = source.uniform(0, 1, (2000, 2)).astype(np.float32)
    rows = np.concatenate([places, source.standard_normal((2000, 3))], 1).astype(np.float32)
    grid = bin_points(rows, places, 4, 5)
    assert grid.cells == [(row, column) for row in range(4) for column in range(4)]
    assert sum(grid.points) == 2000
    for (row, column), mean in zip(grid.cells, grid.means, strict=True):
        assert mean[0] == pytest.approx((column + 0.5) / 4, abs=0.05), "columns count from the left"
        assert mean[1] == pytest.approx((3.5 - row) / 4, abs=0.05), "rows count from the top"
    torch.testing.assert_close(grid.mean, torch.from_numpy(rows.mean(0)))
    torch.testing.assert_close(grid.moment, torch.from_numpy(rows.T @ rows / len(rows)), rtol=1e-4, atol=1e-5)


def test_whitening_turns_directions_away_from_what_all_share() -> None:
    source = np.random.default_rng(3)
    places = np.repeat([[0.1, 0.1], [0.9, 0.9]], 200, 0).astype(np.float32)
    rows = np.concatenate([np.full((400, 1), 10.0), places[:, :1], source.standard_normal((400, 2)) * 0.1], 1)
    grid = bin_points(rows.astype(np.float32), places, 2, 5)
    assert grid.cells == [(0, 1), (1, 0)]
    cosine = torch.nn.functional.cosine_similarity
    before, after = (cosine(one[0], one[1], dim=0) for one in (grid.means, grid.directions()))
    assert before > 0.99
    assert after < 0.98 * before


def test_cells_with_few_points_are_left_out_and_none_at_all_is_an_error() -> None:
    rows = blobs()
    places = rows[:, :2]
    assert all(count >= 30 for count in bin_points(rows, places, 2, 30).points)
    with pytest.raises(OptionError, match=r"no cell of 2 x 2 holds 500 of the 120 points.*fewer cells"):
        bin_points(rows, places, 2, 500)


def test_without_umap_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"gen-prior\[atlas\].*'pca'"):
        umap(blobs(), 0)


def test_an_outlier_does_not_stretch_the_grid() -> None:
    rows = np.random.default_rng(4).uniform(0, 1, (500, 2)).astype(np.float32)
    rows[7] = 1000
    grid = bin_points(rows, rows, 3, 1)
    assert len(grid.cells) == 9
    assert sum(grid.points) == 499
