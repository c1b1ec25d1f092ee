"""The training of a last stage that doubles the side of a trained prior's images, from few but large photographs.

Squares of the photographs, shrunk to the prior's size, go through its encoder and decoder; the refiner learns to give
the squares back, and to convince critics, also of imagined codes, whose images it may not repaint. The decoder learns
along, slowly or not at all; the encoder, and so the meaning and the statistics of the code, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.dgn.network import Decoder, Refiner, WhitenedDecoder
from gen_prior.training.gan import placed
from gen_prior.training.networks import Encoder, Trunk
from gen_prior.training.photographs import Photographs
from gen_prior.training.settings import EnlargingSettings
from gen_prior.training.stages.enlarging import EnlargingRun, shrink


@dataclass(frozen=True)
class RefinerSettings(EnlargingSettings):
    """Everything but the data, the classifier and the prior that a refiner is a function of."""

    steps: int = 3_000
    batch: int = 16
    adversarial_from: int = 400
    imagined_scale: tuple[float, float] = (0.6, 1.6)
    refiner: int = 0
    """Its channels; 0: as many as the prior's has, 48 where it has none. With another number it begins anew."""
    faithful_weight: float = 4.0
    """Of the L1 distance between an imagined image and its refinement shrunk again."""
    decoder_rate: float = 0.3
    """The decoder's rate, as a part of the refiner's; at 0 the prior stays as it is."""
    coring: float = 0.3
    refines: str = ""
    """SHA-256 of the prior's file."""


class RefinerTrainer(EnlargingRun):
    """Trains a `Refiner` behind a frozen prior."""

    settings: RefinerSettings

    def __init__(
        self,
        trunk: Trunk,
        normalise: Callable[[Tensor], Tensor],
        photographs: Photographs,
        settings: RefinerSettings,
        device: torch.device,
        encoder: Encoder,
        prior: WhitenedDecoder,
    ) -> None:
        """`encoder` and `prior`: of a run at half of `settings.size`; a refiner of that width that it has learns on."""
        super().__init__(trunk, normalise, photographs, settings, device, encoder)
        self.space = self.prior = placed(prior.requires_grad_(False).eval(), device)
        kept = isinstance(prior.refiner, Refiner) and prior.refiner.entry.out_channels == settings.refiner
        refiner = cast(Refiner, prior.refiner) if kept else Refiner(settings.refiner)
        networks: dict[str, nn.Module] = {"refiner": placed(refiner.requires_grad_(True), device)}
        if settings.decoder_rate:
            networks["decoder"] = prior.decoder.requires_grad_(True)
        self.train_networks(**networks)

    def rate_factor(self, network: str) -> float:
        """The decoder's is the setting's."""
        return self.settings.decoder_rate if network == "decoder" else 1.0

    def codes(
        self, photographs: Tensor, imagine: bool, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Codes of photographs, then imagined ones."""
        codes = self.encode(shrink(photographs))
        if imagine:
            codes = torch.cat([codes, self.imagine(round(len(photographs) * self.settings.imagined), generator)])
        return codes, {}

    def images(self, codes: Tensor, count: int) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Refined images, cored; how far those that are no photograph's were repainted."""
        small: Tensor = self.prior.decoder(codes)
        made: Tensor = self.networks["refiner"](small.float()).float()
        images, losses = self.cored(made)
        if len(images) == count:
            return images, losses
        repainted = F.l1_loss(shrink(made[count:]), small[count:].float())
        return images, losses | {"faithful": (self.settings.faithful_weight, repainted)}

    def average_decoder(self) -> Decoder:
        """The decoder as it is exported."""
        return cast(Decoder, self.averages.get("decoder", self.prior.decoder))
