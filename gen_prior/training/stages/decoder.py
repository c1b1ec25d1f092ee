"""Stage 1: an encoder and a decoder that invert a classifier's features on photographs.

After Dosovitskiy & Brox 2016 (arXiv 1602.02644), with a variational encoder (Kingma & Welling 2014, arXiv 1312.6114).

With `details`, the same two networks also learn from photographs of twice the side, whose codes have four times as many
positions, and the prior gets a fine code at once (see `fine_code`). With `quiet_weight`, the decoder draws no texture
near the mean code from the start (see `texture`, which removes it afterwards).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.errors import OptionError
from gen_prior.generators.dgn.blocks import CODE_SIDE
from gen_prior.generators.dgn.config import SIZES
from gen_prior.generators.dgn.fine_code import FineCode
from gen_prior.generators.dgn.generator import FORMAT
from gen_prior.generators.dgn.network import Decoder, WhitenedCodes, WhitenedDecoder
from gen_prior.hub.strict_loading import load_strictly
from gen_prior.training.gan import GanStage, Losses, shrink
from gen_prior.training.networks import Encoder, to_channels_last
from gen_prior.training.photograph_codes import principal_axes
from gen_prior.training.prior_file import NETWORKS_FILE, part_of, save_networks
from gen_prior.training.settings import GanSettings
from gen_prior.training.stage import Material
from gen_prior.training.stages.fine_code import FineCodeFitSettings, check_details, fit_fine_code, weak_loss
from gen_prior.training.stages.texture import roughness

VARIANCE_KEPT = 0.99
EXPORT_PHOTOGRAPHS, ON_POLICY_PHOTOGRAPHS, SHEET_PHOTOGRAPHS = 20_000, 5_000, 512
"""Photographs over which code statistics are taken: for the export, for on-policy codes and for contact sheets."""


@dataclass(frozen=True)
class DecoderSettings(FineCodeFitSettings, GanSettings):
    """All that a prior is a function of, beside the photographs and the classifier."""

    code_channels: int = 64
    """Channels of the spatial code."""
    width: float = 1.0
    """Factor on the decoder's channels."""
    kl_weight: float = 2e-4
    """Weight of the Kullback-Leibler divergence of codes from the standard normal."""
    encoder_rate: float = 1.0
    """Factor on the encoder's learning rate; at 0 codes keep their meaning, which on-policy codes need."""
    details: int = 0
    """Dimensions of the fine code; 0: none, and only photographs of `size` pixels are trained on."""
    large_share: float = 0.0
    """Share of the steps on squares of larger photographs, of twice the side; set to 0.5 if there are details."""
    large_batch: int = 16
    """Photographs per step on larger photographs."""
    crops_large: int = 12
    """Random squares cut out of each of the larger photographs."""
    quiet_weight: float = 0.0
    """Weight of the loss on roughness of images of codes between the mean and photographs'."""

    def check(self) -> None:
        super().check()
        if self.size not in SIZES:
            raise OptionError(f"size must be one of {', '.join(map(str, SIZES))}, got {self.size}")
        if not 0 < self.width <= 16:
            raise OptionError(f"width must lie in 0 to 16, got {self.width}")
        if self.on_policy > 0 and self.encoder_rate:
            raise OptionError("on-policy codes need a frozen encoder", fix="pass --start-from and --set encoder_rate=0")
        if bool(self.details) != bool(self.large_share):
            raise OptionError(
                f"details {self.details} and large_share {self.large_share} must both be 0, or neither",
                fix="set large_share to 0.5",
            )
        self.check_fit()
        if self.details:
            check_details(self.details, self.code_channels)


