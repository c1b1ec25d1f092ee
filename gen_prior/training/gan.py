"""Base of the stages that train an image-making network: reconstruct photographs, then also convince critics.

The losses are those of Dosovitskiy & Brox 2016 (arXiv 1602.02644): pixel distance, distance of a classifier's features
and an adversarial loss, here the hinge loss (Lim & Ye 2017, arXiv 1705.02894) on critics with spectral normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.dgn.network import Decoder, WhitenedCodes, WhitenedDecoder
from gen_prior.generators.dgn.texture import coring
from gen_prior.training.networks import Critic, to_channels_last
from gen_prior.training.on_policy import OnPolicyCodes
from gen_prior.training.photographs import Photographs
from gen_prior.training.settings import EnlargingSettings, GanSettings
from gen_prior.training.stage import SHEET_COLUMNS, Material, Stage

CRITIC_STEPS = 200
"""Steps for which the critics learn alone, before the adversarial loss begins."""
SAMPLE = 256
"""Photographs over which the stds of features are taken."""
Losses = dict[str, tuple[float, Tensor]]
"""Name -> (weight, loss)."""


class GanStage(Stage):
    """Trains image-making networks, a decoder among them, and critics.

    A subclass calls `train_networks` once its networks exist, and defines `codes`; `images` too if more than the
    decoder turns codes into images.
    """

    settings: GanSettings
    encoder: nn.Module
    """Features -> mean and log-variance of spatial codes, by weights that do not change within a step."""
    code_stds: list[Tensor]
    """Standard deviations by which the encoder's features are divided."""

    def __init__(self, material: Material, settings: GanSettings) -> None:
        super().__init__(material, settings)
        assert material.extractor is not None
        assert material.photographs is not None
        self.photographs = material.photographs
        self.extractor = to_channels_last(material.extractor.eval(), self.device)
        self.held_out, self.training = self.photographs.split(settings.held_out, settings.seed)
        self.stds = self.extractor.stds(self.photographs.batch(self.training[:SAMPLE], device=self.device))
        critic = Critic([len(std) for std in self.stds], settings.size, settings.critic_width)
        self.critic = to_channels_last(critic, self.device)
        self.optimisers["critic"] = torch.optim.Adam(self.critic.parameters(), settings.critic_rate, betas=(0.0, 0.99))
        self.coring = coring(settings.coring)
        self.on_policy: OnPolicyCodes | None = None
        self.rate_factors: dict[str, float] = {}
        """Factors on the learning rates of networks, by their names."""

    def add_on_policy(self, space: WhitenedCodes) -> None:
        """Train also on on-policy codes of `space`, as many as the settings ask for."""
        if count := round(self.settings.batch * self.settings.on_policy):
            self.on_policy = OnPolicyCodes(self.extractor.classifier, space, count, self.settings.seed)

    def train_networks(self, **networks: nn.Module) -> None:
        """Set the networks that are optimised, their averages and their optimiser."""
        super().train_networks(**networks)
        groups = [
            {"params": n.parameters(), "factor": self.rate_factors.get(name, 1.0)} for name, n in networks.items()
        ]
        self.optimisers["networks"] = torch.optim.Adam(groups, self.settings.rate, betas=(0.5, 0.99))

    def learning_rate(self, optimiser: str) -> float:
        return self.settings.critic_rate if optimiser == "critic" else self.settings.rate

    def codes(self, photographs: Tensor, sample: bool, generator: torch.Generator) -> tuple[Tensor, Losses]:
        """Spatial codes `[B, C, H, W]` of photographs `[B, 3, S, S]`, followed by sampled ones; losses on codes."""
        raise NotImplementedError

    def images(self, codes: Tensor, count: int) -> tuple[Tensor, Losses]:
        """Images of spatial codes, of which the first `count` are photographs'; losses on images."""
        return self.cored(self.networks["decoder"](codes).float())

    def encode(self, images: Tensor) -> Tensor:
        """Spatial codes of images `[B, 3, S, S]`, one position per 16 pixels; features are scaled alike at any S."""
        with torch.no_grad(), self.autocast():
            code: Tensor = self.encoder(self.extractor.scaled(images.to(self.device), self.code_stds))[0]
        return code.float()

    def cored(self, images: Tensor) -> tuple[Tensor, Losses]:
        """Images after coring, as the exported generator shows them; the L1 loss on what coring removes.

        Without that loss the network would draw ever more texture that coring hides, as no gradient opposes it.
        """
        if not self.settings.coring:
            return images, {}
        seen = self.coring(images)
        return seen, {"cored": (self.settings.cored_weight, F.l1_loss(images, seen))}

    def photograph_rows(self, network: WhitenedDecoder) -> list[Tensor]:
        """Held-out photographs and their reconstructions."""
        shown = self.held_out if len(self.held_out) else self.training
        chosen = shown[torch.linspace(0, len(shown) - 1, SHEET_COLUMNS).long()]
        photographs = self.photographs.batch(chosen, device=self.device)
        side = network.config.decoder_side
        smaller = (
            photographs if side == photographs.shape[-1] else F.interpolate(photographs, (side, side), mode="area")
        )
        return [photographs, network.decode(self.encode(smaller))]

    def _modules(self) -> dict[str, nn.Module]:
        on_policy = {"on_policy": self.on_policy} if self.on_policy is not None else {}
        return {**super()._modules(), "critic": self.critic, **on_policy}

    def update(self, generator: torch.Generator) -> dict[str, Tensor]:
        settings = self.settings
        photographs = self._batch(generator)
        with_critics = self.step >= settings.adversarial_from - CRITIC_STEPS
        with self.autocast():
            # Draw an image of each photograph's code, and of sampled and on-policy codes once critics learn.
            images, further = self._draw(photographs, with_critics, generator)
            # Reconstruction: pixels, and features after a random shift, of photographs' images.
            window = self._window(generator)
            features = self.extractor.scaled(window(images), self.stds)
            with torch.no_grad():
                real = self.extractor.scaled(window(photographs), self.stds)
            count = len(photographs)
            losses = {
                "pixel": (settings.pixel_weight, F.l1_loss(images[:count], photographs)),
                "feature": (settings.feature_weight, relative_distance(features, real, count)),
                **further,
            }
            # Adversarial: all images must score as real.
            if self.step >= settings.adversarial_from:
                losses["fool"] = (settings.adversarial_weight, self._adversarial_loss(images, features))
            total = torch.stack([weight * loss for weight, loss in losses.values()]).sum()
        self._step_optimiser(total, max_norm=5.0)
        values = {name: loss.detach() for name, (_, loss) in losses.items()}
        # Critics: one step on the same photographs and images.
        if with_critics:
            values["critic"] = self._update_critic(photographs, real, images.detach(), [f.detach() for f in features])
        return values

    def _batch(self, generator: torch.Generator) -> Tensor:
        """The photographs of this step."""
        return self.draw_batch(self.photographs, self.training, self.settings.batch, generator)

    def draw_batch(self, photographs: Photographs, among: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """`count` photographs of those `among`: a fresh permutation every epoch, mirrored at random."""
        epoch, index = divmod(self.step, max(1, len(among) // count))
        shuffle = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + epoch)
        chosen = among[torch.randperm(len(among), generator=shuffle)[index * count : (index + 1) * count]]
        flip = torch.rand(len(chosen), generator=generator) < 0.5
        return photographs.batch(chosen, flip, self.device).contiguous(memory_format=torch.channels_last)

    def _draw(self, photographs: Tensor, with_critics: bool, generator: torch.Generator) -> tuple[Tensor, Losses]:
        """Images of photographs' codes, then of sampled and on-policy codes; losses beside reconstruction."""
        codes, losses = self.codes(photographs, with_critics, generator)
        pool = self.on_policy if with_critics else None
        if pool is None:
            images, more = self.images(codes, len(photographs))
            return images, losses | more
        white, spatial = pool.draw(self.step, generator)
        images, more = self.images(torch.cat([codes, spatial.to(codes)]), len(photographs))
        shortfall = pool.ascend(self.step, white, images[-pool.count :], generator)
        return images, losses | more | {"climb": (self.settings.on_policy_weight, shortfall)}

    def _adversarial_loss(self, images: Tensor, features: list[Tensor]) -> Tensor:
        """Minus the mean score of images over critics; the critics get no gradient."""
        self.critic.requires_grad_(False)
        loss = -mean_of([score.mean(1) for score in self.critic(images, features)]).mean()
        self.critic.requires_grad_(True)
        return loss

    def _update_critic(
        self, real: Tensor, real_features: list[Tensor], fake: Tensor, fake_features: list[Tensor]
    ) -> Tensor:
        """One step of the critics by the hinge loss, which is returned."""
        with self.autocast():
            genuine, forged = self.critic(real, real_features), self.critic(fake, fake_features)
            loss = mean_of([F.relu(1 - score.float()).mean() for score in genuine])
            loss = loss + mean_of([F.relu(1 + score.float()).mean() for score in forged])
        self._step_optimiser(loss, "critic")
        return loss.detach()

    def _window(self, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        """A random shift by whole pixels, the same for photographs and images of one step."""
        reach = self.settings.shift
        y, x = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()

        def shifted(images: Tensor) -> Tensor:
            side = images.shape[-1]
            return F.pad(images, (reach,) * 4, mode="reflect")[..., y : y + side, x : x + side]

        return shifted if reach else lambda images: images


class EnlargingStage(GanStage):
    """Extends a prior to images of twice the side, with its encoder frozen, so that codes keep their meaning.

    A subclass sets `space`, the space of the prior's codes.
    """

    settings: EnlargingSettings
    space: WhitenedCodes
    repeatable = True
    reads = "large"

    def __init__(self, material: Material, settings: EnlargingSettings) -> None:
        super().__init__(material, settings)
        assert material.prior is not None
        self.prior = material.prior.network
        self.encoder = to_channels_last(
            cast(nn.Module, material.prior.encoder).requires_grad_(False).eval(), self.device
        )
        small = shrink(self.photographs.batch(self.training[:SAMPLE], device=self.device))
        self.code_stds = self.extractor.stds(small)

    def with_sampled(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Photographs' spatial codes, followed by sampled ones (with a flow, initial codes of random classes)."""
        settings, count = self.settings, round(len(codes) * self.settings.sampled)
        noise = torch.randn(count, self.space.dims, generator=generator)
        scale, size = (
            low + (high - low) * torch.rand(count, 1, generator=generator)
            for low, high in (settings.sampled_scale, settings.sampled_details)
        )
        classes = 1 if self.space.flow is None else len(self.space.flow.classes)
        chosen = torch.randint(classes, (count,), generator=generator).to(self.device)
        with torch.no_grad():
            coarse, details = self.space.sample(chosen, noise.to(self.device))
            white = torch.cat([coarse * scale.to(self.device), details * size.to(self.device)], 1)
            return torch.cat([codes, self.space.spatial(white)])

    def average_decoder(self) -> Decoder:
        """The decoder with averaged weights, or the prior's if it is not trained."""
        return cast(Decoder, self.averages.get("decoder", self.prior.decoder))


def mean_of(terms: list[Tensor]) -> Tensor:
    """Mean of tensors of the same shape."""
    return torch.stack(terms).mean(0)


def shrink(images: Tensor) -> Tensor:
    """`[B, 3, S, S]` -> `[B, 3, S / 2, S / 2]`; each pixel is the mean of four."""
    return F.avg_pool2d(images, 2)


def relative_distance(features: list[Tensor], real: list[Tensor], count: int) -> Tensor:
    """L1 distance of the first `count` items' features relative to the real ones' size, summed over layers."""
    terms = [(f[:count] - r).abs().mean() / r.abs().mean().clamp_min(1e-6) for f, r in zip(features, real, strict=True)]
    return torch.stack(terms).sum()
