"""The training of a generator prior: reconstruct photographs from a classifier's features, then convince critics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gen_prior.generators.dgn.network import Decoder
from gen_prior.hub.strict_loading import load_strictly
from gen_prior.training.gan import Run, placed
from gen_prior.training.networks import Encoder, Trunk
from gen_prior.training.photographs import Photographs
from gen_prior.training.settings import RunSettings


@dataclass(frozen=True)
class Settings(RunSettings):
    """Everything but the data and the classifier that a trained prior is a function of."""

    code_channels: int = 64
    width: float = 1.0
    kl_weight: float = 2e-4
    encoder_rate: float = 1.0
    """The encoder's rate, as a part of the decoder's; at 0 codes keep their meaning, as rehearsal needs them to."""


class Trainer(Run):
    """Trains an encoder on the classifier's features and the decoder of its codes."""

    settings: Settings

    def __init__(
        self,
        trunk: Trunk,
        normalise: Callable[[Tensor], Tensor],
        photographs: Photographs,
        settings: Settings,
        device: torch.device,
    ) -> None:
        super().__init__(trunk, normalise, photographs, settings, device)
        channels = [len(deviation) for deviation in self.deviations]
        self.train_networks(
            encoder=placed(Encoder(channels, settings.code_channels), device),
            decoder=placed(Decoder(settings.code_channels, settings.size, settings.width), device),
        )
        self.networks["encoder"].requires_grad_(settings.encoder_rate > 0)

    def encode(self, image: Tensor) -> Tensor:
        """Averaged encoder: images `[B, 3, S, S]` -> mean spatial codes `[B, C, 4, 4]`."""
        with torch.no_grad(), self.precision():
            mean: Tensor = self.averages["encoder"](self.features(image.to(self.device)))[0].float()
        return mean

    def rate_factor(self, network: str) -> float:
        """The encoder's is the setting's."""
        return self.settings.encoder_rate if network == "encoder" else 1.0

    def codes(
        self, photographs: Tensor, imagine: bool, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Noisy codes of photographs, then imagined ones; the codes' divergence from N(0, 1)."""
        with torch.no_grad():
            real = self.features(photographs)
        mean, log_variance = self.networks["encoder"](real)
        mean, log_variance = mean.float(), log_variance.float()
        noise = torch.randn(mean.shape, generator=generator).to(self.device)
        code = mean + noise * (0.5 * log_variance).exp()
        if imagine:
            code = torch.cat([code, self._imagined_codes(mean.detach(), generator)])
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)).mean()
        return code, {"kl": (self.settings.kl_weight, divergence)}

    def network_tensors(self) -> dict[str, Tensor]:
        """Averaged encoder and decoder, and the critics: what another run can start from."""
        parts = {**self.averages, "critic": self.critic}
        return {f"{part}.{key}": value for part, module in parts.items() for key, value in module.state_dict().items()}

    def start_from(self, networks: Mapping[str, Tensor], origin: str) -> None:
        """Begin with the networks of another run of the same shape. Raises `WeightsError` where they do not fit."""
        for part, modules in {
            "encoder": (self.networks["encoder"], self.averages["encoder"]),
            "decoder": (self.networks["decoder"], self.averages["decoder"]),
            "critic": (self.critic,),
        }.items():
            own = {key.removeprefix(f"{part}."): value for key, value in networks.items() if key.startswith(f"{part}.")}
            for module in modules:
                load_strictly(module, own, origin)

    def _imagined_codes(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Gaussian combinations of the batch's codes: samples of N(mean, covariance of the batch)."""
        centre = codes.mean(0, keepdim=True)
        count = round(len(codes) * self.settings.imagined)
        weights = torch.randn(count, len(codes), generator=generator).to(codes) / max(1, len(codes) - 1) ** 0.5
        low, high = self.settings.imagined_scale
        weights = weights * (low + (high - low) * torch.rand(count, 1, generator=generator).to(codes))
        return centre + torch.einsum("kb,bchw->kchw", weights, codes - centre)
