"""Stage `train_larger_images`: train a refiner that doubles the side of a prior's images, and the decoder with it.

Random squares of large photographs, shrunk to the prior's size, pass through its encoder and decoder; the refiner
learns to reconstruct the squares and to convince critics, also for sampled codes, whose images it may not repaint.
The encoder is frozen, so codes keep their meaning and statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers import Classifier
from gen_prior.generators.dgn.network import Decoder, Refiner, WhitenedCodes
from gen_prior.training.enlarging import EnlargingSettings, EnlargingTrainer, shrink
from gen_prior.training.fit import SHEET_COLUMNS, RunOptions, check_run, contact_sheet, fit, read_photographs
from gen_prior.training.gan import Losses
from gen_prior.training.networks import to_channels_last
from gen_prior.training.photographs import Photographs
from gen_prior.training.prior_file import Prior, open_prior, save_encoder, save_generator
from gen_prior.util.progress import ProgressCallback

if TYPE_CHECKING:
    from typing_extensions import Unpack

WIDTH = 48
"""Channels of a refiner, where neither the settings nor the prior say."""


@dataclass(frozen=True)
class RefinerSettings(EnlargingSettings):
    """All that a refiner is a function of, beside the photographs, the classifier and the prior."""

    steps: int = 3_000
    batch: int = 16
    adversarial_from: int = 400
    sampled_scale: tuple[float, float] = (0.6, 1.6)
    refiner: int = 0
    """Its channels; 0: those of the prior's refiner, or 48. With another number it is initialised anew."""
    faithful_weight: float = 4.0
    """Weight of the L1 distance between a sampled image and its refinement, shrunk again."""
    decoder_rate: float = 0.3
    """Factor on the decoder's learning rate; 0: frozen."""
    coring: float = 0.3


class RefinerTrainer(EnlargingTrainer):
    """Trains a `Refiner` behind a prior, and its decoder."""

    settings: RefinerSettings

    def __init__(self, prior: Prior, photographs: Photographs, settings: RefinerSettings) -> None:
        """`prior`: its refiner is trained on if it has `settings.refiner` channels."""
        super().__init__(prior, photographs, settings)
        network = self.space = self.prior = to_channels_last(prior.network.requires_grad_(False).eval(), self.device)
        kept = isinstance(network.refiner, Refiner) and network.refiner.entry.out_channels == settings.refiner
        refiner = cast(Refiner, network.refiner) if kept else Refiner(settings.refiner)
        networks: dict[str, nn.Module] = {"refiner": to_channels_last(refiner.requires_grad_(True), self.device)}
        if settings.decoder_rate:
            networks["decoder"] = network.decoder.requires_grad_(True)
        self.rate_factors = {"decoder": settings.decoder_rate}
        self.train_networks(**networks)

    def codes(self, photographs: Tensor, sample: bool, generator: torch.Generator) -> tuple[Tensor, Losses]:
        codes = self.encode(shrink(photographs))
        return (self.with_sampled(codes, generator) if sample else codes), {}

    def images(self, codes: Tensor, count: int) -> tuple[Tensor, Losses]:
        """Refined images after coring; the distance of sampled ones, shrunk, from the decoder's images."""
        small: Tensor = self.prior.decoder(codes)
        made: Tensor = self.networks["refiner"](small.float()).float()
        images, losses = self.cored(made)
        if len(images) == count:
            return images, losses
        repainted = F.l1_loss(shrink(made[count:]), small[count:].float())
        return images, losses | {"faithful": (self.settings.faithful_weight, repainted)}

    def average_decoder(self) -> Decoder:
        return cast(Decoder, self.averages.get("decoder", self.prior.decoder))


def train_larger_images(
    classifier: Classifier,
    prior: str | Path,
    images: str | Path,
    out: str | Path,
    settings: RefinerSettings | None = None,
    *,
    resume: bool = False,
    progress: ProgressCallback | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train a refiner that doubles the side of a prior's images, and export both as one generator.

    Args:
        classifier: the one that the prior was trained on.
        prior: the folder of an earlier stage; a refiner that it has is trained on, unless `train_fine_code` was the
            last.
        images: photographs larger than the prior's images: a folder, nested or flat, or `.tar` shards. A few hundred
            are enough, since `settings.crops` random squares are cut out of each.
        out: another folder.
        settings: their size is set to twice the prior's.
        resume, progress, options: as for `train_decoder`.

    Returns and raises as `train_decoder`; also `WeightsError` for a folder without a prior, and `OptionError` for
    another classifier.
    """
    settings, out = settings if settings is not None else RefinerSettings(), Path(out)
    check_run(images, out, settings, resume)
    parent = open_prior(Path(prior), classifier)
    network, config = parent.network, parent.network.config
    width = settings.refiner or config.refiner or WIDTH
    settings = replace(settings, size=2 * config.decoder_side, parent_sha256=parent.sha256, refiner=width)
    photographs = read_photographs(images, out, settings.batch, settings.size, progress, settings.crops)
    trainer = RefinerTrainer(parent, photographs, settings)
    trainer.add_on_policy(WhitenedCodes(network.mean, network.basis, network.flow, network.details))
    fit(trainer, out, lambda: sample_sheet(trainer), resume=resume, **options)
    save_encoder(parent.encoder, out)
    whole = network.with_parts(
        decoder=trainer.average_decoder(),
        refiner=trainer.averages["refiner"],
        coring=settings.coring,
        grain=settings.grain,
    )
    return save_generator(whole, trainer.metadata(parent.metadata, "refining"), out)


def sample_sheet(trainer: RefinerTrainer) -> Tensor:
    """`[3, H, W]`, rows: photographs, their codes' images enlarged and refined; sampled codes' enlarged and refined."""
    photographs = trainer.held_out_batch(SHEET_COLUMNS)
    columns = len(photographs)
    codes = torch.cat([trainer.encode(shrink(photographs)), trainer.sample(columns, torch.Generator().manual_seed(0))])
    with torch.no_grad():
        small = trainer.average_decoder()(codes)
        refined = trainer.coring(trainer.averages["refiner"](small))
    enlarged = F.interpolate(small.clamp(0, 1), scale_factor=2.0, mode="bilinear", align_corners=False)
    return contact_sheet([photographs, enlarged[:columns], refined[:columns], enlarged[columns:], refined[columns:]])
