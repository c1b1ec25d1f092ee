"""Base of the stages that extend a prior to images of twice the side, by a few hundred large photographs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.errors import OptionError
from gen_prior.generators.dgn.network import WhitenedCodes
from gen_prior.generators.dgn.texture import coring
from gen_prior.training.gan import SAMPLE, GanTrainer, Losses
from gen_prior.training.networks import to_channels_last
from gen_prior.training.photographs import Photographs
from gen_prior.training.prior_file import Prior, next_number, run_record
from gen_prior.training.settings import GanSettings


@dataclass(frozen=True)
class EnlargingSettings(GanSettings):
    """Settings of the stages that double the side of a prior's images."""

    size: int = 128
    cooldown: float = 0.4
    adversarial_weight: float = 0.15
    ema: float = 0.995
    held_out: int = 96
    crops: int = 12
    """Random squares cut out of each photograph."""
    coring: float = 0.0
    """Limit of fine contrast relative to that at coarser scales in the exported generator; 0: none."""
    grain: float = 0.0
    """Strength of the grain of the exported generator, which doubles the side of its images; 0: none."""
    cored_weight: float = 4.0
    """Weight of the L1 loss on texture that coring removes."""
    sampled_details: tuple[float, float] = (0.7, 1.2)
    """Range of factors on the fine part of sampled codes, where they have one."""
    parent_sha256: str = ""
    """SHA-256 of the file of the prior that is extended."""

    def check(self) -> None:
        super().check()
        for name in ("coring", "grain"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"{name} must be a finite number, not negative, got {getattr(self, name)}")


class EnlargingTrainer(GanTrainer):
    """Trains with the prior's encoder, which is frozen, so that codes keep their meaning.

    A subclass sets `space`, the space of the prior's codes.
    """

    settings: EnlargingSettings
    space: WhitenedCodes

    def __init__(self, prior: Prior, photographs: Photographs, settings: EnlargingSettings) -> None:
        """`prior`: its decoder's images have half of `settings.size`."""
        super().__init__(prior.extractor, photographs, settings)
        self.encoder = to_channels_last(prior.encoder.requires_grad_(False).eval(), self.device)
        self.small_stds = self.extractor.stds(shrink(photographs.batch(self.training[:SAMPLE], device=self.device)))
        self.coring = coring(settings.coring)

    def encode(self, images: Tensor) -> Tensor:
        """Spatial codes of images `[B, 3, S, S]`, one position per 16 pixels; features are scaled alike at any S."""
        with torch.no_grad(), self.autocast():
            code: Tensor = self.encoder(self.extractor.scaled(images, self.small_stds))[0]
        return code.float()

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Random spatial codes `[count, C, 4, 4]` (with a fine part `[count, C, 8, 8]`), scaled by random factors.

        With a flow, each is an initial code of a random class.
        """
        settings = self.settings
        noise = torch.randn(count, self.space.dims, generator=generator)
        scale, size = (
            low + (high - low) * torch.rand(count, 1, generator=generator)
            for low, high in (settings.sampled_scale, settings.sampled_details)
        )
        classes = 1 if self.space.flow is None else len(self.space.flow.classes)
        chosen = torch.randint(classes, (count,), generator=generator).to(self.device)
        with torch.no_grad():
            coarse, details = self.space.sample(chosen, noise.to(self.device))
            return self.space.spatial(torch.cat([coarse * scale.to(self.device), details * size.to(self.device)], 1))

    def with_sampled(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Photographs' spatial codes, followed by sampled ones."""
        return torch.cat([codes, self.sample(round(len(codes) * self.settings.sampled), generator)])

    def cored(self, images: Tensor) -> tuple[Tensor, Losses]:
        """Images after coring, as the exported generator shows them; the L1 loss on what coring removes.

        Without that loss the network would draw ever more texture that coring hides, as no gradient opposes it.
        """
        if not self.settings.coring:
            return images, {}
        seen = self.coring(images)
        return seen, {"cored": (self.settings.cored_weight, F.l1_loss(images, seen))}

    def held_out_batch(self, columns: int) -> Tensor:
        """At most `columns` held-out photographs, evenly spaced, for a contact sheet."""
        count = min(columns, len(self.held_out))
        chosen = self.held_out[torch.linspace(0, len(self.held_out) - 1, count).long()]
        return self.photographs.batch(chosen, device=self.device)

    def metadata(self, parent: Mapping[str, str], record: str) -> dict[str, str]:
        """Metadata of the extended prior: the parent's and a record of this run."""
        number = next_number(parent, f"{record}_data")
        return {
            **parent,
            f"{record}{number}": run_record(self),
            f"{record}_data{number}": json.dumps(asdict(self.photographs.description)),
        }


def shrink(images: Tensor) -> Tensor:
    """`[B, 3, S, S]` -> `[B, 3, S / 2, S / 2]`; each pixel is the mean of four."""
    return F.avg_pool2d(images, 2)
