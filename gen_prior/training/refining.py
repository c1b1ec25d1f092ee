"""The training of a last stage that doubles the side of a trained prior's images, from few but large photographs.

The prior itself is frozen. Squares of the photographs, shrunk to its size, go through its encoder and decoder; the
refiner learns to give the squares back, and to convince critics, also of imagined codes, whose images it may not
repaint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.generators.dgn_network import Refiner, WhitenedDecoder
from gen_prior.training.images import Photographs
from gen_prior.training.networks import Encoder, Trunk
from gen_prior.training.run import Run, RunSettings


@dataclass(frozen=True)
class RefinerSettings(RunSettings):
    """Everything but the data, the classifier and the prior that a refiner is a function of."""

    size: int = 128
    steps: int = 3_000
    batch: int = 16
    cooldown: float = 0.4
    adversarial_from: int = 400
    adversarial_weight: float = 0.15
    imagined: float = 0.5
    imagined_scale: tuple[float, float] = (0.6, 1.6)
    ema: float = 0.995
    held_out: int = 96
    crops: int = 12
    """Random squares of each photograph."""
    refiner: int = 48
    """Channels of the refiner."""
    faithful_weight: float = 4.0
    """Of the L1 distance between an imagined image and its refinement shrunk again."""
    refines: str = ""
    """SHA-256 of the prior's file."""


class RefinerTrainer(Run):
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
        """`encoder` and `prior`: of a run at half of `settings.size`."""
        super().__init__(trunk, normalise, photographs, settings, device)
        placed = {"device": device, "memory_format": torch.channels_last}
        self.encoder = encoder.requires_grad_(False).eval().to(**placed)
        self.prior = prior.requires_grad_(False).eval().to(**placed)
        sample = photographs.batch(self.training[:256]).to(device)
        self.small_deviations = self.feature_deviations(shrink(sample))
        self.train_networks(refiner=Refiner(settings.refiner).to(**placed))

    def reconstruct(self, photographs: Tensor) -> Tensor:
        """What the prior makes of photographs `[B, 3, S, S]`, at half their side."""
        with torch.no_grad(), self.precision():
            mean, _ = self.encoder(self.features(shrink(photographs), self.small_deviations))
            image: Tensor = self.prior.decoder(mean)
        return image.float()

    def make(
        self, photographs: Tensor, imagine: bool, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Refined reconstructions, then refined images of imagined codes; how far the latter were repainted."""
        small = self.reconstruct(photographs)
        if imagine:
            small = torch.cat([small, self.imagine(round(len(photographs) * self.settings.imagined), generator)])
        images: Tensor = self.networks["refiner"](small).float()
        count = len(photographs)
        if len(images) == count:
            return images, {}
        repainted = F.l1_loss(shrink(images[count:]), small[count:])
        return images, {"faithful": (self.settings.faithful_weight, repainted)}

    def imagine(self, count: int, generator: torch.Generator) -> Tensor:
        """Images `[count, 3, S / 2, S / 2]` of random codes, nearer to and farther from the mean than typical ones."""
        low, high = self.settings.imagined_scale
        code = torch.randn(count, self.prior.basis.shape[1], generator=generator)
        code = code * (low + (high - low) * torch.rand(count, 1, generator=generator))
        with torch.no_grad(), self.precision():
            image: Tensor = self.prior(code.to(self.device))
        return image.float()


def shrink(images: Tensor) -> Tensor:
    """`[B, 3, S, S]` -> `[B, 3, S / 2, S / 2]`, each pixel the mean of four."""
    return F.avg_pool2d(images, 2)
