"""`refine_prior`: from a trained prior and some large photographs to the same prior at twice its side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from gen_prior.classifiers import Classifier
from gen_prior.generators.dgn.network import WhiteCodes
from gen_prior.training.export import export_refined, save_encoder
from gen_prior.training.fit import Progress, check_run, conduct, read_photographs
from gen_prior.training.photographs import Count
from gen_prior.training.prior_file import open_prior
from gen_prior.training.stages.enlarging import shrink
from gen_prior.training.stages.larger_images_trainer import RefinerSettings, RefinerTrainer

SHEET_COLUMNS = 8
WIDTH = 48
"""Channels of a refiner, where nothing else is wanted."""


def refine_prior(
    classifier: Classifier,
    prior: str | Path,
    images: str | Path,
    out: str | Path,
    settings: RefinerSettings | None = None,
    *,
    resume: bool = False,
    log_every: int = 50,
    checkpoint_seconds: float = 240.0,
    reading: Count | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a last stage that doubles the side of a prior's images, and export both as one generator.

    Args:
        classifier: the one that the prior was trained on.
        prior: the folder of `train_prior`, with its `generator.safetensors` and `networks.safetensors`; that of
            `refine_prior`, `flow_prior` or `calm_prior`, whose last stage then learns on; or that of `detail_prior`.
        images: photographs larger than the prior's images: a folder, nested or flat, or `.tar` shards. A few hundred
            do, since `settings.crops` random squares are cut out of each.
        out: another folder, for the cache, checkpoints, `log.jsonl`, sample sheets and the result.
        settings: all that the result is a function of, beside the data and the prior; its size is the prior's doubled.
        resume, log_every, checkpoint_seconds, reading, progress: as of `train_prior`.

    Returns:
        The exported file; `load_generator("local-dir:OUT")` loads it.

    Raises:
        OptionError: settings that make no sense, another classifier, a folder with another run.
        WeightsError: a folder without a prior.
        ImageError: no images, too few, or most of them unreadable.
        OutputError: a folder that cannot be written to.
    """
    settings, out = settings if settings is not None else RefinerSettings(), Path(out)
    check_run(images, out, settings, resume)
    network, config, metadata, digest, trunk, encoder = open_prior(Path(prior), classifier, detailed=True)
    width = settings.refiner or config.refiner or WIDTH
    settings = replace(settings, size=2 * config.decoder_side, refines=digest, refiner=width)
    photographs = read_photographs(images, out, settings.batch, settings.size, reading, settings.crops)
    trainer = RefinerTrainer(trunk, classifier.normalise, photographs, settings, classifier.device, encoder, network)
    trainer.rehearse(classifier, WhiteCodes(network.mean, network.basis, network.flow, network.details))

    def sheet() -> Tensor:
        return sample_sheet(trainer)

    timing: dict[str, Any] = {"log_every": log_every, "checkpoint_seconds": checkpoint_seconds}
    conduct(trainer, out, resume=resume, sheet=sheet, progress=progress, **timing)
    save_encoder(encoder, out)
    return export_refined(trainer, out, name=out.resolve().name, prior=metadata)


def sample_sheet(trainer: RefinerTrainer) -> Tensor:
    """`[3, H, W]`: photographs, what the prior makes of them, the same refined; imagined images, the same refined."""
    photographs = trainer.shown(SHEET_COLUMNS)
    columns = len(photographs)
    codes = torch.cat([trainer.encode(shrink(photographs)), trainer.imagine(columns, torch.Generator().manual_seed(0))])
    with torch.no_grad():
        small = trainer.average_decoder()(codes)
        refined = trainer.coring(trainer.averages["refiner"](small)).clamp(0, 1)
    enlarged = F.interpolate(small.clamp(0, 1), scale_factor=2.0, mode="bilinear", align_corners=False)
    rows = [photographs, enlarged[:columns], refined[:columns], enlarged[columns:], refined[columns:]]
    grid: Tensor = make_grid(torch.cat(rows).float().cpu(), nrow=columns)
    return grid
