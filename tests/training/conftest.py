"""A tiny convolutional classifier that training can invert, generated photographs, and a way to interrupt a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from training_runs import train_decoder

import gen_prior as gp
from gen_prior.training.stages.decoder import DecoderSettings
from gen_prior.training.trainer import ReportCallback


def convolutional(inputs: int = 3) -> nn.Module:
    """Normalised `[B, inputs, 64, 64]` -> logits `[B, 6]`, by way of sides 16, 8 and 4."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(inputs, 8, 4, stride=4),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, stride=2, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 6),
        ).eval()


@pytest.fixture(scope="session")
def make_convolutional() -> Callable[..., nn.Module]:
    """`make(inputs=3)` -> the network of `small_classifier`, bare."""
    return convolutional


@pytest.fixture
def small_classifier() -> gp.Classifier:
    """Six classes at 64 pixels."""
    return gp.Classifier(convolutional(), input_size=64, name="small")


@pytest.fixture(scope="session")
def settings() -> DecoderSettings:
    """Thirty steps of a narrow network, the critics taking part from the tenth on."""
    return DecoderSettings(
        steps=30, batch=4, width=0.125, code_channels=4, adversarial_from=10, held_out=4, cooldown=0.5
    )


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nested folder of 40 PNGs of coloured shapes, of several sizes."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for index in range(40):
        height, width = 64 + index % 3 * 8, 64 + index % 5 * 8
        picture = np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)
        top, left = random.integers(0, 32, 2)
        picture[top : top + 24, left : left + 24] = random.integers(0, 256, 3)
        path = folder / f"class{index % 4}" / f"{index:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
    return folder


@pytest.fixture(scope="session")
def prior(photographs: Path, settings: DecoderSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a prior of 64 pixels, trained for the small classifier; not to be written to."""
    out = tmp_path_factory.mktemp("prior")
    classifier = gp.Classifier(convolutional(), input_size=64, name="small")
    train_decoder(classifier, photographs, out, settings, checkpoint_seconds=1e9)
    return out


class _StopError(BaseException):
    """No `Exception`, as Ctrl-C is none."""


@contextmanager
def interrupt() -> Iterator[ReportCallback]:
    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 20:
            raise _StopError

    with pytest.raises(_StopError):
        yield stop


@pytest.fixture
def interruption() -> AbstractContextManager[ReportCallback]:
    """`with interruption as stop:` a run whose `progress` is `stop` ends, as it must, at its record of step 20."""
    return interrupt()
