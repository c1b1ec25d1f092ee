"""Stage "fine code": give a prior's code a fine part, for images of twice the side drawn by the same decoder.

1. Encode large photographs twice: shrunk to the prior's size, and at twice that side, where the encoder gives a spatial
   code of four times as many positions.
2. Fit a network that predicts the finer code from the coarse one, by least squares; the principal directions of the
   residual become the fine part of the code (see `gen_prior.generators.dgn.fine_code`).
3. Train the decoder on finer codes: photographs', sampled and on-policy ones. Where the fine part is weaker than a
   photograph's the decoder learns to be blurry; critics do not see such images, as they would ask for texture there.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.errors import OptionError
from gen_prior.generators.dgn.fine_code import FINE_SIDE, FineCode
from gen_prior.generators.dgn.network import WhitenedCodes, WhitenedDecoder
from gen_prior.hub.strict_loading import load_strictly
from gen_prior.hub.tensors import read_tensors
from gen_prior.training.checkpoints import checkpoints
from gen_prior.training.gan import EnlargingStage, GanStage, Losses, shrink
from gen_prior.training.networks import to_channels_last
from gen_prior.training.photograph_codes import principal_axes
from gen_prior.training.photographs import Photographs
from gen_prior.training.prior_file import Prior
from gen_prior.training.settings import EnlargingSettings, TrainingSettings
from gen_prior.training.stage import Material
from gen_prior.training.trainer import StepReport, Trainer
from gen_prior.util.files import as_output_errors, write_bytes
from gen_prior.util.progress import Progress, ProgressCallback

FITTED = "details.safetensors"
ENCODED_AT_A_TIME = 50
FIT_RATE = 1e-3
FIT_REPORTED = 10
"""Steps of the fit between calls of `progress`."""


@dataclass(frozen=True)
class FineCodeFitSettings:
    """Settings of a fine code, for the stages that make one."""

    weak_details: float = 0.7
    """Largest factor on the fine part of the codes whose images are to be blurry."""
    weak_weight: float = 2.0
    """Weight of the L1 loss of these images."""
    details: int = 1024
    """Dims of the fine part: principal directions of the residual."""
    detail_width: int = 128
    """Channels of the network that predicts the finer code."""
    fit_steps: int = 3_000
    """Steps of the fit of that network."""
    fit_batch: int = 128
    """Codes per step of the fit."""

    def check_fit(self) -> None:
        """Raises `OptionError` for values that no fit can have."""
        if min(self.detail_width, self.fit_steps, self.fit_batch) < 1:
            raise OptionError("detail_width, fit_steps and fit_batch must be at least 1")


@dataclass(frozen=True)
class FineCodeSettings(FineCodeFitSettings, EnlargingSettings):
    """All that a fine code is a function of, beside the photographs, the classifier and the prior."""

    steps: int = 2_200
    rate: float = 4e-4
    critic_rate: float = 4e-4
    adversarial_from: int = 200
    sampled_scale: tuple[float, float] = (0.8, 1.3)
    on_policy: float = 0.25

    def check(self) -> None:
        super().check()
        self.check_fit()


class FineCodeStage(EnlargingStage):
    """Fits the fine code and trains the decoder on it."""

    Settings = FineCodeSettings
    record = "detailing"
    settings: FineCodeSettings

    def __init__(self, material: Material, settings: FineCodeSettings) -> None:
        super().__init__(material, settings)
        network, fitted = self.prior, material.out / FITTED
        details = network.details
        if details is None:
            details = FineCode(len(network.mean), settings.details, settings.detail_width)
            if material.resume and fitted.is_file():
                load_strictly(details, read_tensors(fitted), str(fitted))
            else:
                details = fit_fine_code(self, details.to(self.device), self.photographs, self.training)
                write_bytes(fitted, save({key: value.cpu() for key, value in details.state_dict().items()}))
        self.details = details.requires_grad_(False).eval().to(self.device)
        space = WhitenedCodes(network.mean, network.basis, network.flow, self.details)
        self.space = space.float().requires_grad_(False).eval().to(self.device)
        self.train_networks(decoder=to_channels_last(network.decoder.float().requires_grad_(True), self.device))
        self.add_on_policy(self.space)

    @classmethod
    def completed(cls, settings: FineCodeSettings, prior: Prior) -> FineCodeSettings:
        config = prior.network.config
        if prior.network.details is not None:
            settings = replace(settings, details=config.details, detail_width=config.detail_width)
        check_details(settings.details, config.code_channels)
        return replace(settings, size=2 * config.size)

    def codes(self, photographs: Tensor, sample: bool, generator: torch.Generator) -> tuple[Tensor, Losses]:
        """Finer codes of photographs, then sampled ones; the L1 loss of images of codes with a weak fine part."""
        codes = self.encode(photographs)
        half = len(photographs) // 2
        with torch.no_grad():
            expected = self.details.expected(self.encode(shrink(photographs[:half])))
        loss = weak_loss(self.networks["decoder"], expected, codes, photographs, self.settings, generator)
        codes = self.with_sampled(codes, generator) if sample else codes
        return codes, {"weak": (self.settings.weak_weight, loss)}

    def network(self, *, final: bool = False) -> WhitenedDecoder:
        """The prior with its decoder and fine code; a refiner is left out."""
        parts = {"coring": self.settings.coring, "grain": self.settings.grain, "details": self.details}
        return self.prior.with_parts(decoder=self.average_decoder(), refiner=None, **parts)


def check_details(details: int, code_channels: int) -> None:
    """Raises `OptionError` for more dimensions of a fine code than the finer spatial code has."""
    most = code_channels * FINE_SIDE**2
    if not 1 <= details <= most:
        raise OptionError(f"details must lie in 1 to {most}, got {details}")


def weak_loss(
    decoder: nn.Module,
    expected: Tensor,
    codes: Tensor,
    photographs: Tensor,
    settings: FineCodeFitSettings,
    generator: torch.Generator,
) -> Tensor:
    """L1 loss of images of finer codes between what the coarse ones predict, `expected`, and photographs' `codes`.

    The first half of the photographs is used.
    """
    half = photographs[: len(photographs) // 2]
    expected, codes = expected[: len(half)], codes[: len(half)]
    share = settings.weak_details * torch.rand(len(half), 1, 1, 1, generator=generator).to(codes.device)
    return F.l1_loss(decoder(expected + share * (codes - expected)).float(), half)


class FineCodeFit(Trainer):
    """Fits the network that predicts finer codes from coarse ones, by least squares."""

    def __init__(self, details: FineCode, coarse: Tensor, fine: Tensor, settings: TrainingSettings) -> None:
        """`coarse`: `[N, C, 4, 4]`; `fine`: `[N, C, 8, 8]`."""
        super().__init__(settings, details.basis.device)
        self.coarse, self.fine = coarse, fine
        self.train_networks(details=details.requires_grad_(True))
        self.optimisers["networks"] = torch.optim.AdamW(details.parameters(), settings.rate, weight_decay=0.05)

    def update(self, generator: torch.Generator) -> dict[str, Tensor]:
        chosen = torch.randint(len(self.coarse), (self.settings.batch,), generator=generator)
        details = self.networks["details"]
        assert isinstance(details, FineCode)
        loss = F.mse_loss(details.expected(self.coarse[chosen].to(self.device)), self.fine[chosen].to(self.device))
        self._step_optimiser(loss, max_norm=1.0)
        return {"missing": loss.detach()}

    def fitted(self, dims: int) -> FineCode:
        """The fine code of `dims` dimensions, with averaged weights and the residual's principal directions."""
        details = self.averages["details"]
        assert isinstance(details, FineCode)
        details.basis.copy_(residual_directions(details, self.coarse, self.fine, dims))
        return details


