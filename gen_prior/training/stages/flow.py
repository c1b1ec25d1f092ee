"""`flow_prior`: a trained prior learns from photographs which codes go with which features."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torchvision.utils import make_grid

from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.dgn.config import MAX_CHANNELS
from gen_prior.generators.dgn.flow import CodeFlow
from gen_prior.generators.dgn.generator import LAYOUT_METADATA
from gen_prior.generators.dgn.network import WhiteCodes, WhitenedDecoder
from gen_prior.training.export import record_of, save_encoder, save_generator
from gen_prior.training.fit import Progress, check_run, conduct, read_photographs
from gen_prior.training.photograph_codes import head_of, read_codes, wanted_features, white_features
from gen_prior.training.photographs import Count
from gen_prior.training.prior_file import open_prior
from gen_prior.training.stages.flow_trainer import FlowSettings, FlowTrainer

SHEET_COLUMNS = 8
CODES_FILE = "codes.safetensors"


def flow_prior(
    classifier: Classifier,
    prior: str | Path,
    images: str | Path,
    out: str | Path,
    settings: FlowSettings | None = None,
    *,
    resume: bool = False,
    log_every: int = 50,
    checkpoint_seconds: float = 240.0,
    reading: Count | None = None,
    progress: Progress | None = None,
) -> Path:
    """Learn the codes of photographs by the classifier's features, and export the prior with what was learned.

    Codes of the result are wanted features, then noise; a class begins at the features that it asks for.

    Args:
        classifier: the one that the prior was trained on; its last linear layer says what each class asks for.
        prior: the folder of `train_prior` or `refine_prior`, with `generator.safetensors` and `networks.safetensors`;
            or a later one, whose flow is learned anew.
        images: the photographs that the prior was trained on, or others: a folder, nested or flat, or `.tar` shards.
        out: another folder, for the cache, checkpoints, `log.jsonl`, sample sheets and the result.
        settings: all that the flow is a function of, beside the data and the prior.
        resume, log_every, checkpoint_seconds, reading, progress: as of `train_prior`.

    Returns:
        The exported file; `load_generator("local-dir:OUT")` loads it.

    Raises:
        OptionError: settings that make no sense, another classifier, one without a linear layer, a folder with
            another run.
        WeightsError: a folder without a prior.
        ImageError: no images, too few, or most of them unreadable.
        OutputError: a folder that cannot be written to.
    """
    settings, out = settings if settings is not None else FlowSettings(), Path(out)
    check_run(images, out, settings, resume)
    head = head_of(classifier)
    check_settings(settings, head.in_features)
    network, config, metadata, digest, trunk, encoder = open_prior(Path(prior), classifier, detailed=True)
    settings = replace(settings, extends=digest)
    photographs = read_photographs(images, out, settings.batch, config.size, reading)
    space = WhiteCodes(network.mean, network.basis)
    codes = read_codes(
        classifier, trunk, encoder, space, photographs, settings.view, out / "cache" / CODES_FILE, digest, reading
    )
    features, moved = white_features(codes.features, settings.features)
    variances = network.basis.float().square().sum(0)
    trainer = FlowTrainer(codes, features, wanted_features(head, moved), variances, settings, classifier.device)
    trainer.taps = trunk.names

    def whole() -> WhitenedDecoder:
        return network.with_parts(flow=trainer.averages["flow"])

    def sheet() -> Tensor:
        return sample_sheet(whole().to(classifier.device), trainer)

    timing: dict[str, Any] = {"log_every": log_every, "checkpoint_seconds": checkpoint_seconds}
    conduct(trainer, out, resume=resume, sheet=sheet, progress=progress, **timing)
    save_encoder(encoder, out)
    flow = cast(CodeFlow, trainer.averages["flow"])
    keys = [classifier.class_key(number) for number in range(len(flow.classes))] if classifier.labels else []
    added = {
        "name": out.resolve().name,
        "config": json.dumps(whole().config.to_dict()),
        "classes": json.dumps(keys),
        "flow": json.dumps(record_of(trainer)),
        "flow_data": json.dumps(asdict(photographs.description)),
    }
    kept = {key: value for key, value in metadata.items() if key not in LAYOUT_METADATA}
    return save_generator(whole(), kept | added, out)


def check_settings(settings: FlowSettings, features: int) -> None:
    """Raises `OptionError` for settings that no flow can have."""
    if not 1 <= settings.features <= features:
        raise OptionError(f"features must lie in 1 to {features}, got {settings.features}")
    for name in ("width", "depth", "sampling_steps", "view"):
        if not 1 <= getattr(settings, name) <= MAX_CHANNELS:
            raise OptionError(f"{name} must lie in 1 to {MAX_CHANNELS}, got {getattr(settings, name)}")
    if not abs(settings.guidance) <= MAX_CHANNELS:
        raise OptionError(f"guidance must be a number of at most {MAX_CHANNELS}, got {settings.guidance}")
    if not 0 <= settings.withheld < 1:
        raise OptionError(f"withheld must lie in 0 to 1, got {settings.withheld}")


def sample_sheet(network: WhitenedDecoder, trainer: FlowTrainer) -> Tensor:
    """`[3, H, W]`: held-out codes, the flow's by the same features and other noise, and where classes begin."""
    columns = min(SHEET_COLUMNS, len(trainer.held_out))
    chosen = trainer.held_out[:columns]
    source = torch.Generator().manual_seed(0)
    noise = torch.randn(columns, network.numbers, generator=source)
    known = trainer.features[chosen]
    alike = torch.cat([known, noise[:, known.shape[1] :]], 1).to(trainer.device)
    classes = torch.linspace(0, len(cast(CodeFlow, trainer.networks["flow"]).classes) - 1, columns).long()
    with torch.no_grad():
        code = trainer.codes[chosen, 0].float().to(trainer.device)
        space = WhiteCodes(network.mean, network.basis, details=network.details)
        white = torch.cat([code, code.new_zeros(columns, space.numbers - space.coarse_numbers)], 1)
        rows = [network.draw(space.spatial(white)), network(alike)]
        rows.append(network(network.start(classes.to(trainer.device), noise.to(trainer.device))))
    grid: Tensor = make_grid(torch.cat(rows).clamp(0, 1).float().cpu(), nrow=columns)
    return grid
