"""Train the fine code (`gen_prior.generators.dgn.fine_code`) from few but large photographs.

Photographs are encoded twice: shrunk to the prior's size, and at twice that side, where the encoder gives four times as
many places. First the network is fitted that says what of the finer code follows from the coarse one; the principal
directions of what is left are the details. Then the decoder learns to draw finer codes: those of photographs,
imagined ones whose details are a standard normal's, and climbing ones; all cored, if the generator is to be. Where
details are weaker than photographs' it learns to be blurry: critics see no such images, since they would have it draw
texture where the code says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.dgn.fine_code import Details
from gen_prior.generators.dgn.network import WhiteCodes, WhitenedDecoder
from gen_prior.training.gan import placed
from gen_prior.training.networks import Encoder, Trunk
from gen_prior.training.photograph_codes import principal_axes
from gen_prior.training.photographs import Count, Photographs
from gen_prior.training.settings import EnlargingSettings
from gen_prior.training.stages.enlarging import EnlargingRun, shrink

ENCODED_AT_A_TIME = 50
FIT_COUNTED = 10
"""Steps of the fit after which it says how far it is."""


@dataclass(frozen=True)
class DetailSettings(EnlargingSettings):
    """Everything but the data, the classifier and the prior that details are a function of."""

    steps: int = 2_200
    batch: int = 16
    rate: float = 4e-4
    critic_rate: float = 4e-4
    adversarial_from: int = 200
    imagined_scale: tuple[float, float] = (0.8, 1.3)
    weak_details: float = 0.7
    """Up to so many times as large are those of the codes that the decoder learns to be blurry at."""
    weak_weight: float = 2.0
    rehearsed: float = 0.25
    details: int = 1024
    """Principal directions of what does not follow from the coarse code; at most as many as it has numbers."""
    detail_width: int = 128
    fit_steps: int = 3_000
    """Of fitting what follows from the coarse code, by batches of `fit_batch`."""
    fit_batch: int = 128
    extends: str = ""
    """SHA-256 of the prior's file."""


class DetailTrainer(EnlargingRun):
    """Fits `Details` and trains the decoder for codes that hold them."""

    settings: DetailSettings

    def __init__(
        self,
        trunk: Trunk,
        normalise: Callable[[Tensor], Tensor],
        photographs: Photographs,
        settings: DetailSettings,
        device: torch.device,
        encoder: Encoder,
        prior: WhitenedDecoder,
        details: Details | None = None,
        *,
        encoding: Count | None = None,
        fitting: Count | None = None,
    ) -> None:
        """`encoder` and `prior`: of a run at half of `settings.size`; `details`: where they have been fitted before.

        Where not, `encoding` hears of the photographs and `fitting` of the steps.
        """
        super().__init__(trunk, normalise, photographs, settings, device, encoder)
        details = details if details is not None else self.fitted(prior, encoding, fitting)
        self.details = details.requires_grad_(False).eval().to(device)
        self.space = WhiteCodes(prior.mean, prior.basis, prior.flow, self.details).float().requires_grad_(False)
        self.space.eval().to(device)
        self.train_networks(decoder=placed(prior.decoder.float().requires_grad_(True), device))

    def fitted(self, prior: WhitenedDecoder, encoding: Count | None = None, fitting: Count | None = None) -> Details:
        """What follows from the coarse code, fitted on the training photographs' codes, and the rest's basis."""
        coarse, fine = self.code_pairs(self.training, encoding)
        settings, channels = self.settings, len(prior.mean)
        torch.manual_seed(settings.seed)
        details = Details(channels, settings.details, settings.detail_width).to(self.device)
        fit(details, coarse, fine, settings, self.device, fitting)
        details.basis.copy_(rest_directions(details, coarse, fine, settings.details, self.device))
        return details

    def code_pairs(self, chosen: Tensor, encoding: Count | None = None) -> tuple[Tensor, Tensor]:
        """Coarse `[2N, C, 4, 4]` and finer codes `[2N, C, 8, 8]` of photographs and their mirror images."""
        coarse, fine = [], []
        for part in chosen.split(ENCODED_AT_A_TIME):
            images = self.photographs.batch(part, device=self.device)
            for seen in (images, images.flip(-1)):
                coarse.append(self.encode(shrink(seen)).cpu())
                fine.append(self.encode(seen).cpu())
            if encoding is not None:
                encoding(sum(map(len, fine)) // 2, len(chosen))
        return torch.cat(coarse), torch.cat(fine)

    def codes(
        self, photographs: Tensor, imagine: bool, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Codes of photographs, then imagined ones; how far images of weak details are from the photographs."""
        codes = self.encode(photographs)
        half = photographs[: len(photographs) // 2]
        with torch.no_grad():
            expected = self.details.expected(self.encode(shrink(half)))
        share = self.settings.weak_details * torch.rand(len(half), 1, 1, 1, generator=generator).to(self.device)
        weak = expected + share * (codes[: len(half)] - expected)
        blurry = F.l1_loss(self.networks["decoder"](weak).float(), half)
        if imagine:
            codes = torch.cat([codes, self.imagine(round(len(photographs) * self.settings.imagined), generator)])
        return codes, {"weak": (self.settings.weak_weight, blurry)}

    def images(self, codes: Tensor, count: int) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """The decoder's, cored."""
        return self.cored(super().images(codes, count)[0])


def fit(
    details: Details,
    coarse: Tensor,
    fine: Tensor,
    settings: DetailSettings,
    device: torch.device,
    fitting: Count | None = None,
) -> None:
    """Fit `details.expected` by least squares."""
    source = torch.Generator().manual_seed(settings.seed)
    parameters = [parameter.requires_grad_(True) for parameter in details.parameters()]
    optimiser = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.05)
    for step in range(settings.fit_steps):
        fall = min(1.0, 2 * (settings.fit_steps - step) / settings.fit_steps)
        optimiser.param_groups[0]["lr"] = 1e-3 * min(1.0, (step + 1) / 100) * max(0.02, fall)
        chosen = torch.randint(len(coarse), (settings.fit_batch,), generator=source)
        loss = F.mse_loss(details.expected(coarse[chosen].to(device)), fine[chosen].to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if fitting is not None and (step + 1) % FIT_COUNTED == 0:
            fitting(step + 1, settings.fit_steps)


def rest_directions(details: Details, coarse: Tensor, fine: Tensor, count: int, device: torch.device) -> Tensor:
    """Principal directions of what does not follow, scaled by their deviations: `[C * 64, count]`."""
    size = fine[0].numel()
    total = torch.zeros(size, size, device=device)
    with torch.no_grad():
        for low, high in zip(coarse.split(256), fine.split(256), strict=True):
            rest = (high.to(device) - details.expected(low.to(device))).flatten(1)
            total += rest.T @ rest
    values, vectors = principal_axes(total / len(fine))
    return (vectors[:, :count] * values[:count].sqrt()).float()
