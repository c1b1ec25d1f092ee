"""The training loop: a diverged run stops with its last finite checkpoint, resuming never starts silently anew."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gen_prior.errors import DivergedError, WeightsError
from gen_prior.training.checkpoints import checkpoints, latest_checkpoint
from gen_prior.training.settings import TrainingSettings
from gen_prior.training.trainer import Trainer


class Line(Trainer):
    """Trainer that fits a line; from step `bad` on, its loss (or only a weight) is not finite."""

    def __init__(self, bad: int = 99, weight_only: bool = False) -> None:
        super().__init__(TrainingSettings(steps=8, batch=4, precision="fp32"), torch.device("cpu"))
        self.bad, self.weight_only = bad, weight_only
        self.train_networks(line=nn.Linear(2, 1))
        self.optimisers["networks"] = torch.optim.Adam(self.networks["line"].parameters())

    def update(self, generator: torch.Generator) -> dict[str, Tensor]:
        inputs = torch.randn(4, 2, generator=generator)
        loss = (self.networks["line"](inputs) - inputs.sum(1, keepdim=True)).square().mean()
        if self.step >= self.bad and not self.weight_only:
            loss = loss * torch.nan
        self._step_optimiser(loss)
        if self.step >= self.bad:
            self.networks["line"].get_parameter("bias").data.fill_(torch.inf)
        return {"loss": loss.detach()}


@pytest.mark.parametrize("weight_only", [False, True])
def test_a_diverged_run_keeps_its_last_finite_checkpoint(weight_only: bool, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"diverged before step 6: .*Fix: train in another folder"):
        Line(bad=5, weight_only=weight_only).run(tmp_path, resume=False, log_every=2, checkpoint_seconds=0)
    state = latest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 4
    assert all(value.isfinite().all() for module in state["modules"].values() for value in module.values())

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=refuse)["step"] for line in lines] == [2, 4]


def test_resuming_says_where_it_starts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Line().run(tmp_path, resume=True, log_every=4, checkpoint_seconds=0)
    assert "holds no checkpoint; training starts at its first step" in caplog.text
    for path in checkpoints(tmp_path):
        path.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"every checkpoint in .* is damaged"):
        Line().run(tmp_path, resume=True)
