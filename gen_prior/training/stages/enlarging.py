"""What the trainings share that go on from a prior to images of twice the side."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.generators.dgn.network import WhiteCodes
from gen_prior.generators.dgn.texture import coring
from gen_prior.training.gan import Run, placed
from gen_prior.training.networks import Encoder, Trunk
from gen_prior.training.photographs import Photographs
from gen_prior.training.settings import EnlargingSettings


class EnlargingRun(Run):
    """Holds the prior's encoder, which stays as it is, and so the meaning of the code.

    A subclass says what `space` the prior's codes are in.
    """

    settings: EnlargingSettings
    space: WhiteCodes

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
        self.coring = coring(settings.coring)

    def encode(self, images: Tensor) -> Tensor:
        """Spatial codes of images `[B, 3, S, S]`, one place for each 16 pixels; scaled alike at every side."""
        with torch.no_grad(), self.precision():
            code: Tensor = self.encoder(self.features(images, self.small_deviations))[0]
        return code.float()

    def imagine(self, count: int, generator: torch.Generator) -> Tensor:
        """Random spatial codes `[count, C, 4, 4]`, nearer to and farther from the mean than typical ones.

        Behind a flow, each of those that one class, drawn at random, begins with. With details, which are as large as
        photographs' or a little less or more, `[count, C, 8, 8]`.
        """
        noise = torch.randn(count, self.space.numbers, generator=generator)
        scale, size = (
            low + (high - low) * torch.rand(count, 1, generator=generator)
            for low, high in (self.settings.imagined_scale, self.settings.imagined_details)
        )
        classes = 1 if self.space.flow is None else len(self.space.flow.classes)
        known = torch.randint(classes, (count,), generator=generator).to(self.device)
        with torch.no_grad():
            coarse, details = self.space.natural(known, noise.to(self.device))
            return self.space.spatial(torch.cat([coarse * scale.to(self.device), details * size.to(self.device)], 1))

    def cored(self, made: Tensor) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Images as the exported generator shows them; how much of them coring takes away.

        Without that loss ever more would be drawn of what coring hides, where no gradient tells it to stop.
        """
        if not self.settings.coring:
            return made, {}
        seen = self.coring(made)
        return seen, {"cored": (self.settings.cored_weight, F.l1_loss(made, seen))}

    def shown(self, columns: int) -> Tensor:
        """Held-out photographs for a sample sheet, at most `columns`, far apart."""
        count = min(columns, len(self.held_out))
        apart = self.held_out[torch.linspace(0, len(self.held_out) - 1, count).long()]
        return self.photographs.batch(apart, device=self.device)


def shrink(images: Tensor) -> Tensor:
    """`[B, 3, S, S]` -> `[B, 3, S / 2, S / 2]`, each pixel the mean of four."""
    return F.avg_pool2d(images, 2)