def fit_fine_code(stage: GanStage, details: FineCode, photographs: Photographs, chosen: Tensor) -> FineCode:
    """`details` fitted to the codes of the `chosen` ones of `photographs`, by a run in the folder `fit` of the stage's.

    The stage's settings are `FineCodeFitSettings`.
    """
    settings, material = stage.settings, stage.material
    assert isinstance(settings, FineCodeFitSettings)
    folder, progress = material.out / "fit", material.progress
    if not material.resume:
        shutil.rmtree(folder, ignore_errors=True)
    with as_output_errors(folder):
        folder.mkdir(exist_ok=True)
    coarse, fine = _code_pairs(stage, photographs, chosen, progress)
    own = TrainingSettings(
        settings.fit_steps, settings.fit_batch, FIT_RATE, cooldown=0.5, ema=0.99, seed=settings.seed, precision="fp32"
    )
    fit = FineCodeFit(details, coarse, fine, own)

    def report(done: StepReport) -> None:
        if progress is not None:
            progress(Progress(done["step"], done["steps"], "fitting the prediction of finer codes, step"))

    fit.run(folder, resume=bool(checkpoints(folder)), log_every=FIT_REPORTED, report=report)
    return fit.fitted(settings.details)


def _code_pairs(
    stage: GanStage, photographs: Photographs, chosen: Tensor, progress: ProgressCallback | None
) -> tuple[Tensor, Tensor]:
    """Coarse `[2N, C, 4, 4]` and finer codes `[2N, C, 8, 8]` of the chosen photographs and their mirror images."""
    coarse, fine = [], []
    for part in chosen.split(ENCODED_AT_A_TIME):
        images = photographs.batch(part, device=stage.device)
        for seen in (images, images.flip(-1)):
            coarse.append(stage.encode(shrink(seen)).cpu())
            fine.append(stage.encode(seen).cpu())
        if progress is not None:
            progress(Progress(sum(map(len, fine)) // 2, len(chosen), "encoding photographs"))
    return torch.cat(coarse), torch.cat(fine)


def residual_directions(details: FineCode, coarse: Tensor, fine: Tensor, count: int) -> Tensor:
    """Principal directions of what the prediction leaves of finer codes, scaled by their stds: `[C * 64, count]`."""
    size, device = fine[0].numel(), details.basis.device
    total = torch.zeros(size, size, device=device)
    with torch.no_grad():
        for low, high in zip(coarse.split(256), fine.split(256), strict=True):
            residual = (high.to(device) - details.expected(low.to(device))).flatten(1)
            total += residual.T @ residual
    values, vectors = principal_axes(total / len(fine))
    return (vectors[:, :count] * values[:count].sqrt()).float()
