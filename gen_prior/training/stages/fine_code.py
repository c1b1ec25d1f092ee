"""Stage `train_fine_code`: give a prior's code a fine part, for images of twice the side drawn by the same decoder.

1. Encode large photographs twice: shrunk to the prior's size, and at twice that side, where the encoder gives a spatial
   code of four times as many positions.
2. Fit a network that predicts the finer code from the coarse one, by least squares; the principal directions of the
   residual become the fine part of the code (see `gen_prior.generators.dgn.fine_code`).
3. Train the decoder on finer codes: photographs', sampled and on-policy ones. Where the fine part is weaker than a
   photograph's the decoder learns to be blurry; critics do not see such images, as they would ask for texture there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.dgn.fine_code import FINE_SIDE, FineCode
from gen_prior.generators.dgn.network import WhitenedCodes
from gen_prior.hub.strict_loading import load_strictly
from gen_prior.hub.tensors import read_tensors
from gen_prior.training.checkpoints import checkpoints
from gen_prior.training.enlarging import EnlargingSettings, EnlargingTrainer, shrink
from gen_prior.training.fit import SHEET_COLUMNS, RunOptions, check_run, contact_sheet, fit, read_photographs
from gen_prior.training.gan import Losses
from gen_prior.training.networks import to_channels_last
from gen_prior.training.photograph_codes import principal_axes
from gen_prior.training.photographs import Photographs
from gen_prior.training.prior_file import Prior, open_prior, save_encoder, save_generator
from gen_prior.util.files import write_bytes
from gen_prior.util.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from typing_extensions import Unpack

SHEET_SIZES = (0.3, 1.0)
FITTED = "details.safetensors"
ENCODED_AT_A_TIME = 50
FIT_RATE = 1e-3
FIT_REPORTED = 10
"""Steps of the fit between calls of `progress`."""


@dataclass(frozen=True)
class FineCodeSettings(EnlargingSettings):
    """All that a fine code is a function of, beside the photographs, the classifier and the prior."""

    steps: int = 2_200
    batch: int = 16
    rate: float = 4e-4
    critic_rate: float = 4e-4
    adversarial_from: int = 200
    sampled_scale: tuple[float, float] = (0.8, 1.3)
    weak_details: float = 0.7
    """Largest factor on the fine part of the codes whose images are to be blurry."""
    weak_weight: float = 2.0
    on_policy: float = 0.25
    details: int = 1024
    """Dims of the fine part: principal directions of the residual."""
    detail_width: int = 128
    """Channels of the network that predicts the finer code."""
    fit_steps: int = 3_000
    fit_batch: int = 128

    def check(self) -> None:
        super().check()
        if min(self.detail_width, self.fit_steps, self.fit_batch) < 1:
            raise OptionError("detail_width, fit_steps and fit_batch must be at least 1")


class FineCodeTrainer(EnlargingTrainer):
    """Fits the fine code and trains the decoder on it."""

    settings: FineCodeSettings

    def __init__(
        self,
        prior: Prior,
        photographs: Photographs,
        settings: FineCodeSettings,
        details: FineCode | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        """`details`: if fitted earlier; else they are fitted here."""
        super().__init__(prior, photographs, settings)
        network = prior.network
        details = details if details is not None else self._fitted(len(network.mean), progress)
        self.details = details.requires_grad_(False).eval().to(self.device)
        self.space = (
            WhitenedCodes(network.mean, network.basis, network.flow, self.details).float().requires_grad_(False)
        )
        self.space.eval().to(self.device)
        self.train_networks(decoder=to_channels_last(network.decoder.float().requires_grad_(True), self.device))

    def _fitted(self, channels: int, progress: ProgressCallback | None) -> FineCode:
        """The fine code fitted to the training photographs' codes."""
        coarse, fine = self._code_pairs(progress)
        settings = self.settings
        torch.manual_seed(settings.seed)
        details = FineCode(channels, settings.details, settings.detail_width).to(self.device)
        fit_prediction(details, coarse, fine, settings, progress)
        details.basis.copy_(residual_directions(details, coarse, fine, settings.details))
        return details

    def _code_pairs(self, progress: ProgressCallback | None) -> tuple[Tensor, Tensor]:
        """Coarse `[2N, C, 4, 4]` and finer codes `[2N, C, 8, 8]` of training photographs and their mirror images."""
        coarse, fine = [], []
        for part in self.training.split(ENCODED_AT_A_TIME):
            images = self.photographs.batch(part, device=self.device)
            for seen in (images, images.flip(-1)):
                coarse.append(self.encode(shrink(seen)).cpu())
                fine.append(self.encode(seen).cpu())
            if progress is not None:
                progress(Progress(sum(map(len, fine)) // 2, len(self.training), "encoding photographs"))
        return torch.cat(coarse), torch.cat(fine)

    def codes(self, photographs: Tensor, sample: bool, generator: torch.Generator) -> tuple[Tensor, Losses]:
        """Finer codes of photographs, then sampled ones; the L1 loss of images of codes with a weak fine part."""
        codes = self.encode(photographs)
        half = photographs[: len(photographs) // 2]
        with torch.no_grad():
            expected = self.details.expected(self.encode(shrink(half)))
        share = self.settings.weak_details * torch.rand(len(half), 1, 1, 1, generator=generator).to(self.device)
        weak = expected + share * (codes[: len(half)] - expected)
        blurry = F.l1_loss(self.networks["decoder"](weak).float(), half)
        codes = self.with_sampled(codes, generator) if sample else codes
        return codes, {"weak": (self.settings.weak_weight, blurry)}

    def images(self, codes: Tensor, count: int) -> tuple[Tensor, Losses]:
        """The decoder's images after coring."""
        return self.cored(super().images(codes, count)[0])


def fit_prediction(
    details: FineCode,
    coarse: Tensor,
    fine: Tensor,
    settings: FineCodeSettings,
    progress: ProgressCallback | None = None,
) -> None:
    """Fit the network that predicts finer codes from coarse ones, by least squares."""
    device, source = details.basis.device, torch.Generator().manual_seed(settings.seed)
    parameters = [parameter.requires_grad_(True) for parameter in details.parameters()]
    optimiser = torch.optim.AdamW(parameters, FIT_RATE, weight_decay=0.05)
    for step in range(settings.fit_steps):
        fall = min(1.0, 2 * (settings.fit_steps - step) / settings.fit_steps)
        optimiser.param_groups[0]["lr"] = FIT_RATE * min(1.0, (step + 1) / 100) * max(0.02, fall)
        chosen = torch.randint(len(coarse), (settings.fit_batch,), generator=source)
        loss = F.mse_loss(details.expected(coarse[chosen].to(device)), fine[chosen].to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if progress is not None and (step + 1) % FIT_REPORTED == 0:
            progress(Progress(step + 1, settings.fit_steps, "fitting the prediction of finer codes, step"))


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


def train_fine_code(
    classifier: Classifier,
    prior: str | Path,
    images: str | Path,
    out: str | Path,
    settings: FineCodeSettings | None = None,
    *,
    resume: bool = False,
    progress: ProgressCallback | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Give a prior's code a fine part, for images of twice the side, and export it.

    Args:
        classifier: the one that the prior was trained on.
        prior: the folder of an earlier stage. A refiner that it has is left out; a fine code that it has is kept, and
            its decoder is trained on.
        images: photographs larger than the decoder's images: a folder, nested or flat, or `.tar` shards. A few hundred
            are enough, since `settings.crops` random squares are cut out of each.
        out: another folder.
        settings: their size is set to twice the prior's.
        resume, progress, options: as for `train_decoder`.

    Returns and raises as `train_decoder`; also `WeightsError` for a folder without a prior, and `OptionError` for
    another classifier.
    """
    settings, out = settings if settings is not None else FineCodeSettings(), Path(out)
    check_run(images, out, settings, resume)
    parent = open_prior(Path(prior), classifier)
    network, config = parent.network, parent.network.config
    if network.details is not None:
        settings = replace(settings, details=config.details, detail_width=config.detail_width)
    most = config.code_channels * FINE_SIDE**2
    if not 1 <= settings.details <= most:
        raise OptionError(f"details must lie in 1 to {most}, got {settings.details}")
    settings = replace(settings, size=2 * config.size, parent_sha256=parent.sha256)
    photographs = read_photographs(images, out, settings.batch, settings.size, progress, settings.crops)
    fitted = network.details
    if fitted is None and resume and checkpoints(out):
        fitted = _load_fitted(out / FITTED, FineCode(config.code_channels, settings.details, settings.detail_width))
    trainer = FineCodeTrainer(parent, photographs, settings, fitted, progress)
    if fitted is None:
        tensors = {key: value.detach().cpu().contiguous() for key, value in trainer.details.state_dict().items()}
        write_bytes(out / FITTED, save(tensors))
    trainer.add_on_policy(trainer.space)
    fit(trainer, out, lambda: sample_sheet(trainer), resume=resume, **options)
    save_encoder(parent.encoder, out)
    whole = network.with_parts(
        decoder=trainer.average_decoder(),
        refiner=None,
        details=trainer.details,
        coring=settings.coring,
        grain=settings.grain,
    )
    return save_generator(whole, trainer.metadata(parent.metadata, "detailing"), out)


def _load_fitted(path: Path, details: FineCode) -> FineCode | None:
    """The fine code that an interrupted run fitted; None if it did not come so far."""
    if not path.is_file():
        return None
    load_strictly(details, read_tensors(path), str(path))
    return details


def sample_sheet(trainer: FineCodeTrainer) -> Tensor:
    """`[3, H, W]`, rows: photographs, their finer codes; initial codes of classes, their fine part weak and whole."""
    photographs = trainer.held_out_batch(SHEET_COLUMNS)
    columns = len(photographs)
    space, decoder = trainer.space, trainer.average_decoder()
    noise = torch.randn(columns, space.dims, generator=torch.Generator().manual_seed(0)).to(trainer.device)
    classes = 1 if space.flow is None else len(space.flow.classes)
    chosen = torch.linspace(0, classes - 1, columns).long().to(trainer.device)
    with torch.no_grad():
        coarse, details = space.sample(chosen, noise)
        codes = [trainer.encode(photographs)]
        codes += [space.spatial(torch.cat([coarse, size * details], 1)) for size in SHEET_SIZES]
        return contact_sheet([photographs, *(trainer.coring(decoder(spatial)) for spatial in codes)])
