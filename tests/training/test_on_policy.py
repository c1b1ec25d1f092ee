"""On-policy codes: activations rise at a fixed code norm; training with them resumes to the same bits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F
from training_runs import train_decoder, train_larger_images

import gen_prior as gp
from gen_prior.errors import OptionError
from gen_prior.generators.dgn.config import FlowConfig
from gen_prior.generators.dgn.flow import CodeFlow
from gen_prior.generators.dgn.network import Decoder, WhitenedCodes
from gen_prior.training.checkpoints import latest_checkpoint
from gen_prior.training.on_policy import LIFETIME, RADIUS, OnPolicyCodes
from gen_prior.training.stages.decoder import DecoderSettings
from gen_prior.training.stages.larger_images import RefinerSettings


def radii(codes: Tensor) -> Tensor:
    return codes.square().mean(1).sqrt()


def test_activations_of_the_pool_rise_at_a_fixed_norm(small_classifier: gp.Classifier) -> None:
    torch.manual_seed(0)
    decoder = Decoder(4, 64, 0.125)
    pool = OnPolicyCodes(small_classifier, WhitenedCodes(torch.zeros(4, 4, 4), 2 * torch.eye(64)), 8, seed=3)
    source = torch.Generator().manual_seed(0)
    assert ((radii(pool.codes) >= RADIUS[0] - 1e-5) & (radii(pool.codes) <= RADIUS[1] + 1e-5)).all()
    pool.ages.zero_()

    def activations() -> Tensor:
        with torch.no_grad():
            images = decoder(pool.codes.view(-1, 4, 4, 4) * 2).clamp(0, 1)
            return small_classifier(images).gather(1, pool.units[:, None])[:, 0]

    before, start, units = activations(), radii(pool.codes), pool.units.clone()
    sweep = len(pool.codes) // 8
    for step in range(10 * sweep):
        white, spatial = pool.draw(step, source)
        images = decoder(spatial)
        loss = pool.ascend(step, white, images, source)
        assert 0 <= float(loss.detach()) <= 1
    assert (pool.ages == 10).all()
    assert torch.equal(pool.units, units)
    torch.testing.assert_close(radii(pool.codes), start)
    assert (activations() > before).float().mean() > 0.75

    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in decoder.parameters())
    pool.ages.fill_(LIFETIME)
    kept = pool.codes.clone()
    pool.draw(0, source)
    assert (pool.codes[:8] != kept[:8]).all(), "a spent code gives its place to a fresh one"
    assert torch.equal(pool.codes[8:], kept[8:])
    assert (pool.ages[:8] == 0).all()


def test_the_decoders_loss_raises_activations(small_classifier: gp.Classifier) -> None:
    torch.manual_seed(0)
    decoder = Decoder(4, 64, 0.125)
    pool = OnPolicyCodes(small_classifier, WhitenedCodes(torch.zeros(4, 4, 4), torch.eye(64)), 16, seed=0)
    optimiser = torch.optim.Adam(decoder.parameters(), 1e-3)

    def activations() -> Tensor:
        with torch.no_grad():
            images = decoder(pool.codes[:16].view(-1, 4, 4, 4)).clamp(0, 1)
            return small_classifier(images).gather(1, pool.units[:16, None])[:, 0]

    before, start = activations(), pool.codes.clone()
    for _ in range(40):
        source = torch.Generator().manual_seed(1)
        pool.ages.zero_()
        white, spatial = pool.draw(0, source)
        loss = pool.ascend(0, white, decoder(spatial), source)
        pool.codes.copy_(start)  # only the decoder learns
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (activations() - before).mean() > 0.01


def test_with_a_flow_codes_start_at_their_class(small_classifier: gp.Classifier) -> None:
    torch.manual_seed(0)
    flow = CodeFlow(64, FlowConfig(8, 16, 2, 6, 4, 2.0))
    flow.classes.copy_(F.normalize(torch.randn(6, 8), dim=1))
    flow.exit.weight.data.normal_(std=0.1)
    space = WhitenedCodes(torch.zeros(4, 4, 4), torch.eye(64), flow)
    before = {name: value.clone() for name, value in space.state_dict().items()}
    pool = OnPolicyCodes(small_classifier, space, 16, seed=0)
    assert pool.codes.shape == (64, 8 + 64)
    assert ((radii(pool.codes) >= RADIUS[0] - 1e-5) & (radii(pool.codes) <= RADIUS[1] + 1e-5)).all()
    assert F.cosine_similarity(pool.codes[:, :8], flow.classes[pool.units]).min() > 0.9
    pool.ages.zero_()
    start, decoder, source = pool.codes.clone(), Decoder(4, 64, 0.125), torch.Generator().manual_seed(0)
    for step in range(4):
        white, spatial = pool.draw(step, source)
        pool.ascend(step, white, decoder(spatial), source)
    moved = (pool.codes - start).abs()
    assert (moved[:, :8].sum(1) > 0).all(), "features climb"
    assert (moved[:, 8:].sum(1) > 0).all(), "and so does the noise"
    assert all(torch.equal(before[name], value) for name, value in space.state_dict().items())


def test_training_with_it(
    small_classifier: gp.Classifier,
    photographs: Path,
    settings: DecoderSettings,
    tmp_path: Path,
) -> None:
    fast: dict[str, Any] = {"log_every": 10, "checkpoint_seconds": 0.0}
    train_decoder(small_classifier, photographs, tmp_path / "first", settings, **fast)
    fast["start_from"] = tmp_path / "first" / "networks.safetensors"
    rehearsing = replace(settings, on_policy=0.5, encoder_rate=0.0)
    records: list[dict[str, Any]] = []
    file = train_decoder(small_classifier, photographs, tmp_path / "whole", rehearsing, **fast, report=records.append)
    assert 0 < records[-1]["climb"] < 1

    first, last = latest_checkpoint(tmp_path / "first"), latest_checkpoint(tmp_path / "whole")
    assert first is not None
    assert last is not None
    for name, value in last["modules"]["encoder"].items():  # the networks went through float16
        torch.testing.assert_close(value, first["modules"]["encoder_average"][name], atol=1e-3, rtol=1e-3)
    with safe_open(file, "pt") as opened:
        assert json.loads(opened.metadata()["training"])["on_policy"] == 0.5

    refining = RefinerSettings(steps=10, batch=4, refiner=8, crops=3, adversarial_from=0, held_out=6, on_policy=0.5)
    train_larger_images(
        small_classifier, file.parent, photographs, tmp_path / "refined", refining, log_every=10, report=records.append
    )
    assert 0 < records[-1]["climb"] < 1


@pytest.mark.parametrize(
    ("change", "match"), [({"on_policy": 0.5}, "encoder_rate=0"), ({"on_policy": -1.0}, "0 to 4, got -1.0")]
)
def test_refusals(
    change: dict[str, Any],
    match: str,
    small_classifier: gp.Classifier,
    photographs: Path,
    settings: DecoderSettings,
    tmp_path: Path,
) -> None:
    with pytest.raises(OptionError, match=match):
        train_decoder(small_classifier, photographs, tmp_path / "out", replace(settings, **change))
    assert not (tmp_path / "out").exists()
