"""Short names for the training stages: each runs one by `run_stage` and returns the file that it exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gen_prior as gp
from gen_prior.training.stage import run_stage
from gen_prior.training.stages import STAGES


def train_decoder(classifier: gp.Classifier, images: Path, out: Path, settings: Any = None, **options: Any) -> Path:
    return run_stage(STAGES["decoder"], out, settings, classifier=classifier, images=images, **options)


def extend(
    name: str, classifier: gp.Classifier, prior: Path, images: Path, out: Path, settings: Any = None, **options: Any
) -> Path:
    return run_stage(STAGES[name], out, settings, classifier=classifier, prior=prior, images=images, **options)


def train_larger_images(*arguments: Any, **options: Any) -> Path:
    return extend("larger-images", *arguments, **options)


def train_fine_code(*arguments: Any, **options: Any) -> Path:
    return extend("fine-code", *arguments, **options)


def train_flow(*arguments: Any, **options: Any) -> Path:
    return extend("flow", *arguments, **options)


def add_class_exemplars(*arguments: Any, **options: Any) -> Path:
    return extend("class-exemplars", *arguments, **options)


def suppress_texture(prior: Path, out: Path, settings: Any = None, **options: Any) -> Path:
    return run_stage(STAGES["texture"], out, settings, prior=prior, **options)
