"""Stage "texture": train a prior to draw no texture where its code carries no information.

Codes of photographs lie at a typical distance from the mean code. Nearer to the mean there are no photographs, so only
the critics shape what the decoder draws there: a woven pattern, as rough as any photograph, in which optimisations get
stuck. It is the fine part of the image of the mean code. Here the decoder is trained on its own images, without
photographs, by four losses:

- kept: images of codes at the typical distance stay as they are without the pattern,
- coarse: so does the coarse part of images of codes moved towards the mean,
- pattern: the pattern's projection on all images vanishes,
- rough: at t times the typical distance from the mean, images may be at most t times as rough.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from gen_prior.errors import OptionError
from gen_prior.generators.dgn.blocks import CODE_SIDE
from gen_prior.generators.dgn.flow import init_features
from gen_prior.generators.dgn.network import WhitenedDecoder
from gen_prior.training.networks import to_channels_last
from gen_prior.training.prior_file import Prior
from gen_prior.training.settings import TrainingSettings
from gen_prior.training.stage import Material, Stage

FINE_BLUR = (7, 1.5)
"""Kernel size and std, in pixels, of the blur that separates the fine from the coarse part of an image."""
SHARE_BLUR = (17, 4.0)
"""The same of the window over which the pattern's projection on an image is taken."""
COARSE = 8
"""Side, in pixels, of the areas over which roughness and the coarse part are averaged."""


@dataclass(frozen=True)
class TextureSettings(TrainingSettings):
    """All that the result is a function of, beside the prior."""

    steps: int = 300
    batch: int = 12
    rate: float = 3e-4
    cooldown: float = 0.6
    ema: float = 0.95
    radius: float = 1.1
    """RMS of the codes, as optimisation will keep it."""
    from_class: float = 0.7
    """Fraction of initial codes of classes, where the prior has a flow; the others are random."""
    directions: int = 60
    """Number of directions of the largest variance; in half of the codes only these are moved towards the mean."""
    most_gain: float = 1.2
    """The other directions are then multiplied by 0.5 up to this."""
    roughness_weight: float = 2.0
    """Weight of the loss on roughness near the mean."""
    pattern_weight: float = 0.5
    """Weight of the loss on the pattern."""


