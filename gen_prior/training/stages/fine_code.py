"""`detail_prior`: from a trained prior and some large photographs to a prior of finer codes, at twice its side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torchvision.utils import make_grid

from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.dgn.fine_code import SIDE, Details
from gen_prior.hub.strict_loading import load_strictly
from gen_prior.hub.tensors import read_tensors
from gen_prior.training.checkpoints import checkpoints
from gen_prior.training.export import export_detailed, save_encoder
from gen_prior.training.fit import Progress, check_run, conduct, read_photographs
from gen_prior.training.photographs import Count
from gen_prior.training.prior_file import open_prior
from gen_prior.training.stages.fine_code_trainer import DetailSettings, DetailTrainer
from gen_prior.util.files import write_bytes

SHEET_COLUMNS, SHEET_SIZES = 8, (0.3, 1.0)
FITTED = "details.safetensors"


def detail_prior(
    classifier: Classifier,
    prior: str | Path,
    images: str | Path,
    out: str | Path,
    settings: DetailSettings | None = None,
    *,
    resume: bool = False,
    log_every: int = 50,
    checkpoint_seconds: float = 240.0,
    reading: Count | None = None,
    encoding: Count | None = None,
    fitting: Count | None = None,
    progress: Progress | None = None,
) -> Path:
    """Give a prior's code a second level, for images of twice the side, and export it.

    Args:
        classifier: the one that the prior was trained on.
        prior: the folder of `train_prior`, `refine_prior`, `flow_prior` or `calm_prior`, with its
            `generator.safetensors` and `networks.safetensors`. A last stage of `refine_prior` is left out. Or that of
            `detail_prior`: its details stay, and its decoder learns on.
        images: photographs larger than the decoder's images: a folder, nested or flat, or `.tar` shards. A few hundred
            do, since `settings.crops` random squares are cut out of each.
        out: another folder, for the cache, checkpoints, `log.jsonl`, sample sheets and the result.
        settings: all that the result is a function of, beside the data and the prior; its size is the prior's doubled.
        encoding, fitting: called with how many photographs are encoded, and how many steps of the fit are done, and
            of how many, before training begins.
        resume, log_every, checkpoint_seconds, reading, progress: as of `train_prior`.

    Returns:
        The exported file; `load_generator("local-dir:OUT")` loads it.

    Raises:
        OptionError: settings that make no sense, another classifier, a folder with another run.
        WeightsError: a folder without a prior.
        ImageError: no images, too few, or most of them unreadable.
        OutputError: a folder that cannot be written to.
    """
    settings, out = settings if settings is not None else DetailSettings(), Path(out)
    check_run(images, out, settings, resume)
    network, config, metadata, digest, trunk, encoder = open_prior(Path(prior), classifier, detailed=True)
    fitted = network.details
    if fitted is not None:
        settings = replace(settings, details=config.details, detail_width=config.detail_width)
    most = config.code_channels * SIDE**2
    if not 1 <= settings.details <= most:
        raise OptionError(f"details must lie in 1 to {most}, got {settings.details}")
    if min(settings.detail_width, settings.fit_steps, settings.fit_batch) < 1:
        raise OptionError("detail_width, fit_steps and fit_batch must be at least 1")
    settings = replace(settings, size=2 * config.size, extends=digest)
    photographs = read_photographs(images, out, settings.batch, settings.size, reading, settings.crops)
    if fitted is None and resume and checkpoints(out) and (out / FITTED).is_file():
        fitted = Details(config.code_channels, settings.details, settings.detail_width)
        load_strictly(fitted, read_tensors(out / FITTED), str(out / FITTED))
    data = (trunk, classifier.normalise, photographs, settings, classifier.device)
    trainer = DetailTrainer(*data, encoder, network, fitted, encoding=encoding, fitting=fitting)
    if fitted is None:
        found = {key: value.detach().cpu().contiguous() for key, value in trainer.details.state_dict().items()}
        write_bytes(out / FITTED, save(found))
    trainer.rehearse(classifier, trainer.space)

    def sheet() -> Tensor:
        return sample_sheet(trainer)

    timing: dict[str, Any] = {"log_every": log_every, "checkpoint_seconds": checkpoint_seconds}
    conduct(trainer, out, resume=resume, sheet=sheet, progress=progress, **timing)
    save_encoder(encoder, out)
    return export_detailed(trainer, out, name=out.resolve().name, prior=metadata)


def sample_sheet(trainer: DetailTrainer) -> Tensor:
    """`[3, H, W]`: photographs, their finer codes' images; images begun at classes, their details small and whole."""
    photographs = trainer.shown(SHEET_COLUMNS)
    columns = len(photographs)
    space, decoder = trainer.space, trainer.average_decoder()
    noise = torch.randn(columns, space.numbers, generator=torch.Generator().manual_seed(0)).to(trainer.device)
    classes = 1 if space.flow is None else len(space.flow.classes)
    known = torch.linspace(0, classes - 1, columns).long().to(trainer.device)
    with torch.no_grad():
        started, details = space.natural(known, noise)
        codes = [trainer.encode(photographs)]
        codes += [space.spatial(torch.cat([started, size * details], 1)) for size in SHEET_SIZES]
        rows = [photographs, *(trainer.coring(decoder(spatial)) for spatial in codes)]
    grid: Tensor = make_grid(torch.cat([row.clamp(0, 1) for row in rows]).float().cpu(), nrow=columns)
    return grid
