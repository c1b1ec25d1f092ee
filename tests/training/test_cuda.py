"""Training on a GPU: every kind of it, mixed precision, the same trajectory after a resumption."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gen_prior as gp
from gen_prior.training.export import NETWORKS_FILE
from gen_prior.training.fit import Progress
from gen_prior.training.stages.decoder import train_prior
from gen_prior.training.stages.decoder_trainer import Settings
from gen_prior.training.stages.fine_code import detail_prior
from gen_prior.training.stages.fine_code_trainer import DetailSettings
from gen_prior.training.stages.flow import FlowSettings, flow_prior
from gen_prior.training.stages.larger_images import refine_prior
from gen_prior.training.stages.larger_images_trainer import RefinerSettings
from gen_prior.training.stages.texture import CalmSettings, calm_prior

pytestmark = pytest.mark.gpu


def weights(folder: Path) -> bytes:
    return (folder / "generator.safetensors").read_bytes()


def test_a_prior_of_every_stage(
    small_classifier: gp.Classifier, photographs: Path, settings: Settings, tmp_path: Path
) -> None:
    classifier = small_classifier.to("cuda")
    train_prior(classifier, photographs, tmp_path / "zeroth", settings, sheet_steps=1)
    rehearsing, started = replace(settings, rehearsed=0.5, encoder_rate=0.0), tmp_path / "zeroth" / NETWORKS_FILE
    train_prior(classifier, photographs, tmp_path / "first", rehearsing, start_from=started, sheet_steps=1)
    refined = RefinerSettings(steps=12, batch=4, crops=2, adversarial_from=2, rehearsed=0.5, held_out=4, refiner=16)
    refine_prior(classifier, tmp_path / "first", photographs, tmp_path / "second", refined)
    flow_prior(
        classifier,
        tmp_path / "second",
        photographs,
        tmp_path / "third",
        FlowSettings(steps=12, batch=4, features=4, width=32),
    )
    calm_prior(tmp_path / "third", tmp_path / "fourth", CalmSettings(steps=4, batch=2), device="cuda")
    detailed = DetailSettings(
        steps=12, batch=4, crops=2, adversarial_from=2, rehearsed=0.5, held_out=4, details=12, fit_steps=20, coring=0.4
    )
    detailed = replace(detailed, grain=0.15)
    detail_prior(classifier, tmp_path / "fourth", photographs, tmp_path / "fifth", detailed)
    refine_prior(classifier, tmp_path / "fifth", photographs, tmp_path / "sixth", refined)
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
    settings: Settings,
    interruption: AbstractContextManager[Progress],
    tmp_path: Path,
) -> None:
    classifier, timing = small_classifier.to("cuda"), {"log_every": 5, "checkpoint_seconds": 0.0, "sheet_steps": 1}
    train_prior(classifier, photographs, tmp_path / "whole", settings, **timing)
    with interruption as stop:
        train_prior(classifier, photographs, tmp_path / "parts", settings, progress=stop, **timing)
    train_prior(classifier, photographs, tmp_path / "parts", settings, resume=True, **timing)
    last = [json.loads((tmp_path / part / "log.jsonl").read_text().splitlines()[-1]) for part in ("whole", "parts")]
    for name in ("pixel", "feature", "critic"):  # sums on a GPU come in any order
        assert last[1][name] == pytest.approx(last[0][name], rel=0.02)