class TextureStage(Stage):
    """Trains the decoder and the refiner of a prior against texture near the mean code; needs no photographs."""

    Settings = TextureSettings
    record = "calming"
    reads = None
    settings: TextureSettings

    def __init__(self, material: Material, settings: TextureSettings) -> None:
        super().__init__(material, settings)
        self.hook_layers = ()
        assert material.prior is not None
        prior = material.prior.network.float().requires_grad_(False).eval()
        self.prior = to_channels_last(prior, self.device)
        networks = {"decoder": deepcopy(prior.decoder), "refiner": deepcopy(prior.refiner)}
        trained = {name: network for name, network in networks.items() if any(True for _ in network.parameters())}
        self.train_networks(**{name: network.requires_grad_(True) for name, network in trained.items()})
        with torch.no_grad():
            self.pattern = fine(self.draw_images(self.prior.mean[None]))
        parameters = [p for network in self.networks.values() for p in network.parameters()]
        self.optimisers["networks"] = torch.optim.Adam(parameters, settings.rate, betas=(0.9, 0.99))

    def white_codes(self, count: int, source: torch.Generator) -> Tensor:
        """White codes `[count, D]` like the initial codes of optimisations, with the norm that these will have."""
        noise = torch.randn(count, self.prior.dims, generator=source)
        flow = self.prior.flow
        if flow is not None:
            classes = flow.classes.float().cpu()
            chosen = classes[torch.randint(len(classes), (count,), generator=source)]
            known = torch.rand(count, 1, generator=source) < self.settings.from_class
            noise = torch.where(known, init_features(chosen, noise), noise)
        length = self.settings.radius * self.prior.dims**0.5
        codes = (noise * (length / noise.norm(dim=1, keepdim=True))).to(self.device)
        return codes if flow is None else cast(Tensor, flow(codes))

    def offsets(self, white: Tensor) -> Tensor:
        """White codes `[B, D]` -> spatial codes relative to the mean, `[B, C, 4, 4]`."""
        return (white @ self.prior.basis.T).view(-1, *self.prior.mean.shape)

    def towards_mean(self, white: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Spatial codes `[B, C, 4, 4]` moved towards the mean, and by which factors, `[B, 1, 4, 4]` in 0 to 1.

        Half are moved at all positions alike, half by factors that vary; half in all directions, half in the largest.
        """
        settings, count = self.settings, len(white)

        def draw(*shape: int) -> Tensor:
            return torch.rand(count, *shape, generator=source)

        where = F.interpolate(draw(1, 2, 2), (CODE_SIDE, CODE_SIDE), mode="bilinear", align_corners=False)
        where = torch.where(draw(1, 1, 1) < 0.5, where, torch.ones(()))
        factor = (1 - where * (1 - 0.95 * draw(1, 1, 1))).to(self.device)
        gain = (0.5 + (settings.most_gain - 0.5) * draw(1, 1, 1)).to(self.device)
        kept = (draw(1, 1, 1) < 0.5).to(self.device)
        large = torch.arange(white.shape[1], device=self.device) < settings.directions
        main, rest = (self.offsets(white * part) for part in (large, ~large))
        return self.prior.mean + main * factor + rest * torch.where(kept, gain, factor), factor

    def draw_images(self, spatial: Tensor, networks: dict[str, nn.Module] | None = None) -> Tensor:
        """Images of spatial codes, by the prior as it was or by `networks`."""
        decoder = self.prior.decoder if networks is None else networks["decoder"]
        refiner = self.prior.refiner if networks is None else networks.get("refiner", self.prior.refiner)
        with self.autocast():
            images: Tensor = refiner(decoder(spatial))
        return images.float()

    def share(self, images: Tensor) -> Tensor:
        """Local projection of the fine part of images `[B, 3, H, W]` on the pattern, `[B, 1, H, W]`; 1: all of it."""

        def near(values: Tensor) -> Tensor:
            return blurred(values.sum(1, keepdim=True), SHARE_BLUR)

        return near(fine(images) * self.pattern) / (near(self.pattern.square()) + 1e-4)

    def update(self, generator: torch.Generator) -> dict[str, Tensor]:
        settings = self.settings
        # Codes at the typical distance, the same moved towards the mean, and what their images should be.
        with torch.no_grad():
            white = self.white_codes(settings.batch, generator).float()
            weak, factor = self.towards_mean(white, generator)
            spatial = torch.cat([self.prior.mean + self.offsets(white), weak])
            drawn = self.draw_images(spatial)
            before, weak_before = (drawn - self.share(drawn) * self.pattern).split(settings.batch)
            rough, weak_rough = roughness(before), roughness(weak_before)
            near = F.interpolate(factor, rough.shape[-2:], mode="bilinear", align_corners=False)
            allowed = torch.minimum(rough * near, weak_rough)
        # Their images now, and one step on the weighted losses.
        images, weak_images = self.draw_images(spatial, self.networks).split(settings.batch)
        losses = {
            "kept": F.l1_loss(images, before) + F.l1_loss(roughness(images), rough),
            "coarse": F.l1_loss(F.avg_pool2d(weak_images, COARSE), F.avg_pool2d(weak_before, COARSE)),
            "pattern": self.share(torch.cat([images, weak_images])).square().mean(),
            "rough": (roughness(weak_images) - allowed).clamp_min(0).mean(),
        }
        loss = losses["kept"] + losses["coarse"] + settings.roughness_weight * losses["rough"]
        self._step_optimiser(loss + settings.pattern_weight * losses["pattern"])
        return {name: value.detach() for name, value in losses.items()}

    @classmethod
    def completed(cls, settings: TextureSettings, prior: Prior) -> TextureSettings:
        if prior.network.details:  # they were fitted to the decoder as it is
            raise OptionError(
                f"the prior in {prior.folder} has a fine code already", fix="pass the prior that it was added to"
            )
        return settings

    def network(self, *, final: bool = False) -> WhitenedDecoder:
        return self.prior.with_parts(**self.averages)


def blurred(images: Tensor, kernel: tuple[int, float]) -> Tensor:
    """Images after a Gaussian blur of a kernel size and std in pixels."""
    side, std = kernel
    return gaussian_blur(images, [side, side], [std, std])


def fine(images: Tensor) -> Tensor:
    """The fine part of images: their difference from a slight blur."""
    return images - blurred(images, FINE_BLUR)


def roughness(images: Tensor) -> Tensor:
    """RMS of the fine part in each 8x8 area, `[B, 1, H / 8, W / 8]`."""
    squares = fine(images).square().mean(1, keepdim=True)
    return (F.avg_pool2d(squares, COARSE) + 1e-6).sqrt()
