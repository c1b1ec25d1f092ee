"""Stage "larger images": a refiner that doubles the side of a prior's images, and the decoder with it.

Random squares of large photographs, shrunk to the prior's size, pass through its encoder and decoder; the refiner
learns to reconstruct the squares and to convince critics, also for sampled codes, whose images it may not repaint.
The encoder is frozen, so codes keep their meaning and statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.dgn.network import Refiner, WhitenedCodes, WhitenedDecoder
from gen_prior.training.gan import EnlargingStage, Losses, shrink
from gen_prior.training.networks import to_channels_last
from gen_prior.training.prior_file import Prior
from gen_prior.training.settings import EnlargingSettings
from gen_prior.training.stage import Material

WIDTH = 48
"""Channels of a refiner, where neither the settings nor the prior say."""


@dataclass(frozen=True)
class RefinerSettings(EnlargingSettings):
    """All that a refiner is a function of, beside the photographs, the classifier and the prior."""

    steps: int = 3_000
    adversarial_from: int = 400
    sampled_scale: tuple[float, float] = (0.6, 1.6)
    refiner: int = 0
    """Its channels; 0: those of the prior's refiner, or 48. With another number it is initialised anew."""
    faithful_weight: float = 4.0
    """Weight of the L1 distance between a sampled image and its refinement, shrunk again."""
    decoder_rate: float = 0.3
    """Factor on the decoder's learning rate; 0: frozen."""
    coring: float = 0.3


class LargerImagesStage(EnlargingStage):
    """Trains a `Refiner` behind a prior, and its decoder."""

    Settings = RefinerSettings
    record = "refining"
    settings: RefinerSettings

    def __init__(self, material: Material, settings: RefinerSettings) -> None:
        """`material.prior`: its refiner is trained on if it has `settings.refiner` channels."""
        super().__init__(material, settings)
        network = to_channels_last(self.prior.requires_grad_(False).eval(), self.device)
        self.space = network
        kept = isinstance(network.refiner, Refiner) and network.refiner.entry.out_channels == settings.refiner
        refiner = cast(Refiner, network.refiner) if kept else Refiner(settings.refiner)
        networks: dict[str, nn.Module] = {"refiner": to_channels_last(refiner.requires_grad_(True), self.device)}
        if settings.decoder_rate:
            networks["decoder"] = network.decoder.requires_grad_(True)
        self.rate_factors = {"decoder": settings.decoder_rate}
        self.train_networks(**networks)
        self.add_on_policy(WhitenedCodes(network.mean, network.basis, network.flow, network.details))

    @classmethod
    def completed(cls, settings: RefinerSettings, prior: Prior) -> RefinerSettings:
        config = prior.network.config
        return replace(settings, size=2 * config.decoder_side, refiner=settings.refiner or config.refiner or WIDTH)

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

    def network(self, *, final: bool = False) -> WhitenedDecoder:
        settings, refiner = self.settings, self.averages["refiner"]
        decoder = self.average_decoder()
        return self.prior.with_parts(decoder=decoder, refiner=refiner, coring=settings.coring, grain=settings.grain)
