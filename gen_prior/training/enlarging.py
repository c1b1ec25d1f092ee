"""What the trainings share that go on from a prior to images of twice the side."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.training.images import Photographs
from gen_prior.training.networks import Encoder, Trunk
from gen_prior.training.run import Run, placed
from gen_prior.training.settings import EnlargingSettings


class EnlargingRun(Run):
    """Holds the prior's encoder, which stays as it is, and so the meaning of the code."""

    settings: EnlargingSettings

    def __init__(
        self,
        trunk: Trunk,
        normalise: Callable[[Tensor], Tensor],
        photographs: Photographs,
        settings: EnlargingSettings,
        device: torch.device,
        encoder: Encoder,
    ) -> None:
        """`encoder`: of a run at half of `settings.size`."""
        super().__init__(trunk, normalise, photographs, settings, device)
        self.encoder = placed(encoder.requires_grad_(False).eval(), device)
        sample = photographs.batch(self.training[:256], device=device)
        self.small_deviations = self.feature_deviations(shrink(sample))

    def encode(self, images: Tensor) -> Tensor:
        """Spatial codes of images `[B, 3, S, S]`, one place for each 16 pixels; scaled alike at every side."""
        with torch.no_grad(), self.precision():
            code: Tensor = self.encoder(self.features(images, self.small_deviations))[0]
        return code.float()

    def shown(self, columns: int) -> Tensor:
        """Held-out photographs for a sample sheet, at most `columns`, far apart."""
        count = min(columns, len(self.held_out))
        apart = self.held_out[torch.linspace(0, len(self.held_out) - 1, count).long()]
        return self.photographs.batch(apart, device=self.device)


def shrink(images: Tensor) -> Tensor:
    """`[B, 3, S, S]` -> `[B, 3, S / 2, S / 2]`, each pixel the mean of four."""
    return F.avg_pool2d(images, 2)
