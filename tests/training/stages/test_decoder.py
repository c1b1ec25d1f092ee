"""train_decoder on thirty steps: it trains, resumes to the same bits, exports, and refuses early."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from training_runs import train_decoder

import gen_prior as gp
from gen_prior.errors import ImageError, OptionError, WeightsError
from gen_prior.training.checkpoints import checkpoints, latest_checkpoint
from gen_prior.training.stages.decoder import DecoderSettings
from gen_prior.training.trainer import ReportCallback, truncate_log


def train(classifier: gp.Classifier, images: Path, out: Path, settings: DecoderSettings, **options: Any) -> Path:
    fast: dict[str, Any] = {"log_every": 10, "checkpoint_seconds": 0.0}
    return train_decoder(classifier, images, out, settings, **{**fast, **options})


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_trains_resumes_to_the_same_bits_and_exports(
    small_classifier: gp.Classifier,
    photographs: Path,
    settings: DecoderSettings,
    interruption: AbstractContextManager[ReportCallback],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    records: list[dict[str, Any]] = []
    file = train(small_classifier, photographs, tmp_path / "whole", settings, report=records.append)

    # What the log, the sheets and the checkpoints hold.
    assert [record["step"] for record in records] == [10, 20, 30]
    assert all(record["steps"] == 30 and record["checkpoint"] for record in records)
    assert "fool" not in records[0]
    assert "fool" in records[-1]
    logged = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [line["pixel"] for line in logged] == [record["pixel"] for record in records]
    assert [path.name for path in checkpoints(tmp_path / "whole")] == [
        "checkpoint-00000030.pt",
        "checkpoint-00000020.pt",
    ]
    with Image.open(tmp_path / "whole" / "sheet.png") as sheet:
        assert sheet.height == 4 * 66 + 2  # photographs, reconstructions, initial codes, the same nearer to the mean

    # The export is a generator like any other.
    generator = gp.load_generator(f"local-dir:{tmp_path / 'whole'}", device="cpu")
    assert file.name == "generator.safetensors"
    assert generator.image_shape() == (64, 64)
    result = gp.synthesize(small_classifier, "logits:2", generator, steps=5)
    assert result.images.isfinite().all()

    # Interrupted after 20 steps, its newest checkpoint damaged, it goes on from step 10 to the same weights.
    resumed = tmp_path / "resumed"
    with interruption as stop:
        train(small_classifier, photographs, resumed, settings, report=stop)
    newest = checkpoints(resumed)[0]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        train(small_classifier, photographs, resumed, settings, resume=True)
    assert f"{newest} is damaged" in caplog.text
    left, right = latest_checkpoint(tmp_path / "whole"), latest_checkpoint(resumed)
    assert left is not None
    assert right is not None
    for part in ("modules", "optimisers", "step", "settings", "hook_layers"):
        assert same(left[part], right[part]), part
    again = gp.load_generator(f"local-dir:{resumed}", device="cpu")
    code = generator.initial_code(0)[None]
    assert torch.equal(generator(code), again(code))
    steps = [json.loads(line)["step"] for line in (resumed / "log.jsonl").read_text().splitlines()]
    assert steps == [10, 20, 30]

    # A folder with a run is not overwritten, and goes on with its own settings only.
    with pytest.raises(OptionError, match=r"holds a training run.*--resume"):
        train(small_classifier, photographs, resumed, settings)
    with pytest.raises(OptionError, match="batch 4, not 8"):
        train(small_classifier, photographs, resumed, replace(settings, batch=8), resume=True)


def test_metadata_says_how_it_was_made(
    small_classifier: gp.Classifier, photographs: Path, settings: DecoderSettings, tmp_path: Path
) -> None:
    file = train(small_classifier, photographs, tmp_path / "prior", replace(settings, steps=2))
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert metadata["name"] == "prior"
    assert json.loads(metadata["training"])["steps_done"] == 2
    assert json.loads(metadata["training"])["seed"] == 0
    assert json.loads(metadata["data"])["images"] == 40
    assert len(json.loads(metadata["data"])["listing_sha256"]) == 64
    assert json.loads(metadata["classifier"])["name"] == "small"
    assert len(json.loads(metadata["taps"])) == 3


def test_another_run_begins_where_one_ended(
    small_classifier: gp.Classifier, photographs: Path, settings: DecoderSettings, tmp_path: Path
) -> None:
    file = train(small_classifier, photographs, tmp_path / "first", replace(settings, steps=4))
    networks = file.with_name("networks.safetensors")
    tiny_step = replace(settings, steps=1, rate=1e-9, critic_rate=1e-9)
    second = train(small_classifier, photographs, tmp_path / "second", tiny_step, start_from=networks)
    left, right = (load_file(path) for path in (file, second))
    for name in (name for name in left if name.startswith("decoder.")):
        torch.testing.assert_close(left[name], right[name], atol=1e-3, rtol=1e-2)
    with safe_open(second, "pt") as opened:
        training = json.loads(opened.metadata()["training"])
    assert training["started_from"] == hashlib.sha256(networks.read_bytes()).hexdigest()
    networks.write_bytes(networks.read_bytes()[:-5])
    with pytest.raises(WeightsError, match=r"networks\.safetensors"):
        train(small_classifier, photographs, tmp_path / "third", tiny_step, start_from=networks)


def test_training_lowers_the_pixel_loss(
    small_classifier: gp.Classifier, photographs: Path, settings: DecoderSettings, tmp_path: Path
) -> None:
    records: list[dict[str, Any]] = []
    plain = replace(settings, steps=60, adversarial_from=1000, rate=5e-3)
    train(small_classifier, photographs, tmp_path, plain, checkpoint_seconds=1e9, report=records.append)
    assert records[-1]["pixel"] < 0.95 * records[0]["pixel"]


def test_refusals_come_before_the_work(
    small_classifier: gp.Classifier,
    make_convolutional: Callable[..., nn.Module],
    photographs: Path,
    settings: DecoderSettings,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"

    def refuse(error: type[Exception], match: str, images: Path = photographs, **changes: Any) -> None:
        with pytest.raises(error, match=match) as caught:
            train(small_classifier, images, out, replace(settings, **changes))
        assert "\n" not in str(caught.value)
        assert not list(out.glob("*.pt"))

    refuse(OptionError, "size must be one of 64, 128, 256", size=96)
    refuse(OptionError, "steps must be at least 1", steps=0)
    refuse(OptionError, "batch must be at least 2", batch=1)
    refuse(OptionError, "width must lie", width=0.0)
    refuse(ImageError, "no such folder", images=tmp_path / "nowhere")
    refuse(ImageError, "40 readable images are too few for batches of 32", batch=32)
    flat = gp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)), input_size=64, name="flat")
    with pytest.raises(OptionError, match="flat has no layer whose output has places"):
        train(flat, photographs, out, settings)
    fixed = gp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 9, 5)), input_size=3, name="fixed")
    with pytest.raises(OptionError, match="fixed has no layer whose output has places"):
        train(fixed, photographs, out, settings)


def test_grey_classifiers_have_priors_too(
    make_convolutional: Callable[..., nn.Module], photographs: Path, settings: DecoderSettings, tmp_path: Path
) -> None:
    grey = gp.Classifier(make_convolutional(1), mean=[0.5], std=[0.25], input_size=64, name="grey")
    train(grey, photographs, tmp_path, replace(settings, steps=2))
    assert gp.load_generator(f"local-dir:{tmp_path}", device="cpu").image_shape() == (64, 64)


def test_logs_lose_what_a_resumed_run_makes_again(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    truncate_log(path, 3)
    assert not path.exists()
    path.write_text('{"step": 1}\n{"step": 3}\n[]\n{"step": 5}\n{"step": ')
    truncate_log(path, 3)
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'
