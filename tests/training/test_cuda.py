"""Training on a GPU: every kind of it, mixed precision, the same trajectory after a resumption."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import suppress_texture, train_decoder, train_fine_code, train_flow, train_larger_images

import gen_prior as gp
from gen_prior.training.prior_file import NETWORKS_FILE
from gen_prior.training.stages.decoder import DecoderSettings
from gen_prior.training.stages.fine_code import FineCodeSettings
from gen_prior.training.stages.flow import FlowSettings
from gen_prior.training.stages.larger_images import RefinerSettings
from gen_prior.training.stages.texture import TextureSettings
from gen_prior.training.trainer import ReportCallback

pytestmark = pytest.mark.gpu


def weights(folder: Path) -> bytes:
    return (folder / "generator.safetensors").read_bytes()


def test_a_prior_of_every_stage(
    small_classifier: gp.Classifier, photographs: Path, settings: DecoderSettings, tmp_path: Path
) -> None:
    classifier = small_classifier.to("cuda")
    train_decoder(classifier, photographs, tmp_path / "zeroth", settings)
    rehearsing, started = replace(settings, on_policy=0.5, encoder_rate=0.0), tmp_path / "zeroth" / NETWORKS_FILE
    train_decoder(classifier, photographs, tmp_path / "first", rehearsing, start_from=started)
    refined = RefinerSettings(steps=12, batch=4, crops=2, adversarial_from=2, on_policy=0.5, held_out=4, refiner=16)
    train_larger_images(classifier, tmp_path / "first", photographs, tmp_path / "second", refined)
    train_flow(
        classifier,
        tmp_path / "second",
        photographs,
        tmp_path / "third",
        FlowSettings(steps=12, batch=4, features=4, width=32),
    )
    suppress_texture(tmp_path / "third", tmp_path / "fourth", TextureSettings(steps=4, batch=2), device="cuda")
    detailed = FineCodeSettings(
        steps=12, batch=4, crops=2, adversarial_from=2, on_policy=0.5, held_out=4, details=12, fit_steps=20, coring=0.4
    )
    detailed = replace(detailed, grain=0.15)
    train_fine_code(classifier, tmp_path / "fourth", photographs, tmp_path / "fifth", detailed)
    train_larger_images(classifier, tmp_path / "fifth", photographs, tmp_path / "sixth", refined)
    names = ("zeroth", "first", "second", "third", "fourth", "fifth", "sixth")
    learned = ("critic", "climb", "climb", "flow", "pattern", "weak", "faithful")
    for stage, loss in zip(names, learned, strict=True):
        (record,) = (json.loads(line) for line in (tmp_path / stage / "log.jsonl").read_text().splitlines())
        assert 0 < record[loss] < 100, stage
    assert len({weights(tmp_path / stage) for stage in names}) == len(names), "every stage changes the prior"
    for stage, side in (("fourth", 128), ("fifth", 256), ("sixth", 256)):
        generator = gp.load_generator(f"local-dir:{tmp_path / stage}", device="cuda")
        image = generator(generator.initial_code(0)[None].cuda())
        assert image.shape == (1, 3, side, side)
        assert torch.isfinite(image).all()
        result = gp.synthesize(classifier, "logits:1", generator, steps=8)
        assert result.status == [["ok"]], "its activation rises"


def test_a_resumed_run_goes_the_same_way(
    small_classifier: gp.Classifier,
    photographs: Path,
    settings: DecoderSettings,
    interruption: AbstractContextManager[ReportCallback],
    tmp_path: Path,
) -> None:
    classifier = small_classifier.to("cuda")
    timing: dict[str, Any] = {"log_every": 5, "checkpoint_seconds": 0.0}
    train_decoder(classifier, photographs, tmp_path / "whole", settings, **timing)
    with interruption as stop:
        train_decoder(classifier, photographs, tmp_path / "parts", settings, report=stop, **timing)
    train_decoder(classifier, photographs, tmp_path / "parts", settings, resume=True, **timing)
    last = [json.loads((tmp_path / part / "log.jsonl").read_text().splitlines()[-1]) for part in ("whole", "parts")]
    for name in ("pixel", "feature", "critic"):  # sums on a GPU come in any order
        assert last[1][name] == pytest.approx(last[0][name], rel=0.02)
