"""Measures of faithfulness against scipy-free arithmetic and cases whose answer is known."""

from __future__ import annotations

import pytest
import torch

from gen_prior.report.faithfulness import path_similarity, rank_correlation, two_alternative_score


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_rank_correlation() -> None:
    rows = torch.tensor([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 1e6], [4.0, 3.0, 2.0, 1.0], [1.0, 3.0, 2.0, 4.0]])
    found = rank_correlation(rows, rows[:1])[:, 0].tolist()
    assert found == pytest.approx([1.0, 1.0, -1.0, 0.8])  # 1 - 6 * 2 / (4 * 15)
    tied = rank_correlation(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 1.0, 2.0]]))
    assert tied.item() == pytest.approx(3**0.5 / 2)  # ranks 1.5, 1.5, 3


def test_paths_lie_between_floor_and_ceiling() -> None:
    centre = noise(1, 200)
    exciting, arbitrary = centre + 0.5 * noise(8, 200, seed=1), noise(8, 200, seed=2)
    alike = path_similarity({"a": centre + 0.5 * noise(3, 200, seed=3)}, {"a": exciting}, {"a": arbitrary})
    unlike = path_similarity({"a": noise(3, 200, seed=4)}, {"a": exciting}, {"a": arbitrary})
    assert alike.normalised == pytest.approx(1, abs=0.15)
    assert unlike.normalised == pytest.approx(0, abs=0.15)
    assert alike.to_dict()["layers"]["a"][2] == pytest.approx(alike.ceiling)
    flat = path_similarity({"a": exciting}, {"a": exciting[:1].expand(4, -1)}, {"a": exciting[:1].expand(2, -1)})
    assert flat.normalised is None


def test_two_alternatives() -> None:
    most, least = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    high, low = torch.tensor([[2.0, 0.1], [3.0, 0.2]]), torch.tensor([[0.1, 1.0], [0.3, 1.0]])
    assert two_alternative_score(most, least, high, low) == 1
    assert two_alternative_score(least, most, high, low) == 0
    assert two_alternative_score(most, most, high, low) == 0.5, "pictures that say nothing leave chance"
    assert two_alternative_score(most, least, torch.cat([high[:1], low[:1]]), low[:1]) == 0.75
