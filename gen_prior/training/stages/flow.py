"""Stage `train_flow`: train a flow that predicts codes from classifier features and noise.

Flow matching (Lipman et al. 2023, arXiv 2210.02747) of the velocity on the circular path of Salimans & Ho 2022
(arXiv 2202.00512), with features dropped at random for classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598);
see `gen_prior.generators.dgn.flow`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.dgn.config import MAX_COUNT, FlowConfig
from gen_prior.generators.dgn.flow import CodeFlow
from gen_prior.generators.dgn.generator import EXEMPLAR_METADATA
from gen_prior.generators.dgn.network import WhitenedCodes, WhitenedDecoder
from gen_prior.training.base_trainer import BaseTrainer
from gen_prior.training.fit import SHEET_COLUMNS, RunOptions, check_run, contact_sheet, fit, read_photographs
from gen_prior.training.photograph_codes import Codes, class_directions, last_layer, read_codes, white_features
from gen_prior.training.prior_file import open_prior, run_record, save_encoder, save_generator
from gen_prior.training.settings import TrainingSettings
from gen_prior.util.progress import ProgressCallback

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class FlowSettings(TrainingSettings):
    """Hyperparameters of flow training."""

    steps: int = 5_000
    batch: int = 512
    rate: float = 1e-3
    cooldown: float = 0.8
    ema: float = 0.999
    held_out: int = 2_000
    features: int = 192
    """Principal components of the classifier's penultimate features that condition the flow."""
    width: int = 512
    depth: int = 6
    feature_noise: float = 0.3
    """Std of Gaussian noise on the features, against memorising photographs by their features."""
    withheld: float = 0.15
    """Condition dropout: probability that a photograph's features are replaced by a learnt embedding of "none"."""
    even: float = 0.1
    """Variance floor of the loss: a direction's weight is its variance over the mean variance, plus this constant."""
    sampling_steps: int = 4
    guidance: float = 3.0
    view: int = 192
    """Side at which the classifier sees the photographs for their features, in pixels."""
    parent_sha256: str = ""
    """SHA-256 of the prior's file."""

    def check(self) -> None:
        super().check()
        for name in ("width", "depth", "sampling_steps", "view"):
            if not 1 <= getattr(self, name) <= MAX_COUNT:
                raise OptionError(f"{name} must lie in 1 to {MAX_COUNT}, got {getattr(self, name)}")
        if not abs(self.guidance) <= MAX_COUNT:
            raise OptionError(f"guidance must be a number in -{MAX_COUNT} to {MAX_COUNT}, got {self.guidance}")
        if not 0 <= self.withheld < 1:
            raise OptionError(f"withheld must be at least 0 and below 1, got {self.withheld}")


class FlowTrainer(BaseTrainer):
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
        """`features`: whitened features of the photographs `[N, K]`; `classes`: `[classes, K]`; `variances`: `[D]`."""
        super().__init__(settings, device)
        torch.manual_seed(settings.seed)
        config = FlowConfig(
            features=settings.features,
            width=settings.width,
            depth=settings.depth,
            classes=len(classes),
            steps=settings.sampling_steps,
            guidance=settings.guidance,
        )
        flow = CodeFlow(codes.white.shape[-1], config).to(device)
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

    def average_flow(self) -> CodeFlow:
        """The flow with averaged weights, as it is exported."""
        return cast(CodeFlow, self.averages["flow"])

    def _update(self, generator: torch.Generator) -> dict[str, Tensor]:
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
                loss = self.loss(self.average_flow(), self.held_out, features, withheld, generator)
                values[name] = round(float(loss), 5)
        return values


def train_flow(
    classifier: Classifier,
    prior: str | Path,
    images: str | Path,
    out: str | Path,
    settings: FlowSettings | None = None,
    *,
    resume: bool = False,
    progress: ProgressCallback | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train a flow from classifier features and noise to codes of photographs, and export the prior with it.

    Codes of the result are features, then noise. The initial code of a class has the features that its row of the
    classifier's last layer asks for.

    Args:
        classifier: the one that the prior was trained on; it must end with a linear layer.
        prior: the folder of an earlier stage; a flow that it has is replaced.
        images: the photographs that the prior was trained on, or others: a folder, nested or flat, or `.tar` shards.
        out: another folder.
        settings, resume, progress, options: as for `train_decoder`.

    Returns and raises as `train_decoder`; also `WeightsError` for a folder without a prior, and `OptionError` for
    another classifier or one that does not end with a linear layer.
    """
    settings, out = settings if settings is not None else FlowSettings(), Path(out)
    check_run(images, out, settings, resume)
    last = last_layer(classifier)
    if not 1 <= settings.features <= last.in_features:
        raise OptionError(f"features must lie in 1 to {last.in_features}, got {settings.features}")
    parent = open_prior(Path(prior), classifier)
    network = parent.network
    settings = replace(settings, parent_sha256=parent.sha256)
    photographs = read_photographs(images, out, settings.batch, parent.network.config.size, progress)
    codes = read_codes(parent, photographs, settings.view, out / "cache", progress)
    features, basis = white_features(codes.features, settings.features)
    variances = network.basis.float().square().sum(0)
    trainer = FlowTrainer(codes, features, class_directions(last, basis), variances, settings, classifier.device)
    trainer.hook_layers = parent.extractor.hook_layers
    network = network.with_parts(flow=trainer.average_flow()).to(trainer.device)
    fit(trainer, out, lambda: sample_sheet(network, trainer), resume=resume, **options)
    save_encoder(parent.encoder, out)
    flow = trainer.average_flow()
    keys = [classifier.class_key(index) for index in range(len(flow.classes))] if classifier.labels else []
    added = {
        "classes": json.dumps(keys),
        "flow": run_record(trainer),
        "flow_data": json.dumps(asdict(photographs.description)),
    }
    kept = {key: value for key, value in parent.metadata.items() if key not in EXEMPLAR_METADATA}
    return save_generator(network, kept | added, out)


def sample_sheet(network: WhitenedDecoder, trainer: FlowTrainer) -> Tensor:
    """`[3, H, W]`, rows: held-out photographs' codes, codes of the same features and other noise, codes of classes."""
    columns = min(SHEET_COLUMNS, len(trainer.held_out))
    chosen = trainer.held_out[:columns]
    noise = torch.randn(columns, network.dims, generator=torch.Generator().manual_seed(0))
    features = trainer.features[chosen]
    same_features = torch.cat([features, noise[:, features.shape[1] :]], 1).to(trainer.device)
    classes = torch.linspace(0, len(trainer.average_flow().classes) - 1, columns).long().to(trainer.device)
    with torch.no_grad():
        code = trainer.codes[chosen, 0].float().to(trainer.device)
        space = WhitenedCodes(network.mean, network.basis, details=network.details)
        white = torch.cat([code, code.new_zeros(columns, space.dims - space.coarse_dims)], 1)
        rows = [network.decode(space.spatial(white)), network(same_features)]
        rows.append(network(network.start(classes, noise.to(trainer.device))))
    return contact_sheet(rows)
