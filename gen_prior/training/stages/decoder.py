"""`train_prior`: from a classifier's name and a folder of photographs to a generator that loads by its folder.

Glue over the trainer, the reading of photographs and the export; it reports and never prints.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.utils import make_grid

from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.generators.dgn.config import SIZES
from gen_prior.generators.dgn.generator import RECIPE
from gen_prior.generators.dgn.network import WhiteCodes, WhitenedDecoder
from gen_prior.optimise.synthesize import synthesize
from gen_prior.training.export import code_statistics, export, load_networks, principal_directions
from gen_prior.training.fit import Progress, check_run, conduct, read_photographs
from gen_prior.training.networks import Trunk, choose_taps
from gen_prior.training.photographs import Count
from gen_prior.training.stages.decoder_trainer import Settings, Trainer

SHEET_COLUMNS = 8
BASIS_PHOTOGRAPHS = 5_000
"""Enough for the directions in which rehearsed codes climb."""


def train_prior(
    classifier: Classifier,
    images: str | Path,
    out: str | Path,
    settings: Settings | None = None,
    *,
    resume: bool = False,
    start_from: str | Path | None = None,
    log_every: int = 50,
    checkpoint_seconds: float = 240.0,
    sheet_steps: int = 32,
    reading: Count | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a deep generator network that inverts `classifier`, and export it.

    Args:
        classifier: any convolutional classifier; it is read, never changed.
        images: a folder of photographs, nested or flat, or of `.tar` shards of them.
        out: folder for the cache of decoded photographs, checkpoints, `log.jsonl`, sample sheets and the result.
        settings: all that the result is a function of, beside the data and the classifier.
        start_from: the `networks.safetensors` of another run of the same shape, to begin with; the critics then take
            part from the first step.
        resume: go on from the newest undamaged checkpoint in `out`.
        log_every, checkpoint_seconds: steps between records, seconds between checkpoints.
        sheet_steps: steps of the activation maximisation on the sample sheet.
        reading: called as (read, images) while the photographs are decoded.
        progress: called with every record: step, steps, seconds, images_per_second, losses, checkpoint.

    Returns:
        The exported file; `load_generator("local-dir:OUT")` loads it.

    Raises:
        OptionError: settings that make no sense, a classifier without the layers it takes, a folder with another run.
        ImageError: no images, too few, or most of them unreadable.
        OutputError: a folder that cannot be written to.
    """
    settings, out = settings if settings is not None else Settings(), Path(out)
    check_settings(settings)
    check_run(images, out, settings, resume)
    networks = None
    if start_from is not None:
        networks, digest = load_networks(Path(start_from))
        settings = replace(settings, started_from=digest, adversarial_from=0)
    taps = choose_taps(classifier.network, settings.size, len(classifier.mean))
    photographs = read_photographs(images, out, settings.batch, settings.size, reading)
    trainer = Trainer(Trunk(classifier.network, taps), classifier.normalise, photographs, settings, classifier.device)
    if networks is not None:
        trainer.start_from(networks, str(start_from))
    if settings.rehearsed:
        mean, covariance = code_statistics(trainer, BASIS_PHOTOGRAPHS)
        trainer.rehearse(classifier, WhiteCodes(mean, principal_directions(covariance)))

    def sheet() -> Tensor:
        return sample_sheet(trainer, classifier, sheet_steps)

    timing: dict[str, Any] = {"log_every": log_every, "checkpoint_seconds": checkpoint_seconds}
    conduct(trainer, out, resume=resume, sheet=sheet, progress=progress, **timing)
    return export(trainer, out, name=out.resolve().name, classifier=classifier.describe(), extra={})


def check_settings(settings: Settings) -> None:
    """Raises `OptionError` for settings that no prior can have."""
    if settings.size not in SIZES:
        raise OptionError(f"size must be one of {', '.join(map(str, SIZES))}, got {settings.size}")
    if not 0 < settings.width <= 16:
        raise OptionError(f"width must lie in 0 to 16, got {settings.width}")
    if settings.rehearsed > 0 and settings.encoder_rate:
        raise OptionError(
            "codes that climb need an encoder that stays as it is", fix="pass --start-from and --set encoder_rate=0"
        )


def sample_sheet(trainer: Trainer, classifier: Classifier, steps: int) -> Tensor:
    """`[3, H, W]`: held-out photographs, their reconstructions, imagined codes, fixed targets maximised; a row each."""
    columns = min(SHEET_COLUMNS, len(trainer.held_out))
    photographs = trainer.photographs.batch(trainer.held_out[:columns], device=trainer.device)
    generator = current_generator(trainer)
    source = torch.Generator().manual_seed(0)
    imagined = torch.randn(columns, *generator.code_shape, generator=source).to(trainer.device)
    with torch.no_grad():
        decoded = trainer.average_decoder()(trainer.encode(photographs)).clamp(0, 1)
        rows = [photographs, decoded, generator(imagined)]
    classes = classifier.layer_shape("logits")[0]
    count = min(columns, classes)
    targets = [f"logits:{round(index * (classes - 1) / max(1, count - 1))}" for index in range(count)]
    made = synthesize(classifier, targets, generator, steps=steps).images[:, 0]
    grid: Tensor = make_grid([image.float().cpu() for row in [*rows, made] for image in row], nrow=columns)
    return grid


def current_generator(trainer: Trainer, photographs: int = 512) -> Generator:
    """The generator that an export would make now, its statistics taken from fewer photographs."""
    mean, covariance = code_statistics(trainer, photographs)
    network = WhitenedDecoder(deepcopy(trainer.average_decoder()), mean, principal_directions(covariance))
    generator = Generator(network, (network.basis.shape[1],), output_range=(0, 1), name="in training", recipe=RECIPE)
    return generator.to(trainer.device)