class DecoderStage(GanStage):
    """Trains an encoder of the classifier's features and the decoder of its codes."""

    Settings = DecoderSettings
    record = "training"
    extends = False
    settings: DecoderSettings

    def __init__(self, material: Material, settings: DecoderSettings) -> None:
        super().__init__(material, settings)
        self.code_stds = self.stds
        self.rate_factors = {"encoder": settings.encoder_rate}
        networks: dict[str, nn.Module] = {
            "encoder": Encoder([len(std) for std in self.stds], settings.code_channels),
            "decoder": Decoder(settings.code_channels, settings.size, settings.width),
        }
        if settings.details:
            networks["details"] = FineCode(settings.code_channels, settings.details, settings.detail_width)
            assert material.large is not None
            self.large, (_, self.large_training) = material.large, material.large.split(0, settings.seed)
        self.train_networks(**{name: to_channels_last(net, self.device) for name, net in networks.items()})
        self.networks["encoder"].requires_grad_(settings.encoder_rate > 0)
        self.encoder = self.averages["encoder"]
        for part in ("encoder", "decoder", "critic") if material.start else ():
            modules = [self.critic] if part == "critic" else [self.networks[part], self.averages[part]]
            for module in modules:
                load_strictly(module, part_of(material.start, part), NETWORKS_FILE)
        if settings.on_policy:
            self.add_on_policy(WhitenedCodes(*code_statistics(self, ON_POLICY_PHOTOGRAPHS)))

    def _batch(self, generator: torch.Generator) -> Tensor:
        """The photographs of this step: small ones, or squares of larger ones."""
        share = self.settings.large_share
        if share and float(torch.rand(1, generator=generator)) < share:
            return self.draw_batch(self.large, self.large_training, self.settings.large_batch, generator)
        return super()._batch(generator)

    def codes(self, photographs: Tensor, sample: bool, generator: torch.Generator) -> tuple[Tensor, Losses]:
        """Codes drawn from the encoder's Gaussians, then sampled ones; their KL divergence from N(0, 1)."""
        settings = self.settings
        mean, log_variance = self._posterior(photographs)
        noise = torch.randn(mean.shape, generator=generator).to(self.device)
        code = mean + noise * (0.5 * log_variance).exp()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)).mean()
        places = mean[0, 0].numel() / CODE_SIDE**2
        losses: Losses = {"kl": (settings.kl_weight / places, divergence)}
        if places > 1:
            with torch.no_grad():
                coarse = self._posterior(shrink(photographs))[0]
            expected = cast(FineCode, self.networks["details"]).expected(coarse).float()
            losses["expected"] = (1.0, F.mse_loss(expected, mean.detach()))
            weak = weak_loss(
                self.networks["decoder"], expected.detach(), mean.detach(), photographs, settings, generator
            )
            losses["weak"] = (settings.weak_weight, weak)
        if settings.quiet_weight:
            losses["quiet"] = (settings.quiet_weight, self._quiet_loss(mean.detach(), photographs, generator))
        if sample:
            code = torch.cat([code, self._sample(mean.detach(), generator)])
        return code, losses

    def _posterior(self, photographs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances of photographs' codes, `[B, C, H, W]` each."""
        with torch.no_grad():
            features = self.extractor.scaled(photographs, self.stds)
        mean, log_variance = self.networks["encoder"](features)
        return mean.float(), log_variance.float()

    def _quiet_loss(self, codes: Tensor, photographs: Tensor, generator: torch.Generator) -> Tensor:
        """Mean roughness of images beyond t times the photographs', for codes at t times their distance from the mean.

        At t = 0, the mean code, images may have no texture at all. A quarter of the codes is used.
        """
        some = slice(max(1, len(codes) // 4))
        scale = torch.rand(len(codes[some]), 1, 1, 1, generator=generator).to(self.device)
        centre = codes.mean(0, keepdim=True)
        images = self.networks["decoder"](centre + scale * (codes[some] - centre)).float()
        return (roughness(images) - scale * roughness(photographs[some])).clamp_min(0).mean()

    def _sample(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Samples of N(mean, covariance of the batch), as Gaussian combinations of its codes; scaled at random."""
        centre = codes.mean(0, keepdim=True)
        count = round(len(codes) * self.settings.sampled)
        weights = torch.randn(count, len(codes), generator=generator).to(codes) / max(1, len(codes) - 1) ** 0.5
        low, high = self.settings.sampled_scale
        weights = weights * (low + (high - low) * torch.rand(count, 1, generator=generator).to(codes))
        return centre + torch.einsum("kb,bchw->kchw", weights, codes - centre)

    def network(self, *, final: bool = False) -> WhitenedDecoder:
        """The averaged decoder of whitened codes; the fine code is fitted for the export only."""
        settings = self.settings
        mean, basis = code_statistics(self, EXPORT_PHOTOGRAPHS if final else SHEET_PHOTOGRAPHS)
        details = cast("FineCode | None", self.averages.get("details"))
        if details is not None and final:
            details = fit_fine_code(self, details, self.large, self.large_training)
        return WhitenedDecoder(
            cast(Decoder, self.averages["decoder"]),
            mean.to(self.device),
            basis.to(self.device),
            details=details,
            coring=settings.coring,
            grain=settings.grain,
        )

    def metadata(self) -> dict[str, str]:
        added = {
            "format": FORMAT,
            "classifier": json.dumps(self.extractor.classifier.describe()),
            "taps": json.dumps(list(self.hook_layers)),
            "code": "gen_prior/training",
        }
        if self.material.large is not None:
            added["large_data"] = json.dumps(self.material.large.description.__dict__)
        metadata = super().metadata() | added
        return metadata | {"data": metadata.pop("training_data")}

    def save_networks(self) -> None:
        """Write the averaged encoder and decoder, and the critics: the networks that another run can start from."""
        parts = {**self.averages, "critic": self.critic}
        tensors = {f"{part}.{key}": value for part, net in parts.items() for key, value in net.state_dict().items()}
        save_networks(self.material.out / NETWORKS_FILE, tensors)


def code_statistics(stage: DecoderStage, photographs: int, batch: int = 256) -> tuple[Tensor, Tensor]:
    """Mean `[C, 4, 4]` and scaled principal directions `[C * 16, D]` of training photographs' codes and their mirrors'.

    The directions, as columns, hold `VARIANCE_KEPT` of the variance, largest first, scaled by their stds.
    """
    count = min(photographs, len(stage.training))
    chosen = stage.training[torch.linspace(0, len(stage.training) - 1, count).long()]
    shape = (stage.settings.code_channels, CODE_SIDE, CODE_SIDE)
    size = stage.settings.code_channels * CODE_SIDE**2
    total, moment = torch.zeros(size, dtype=torch.double), torch.zeros(size, size, dtype=torch.double)
    for indices in chosen.split(batch):
        images = stage.photographs.batch(indices)
        codes = torch.cat([stage.encode(images), stage.encode(images.flip(-1))])
        flat = codes.flatten(1).double().cpu()
        total += flat.sum(0)
        moment += flat.T @ flat
    mean = total / (2 * count)
    covariance = (moment / (2 * count) - mean[:, None] * mean).float()
    values, vectors = principal_axes(covariance.double())
    kept = int((values.cumsum(0) / values.sum() < VARIANCE_KEPT).sum()) + 1
    return mean.float().view(shape), (vectors[:, :kept] * values[:kept].sqrt()).float()
