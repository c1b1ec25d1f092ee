"""The training of a flow from noise and features to codes (see `gen_prior.generators.dgn.flow`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from gen_prior.generators.dgn.config import FlowConfig
from gen_prior.generators.dgn.flow import CodeFlow
from gen_prior.training.base_trainer import Training
from gen_prior.training.photograph_codes import Codes
from gen_prior.training.settings import TrainingSettings


@dataclass(frozen=True)
class FlowSettings(TrainingSettings):
    """Everything but the data, the classifier and the prior that a flow is a function of."""

    steps: int = 5_000
    batch: int = 512
    rate: float = 1e-3
    cooldown: float = 0.8
    ema: float = 0.999
    held_out: int = 2_000
    features: int = 192
    """Principal components of the classifier's penultimate features that a code begins with."""
    width: int = 512
    depth: int = 6
    feature_noise: float = 0.3
    """Deviation of noise on the features: one photograph's are not known by heart, optimised ones are none's."""
    withheld: float = 0.15
    """Part of the photographs whose features are not told."""
    even: float = 0.1
    """The loss counts each direction by its variance, and all alike by this much."""
    sampling_steps: int = 4
    guidance: float = 3.0
    view: int = 192
    """Side at which the classifier sees the photographs for their features."""
    extends: str = ""
    """SHA-256 of the prior's file."""


class FlowTrainer(Training):
    """Trains a `CodeFlow` on the codes of photographs."""

    settings: FlowSettings

    def __init__(
        self,
        codes: Codes,
        features: Tensor,
        classes: Tensor,
        variances: Tensor,
        settings: FlowSettings,
        device: torch.device,
    ) -> None:
        """`features`: white ones of the codes' photographs `[N, K]`; `classes`: `[classes, K]`; `variances`: `[D]`."""
        super().__init__(settings, device)
        torch.manual_seed(settings.seed)
        directions = codes.white.shape[-1]
        config = FlowConfig(
            settings.features,
            settings.width,
            settings.depth,
            len(classes),
            settings.sampling_steps,
            settings.guidance,
        )
        flow = CodeFlow(directions, config).to(device)
        flow.classes.copy_(classes)
        self.codes, self.features = codes.white, features
        weights = variances / variances.mean() + settings.even
        self.weights = (weights / weights.mean()).to(device)
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(settings.seed))
        count = min(settings.held_out, len(order) // 10)
        self.held_out, self.training = order[:count], order[count:]
        self.train_networks(flow=flow)
        self.optimisers["networks"] = torch.optim.AdamW(
            flow.parameters(), settings.rate, betas=(0.9, 0.99), weight_decay=0.01
        )

    def _train_step(self) -> dict[str, Tensor]:
        settings, source = self.settings, self.draws()
        self._set_rates()
        chosen = self.training[torch.randint(len(self.training), (settings.batch,), generator=source)]
        features = self.features[chosen]
        features = features + settings.feature_noise * torch.randn(features.shape, generator=source)
        withheld = torch.rand(len(chosen), generator=source) < settings.withheld
        with self.precision():
            loss = self.loss(cast(CodeFlow, self.networks["flow"]), chosen, features, withheld, source)
        optimiser = self.optimisers["networks"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.networks["flow"].parameters(), 1.0)
        optimiser.step()
        self._average()
        return {"flow": loss.detach()}

    def loss(
        self, flow: CodeFlow, chosen: Tensor, features: Tensor, withheld: Tensor, source: torch.Generator
    ) -> Tensor:
        """Mean squared error of the velocity, 1 for a flow that stands still, at random places of the chosen codes."""
        side = torch.randint(2, (len(chosen),), generator=source)
        code = self.codes[chosen, side].float().to(self.device)
        noise = torch.randn(code.shape, generator=source).to(self.device)
        angle = (torch.rand(len(chosen), generator=source) * math.pi / 2).to(self.device)
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        found = flow.velocity(cos * noise + sin * code, angle, features.to(self.device), withheld.to(self.device))
        return ((found.float() - (cos * code - sin * noise)).square() * self.weights).mean()

    def measured(self) -> dict[str, float]:
        """The loss of the averaged flow on photographs that it is not trained on, features told and withheld."""
        flow, values = cast(CodeFlow, self.averages["flow"]), {}
        with torch.no_grad(), self.precision():
            for name, told in (("held_out", True), ("held_out_untold", False)):
                withheld = torch.full((len(self.held_out),), not told)
                source = torch.Generator().manual_seed(0)
                found = self.loss(flow, self.held_out, self.features[self.held_out], withheld, source)
                values[name] = round(float(found), 5)
        return values
