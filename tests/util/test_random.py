"""One stream per seed, the same in every batch."""

from __future__ import annotations

import torch

from gen_prior.util.random import MAX_SEED, Streams

CPU = torch.device("cpu")


def test_draws_depend_on_the_items_own_seed_only() -> None:
    together, alone = Streams([3, 9, 4], CPU), Streams([9], CPU)
    assert torch.equal(together.uniform(5, 4)[:, 1], alone.uniform(5, 4)[:, 0])
    assert torch.equal(together.normal((2, 3))[1], alone.normal((2, 3))[0])
    assert torch.equal(together.normal((7,))[1], alone.normal((7,))[0])


def test_shapes_and_distributions() -> None:
    streams = Streams([0, MAX_SEED], CPU)
    uniform, normal = streams.uniform(2000, 3), streams.normal((4000,))
    assert uniform.shape == (2000, 2, 3)
    assert normal.shape == (2, 4000)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    torch.testing.assert_close(uniform.mean((0, 2)), torch.tensor([0.5, 0.5]), rtol=0, atol=0.03)
    torch.testing.assert_close(normal.std(1), torch.ones(2), rtol=0, atol=0.05)
    assert torch.corrcoef(normal)[0, 1].abs() < 0.06


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    streams = Streams([1], CPU)
    streams.uniform(2, 2)
    streams.normal((2,))
    assert torch.equal(torch.rand(3), expected)


def test_no_draws_are_no_draws() -> None:
    assert Streams([1, 2], CPU).uniform(3, 0).shape == (3, 2, 0)
