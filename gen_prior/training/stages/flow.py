"""Stage "flow": a flow that predicts codes from classifier features and noise.

Flow matching (Lipman et al. 2023, arXiv 2210.02747) of the velocity on the circular path of Salimans & Ho 2022
(arXiv 2202.00512), with features dropped at random for classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598);
see `gen_prior.generators.dgn.flow`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.dgn.config import MAX_COUNT, FlowConfig
from gen_prior.generators.dgn.flow import CodeFlow
from gen_prior.generators.dgn.generator import EXEMPLAR_METADATA
from gen_prior.generators.dgn.network import WhitenedDecoder
from gen_prior.training.photograph_codes import VIEW, class_directions, last_layer, read_codes, white_features
from gen_prior.training.prior_file import Prior
from gen_prior.training.settings import TrainingSettings
from gen_prior.training.stage import Material, Stage
from gen_prior.training.stages.class_exemplars import with_exemplars


@dataclass(frozen=True)
class FlowSettings(TrainingSettings):
    """Hyperparameters of flow training."""

    size: int = 0
    """Side of the photographs in pixels; set by the stage: that of the prior's coarse images."""
    steps: int = 5_000
    batch: int = 512
    rate: float = 1e-3
    cooldown: float = 0.8
    ema: float = 0.999
    held_out: int = 2_000
    features: int = 192
    """Principal components of the classifier's penultimate features that condition the flow."""
    width: int = 512
    """Channels of the flow's blocks."""
    depth: int = 6
    """Blocks of the flow."""
    feature_noise: float = 0.3
    """Std of Gaussian noise on the features, against memorising photographs by their features."""
    withheld: float = 0.15
    """Condition dropout: probability that a photograph's features are replaced by a learnt embedding of "none"."""
    even: float = 0.1
    """Variance floor of the loss: a direction's weight is its variance over the mean variance, plus this constant."""
    sampling_steps: int = 4
    """Steps of the integration from noise to a code."""
    guidance: float = 3.0
    """Scale of classifier-free guidance."""
    view: int = VIEW
    """Side at which the classifier sees the photographs for their features, in pixels."""
    layouts: int = 0
    """Class exemplars for each class, chosen at the export (see `class_exemplars`); 0: none."""
    alike: float = 0.7
    """Least distance of two exemplars, relative to the mean distance of two photographs."""

    def check(self) -> None:
        super().check()
        for name in ("width", "depth", "sampling_steps", "view"):
            if not 1 <= getattr(self, name) <= MAX_COUNT:
                raise OptionError(f"{name} must lie in 1 to {MAX_COUNT}, got {getattr(self, name)}")
        if not abs(self.guidance) <= MAX_COUNT:
            raise OptionError(f"guidance must be a number in -{MAX_COUNT} to {MAX_COUNT}, got {self.guidance}")
        if not 0 <= self.withheld < 1:
            raise OptionError(f"withheld must be at least 0 and below 1, got {self.withheld}")


class FlowStage(Stage):
    """Trains a `CodeFlow` on the codes of photographs; a flow that the prior has is replaced.

    Codes of the result are features, then noise. The initial code of a class has the features that its row of the
    classifier's last layer favours.
    """

    Settings = FlowSettings
    record = "flow"
    settings: FlowSettings

    def __init__(self, material: Material, settings: FlowSettings) -> None:
        super().__init__(material, settings)
        assert material.prior is not None
        self.prior = material.prior.network
        self.data = read_codes(material, settings.view)
        self.codes = self.data.white
        self.features, basis = white_features(self.data.features, settings.features)
        classes = class_directions(self.data.head, basis)
        config = FlowConfig(
            features=settings.features,
            width=settings.width,
            depth=settings.depth,
            classes=len(classes),
            steps=settings.sampling_steps,
            guidance=settings.guidance,
        )
        flow = CodeFlow(self.codes.shape[-1], config).to(self.device)
        flow.classes.copy_(classes)
        variances = self.prior.basis.float().square().sum(0)
        weights = variances / variances.mean() + settings.even
        self.weights = (weights / weights.mean()).to(self.device)
        order = torch.randperm(len(self.codes), generator=torch.Generator().manual_seed(settings.seed))
        count = min(settings.held_out, len(order) // 10)
        self.held_out, self.training = order[:count], order[count:]
        self.train_networks(flow=flow)
        self.optimisers["networks"] = torch.optim.AdamW(
            flow.parameters(), settings.rate, betas=(0.9, 0.99), weight_decay=0.01
        )

    @classmethod
    def refuse(cls, settings: FlowSettings, classifier: Classifier | None) -> None:
        assert classifier is not None
        most = last_layer(classifier).in_features
        if not 1 <= settings.features <= most:
            raise OptionError(f"features must lie in 1 to {most}, got {settings.features}")

    @classmethod
    def completed(cls, settings: FlowSettings, prior: Prior) -> FlowSettings:
        return replace(settings, size=prior.network.config.size)

    def network(self, *, final: bool = False) -> WhitenedDecoder:
        flow = cast(CodeFlow, self.averages["flow"])
        if final and self.settings.layouts:
            flow = with_exemplars(flow, self.data, self.prior, self.settings.layouts, self.settings.alike)
        return self.prior.with_parts(flow=flow)

    def metadata(self) -> dict[str, str]:
        classifier, head = self.data.classifier, self.data.head
        keys = [classifier.class_key(index) for index in range(head.out_features)] if classifier.labels else []
        metadata = super().metadata() | {"classes": json.dumps(keys)}
        return {key: value for key, value in metadata.items() if key not in EXEMPLAR_METADATA}

    def update(self, generator: torch.Generator) -> dict[str, Tensor]:
        settings = self.settings
        # A batch of photographs; their features get noise, and condition dropout.
        chosen = self.training[torch.randint(len(self.training), (settings.batch,), generator=generator)]
        features = self.features[chosen]
        features = features + settings.feature_noise * torch.randn(features.shape, generator=generator)
        withheld = torch.rand(len(chosen), generator=generator) < settings.withheld
        # One step on the flow-matching loss.
        with self.autocast():
            loss = self.loss(cast(CodeFlow, self.networks["flow"]), chosen, features, withheld, generator)
        self._step_optimiser(loss, max_norm=1.0)
        return {"flow": loss.detach()}

    def loss(
        self, flow: CodeFlow, chosen: Tensor, features: Tensor, withheld: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Weighted mean of |v(x, t) - (cos t code - sin t noise)|^2 at x = cos t noise + sin t code, t in 0 to pi / 2.

        It is about 1 for a velocity of zero. Each code is a photograph's or its mirror image's.
        `withheld` `[B]` is true where condition dropout hides the features.
        """
        mirrored = torch.randint(2, (len(chosen),), generator=generator)
        code = self.codes[chosen, mirrored].float().to(self.device)
        noise = torch.randn(code.shape, generator=generator).to(self.device)
        angle = (torch.rand(len(chosen), generator=generator) * math.pi / 2).to(self.device)
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        velocity = flow.velocity(cos * noise + sin * code, angle, features.to(self.device), withheld.to(self.device))
        return ((velocity.float() - (cos * code - sin * noise)).square() * self.weights).mean()

    def validate(self) -> dict[str, float]:
        """Losses of the averaged flow on held-out photographs, with their features and without."""
        values = {}
        with torch.no_grad(), self.autocast():
            for name, dropped in (("held_out", False), ("held_out_untold", True)):
                withheld = torch.full((len(self.held_out),), dropped)
                generator = torch.Generator().manual_seed(0)
                features = self.features[self.held_out]
                loss = self.loss(cast(CodeFlow, self.averages["flow"]), self.held_out, features, withheld, generator)
                values[name] = round(float(loss), 5)
        return values
