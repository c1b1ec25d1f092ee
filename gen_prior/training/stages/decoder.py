"""Stage 1, `train_decoder`: train an encoder and a decoder that invert a classifier's features on photographs.

After Dosovitskiy & Brox 2016 (arXiv 1602.02644), with a variational encoder (Kingma & Welling 2014, arXiv 1312.6114).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gen_prior.classifiers import Classifier
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.generators.dgn.blocks import CODE_SIDE
from gen_prior.generators.dgn.config import SIZES
from gen_prior.generators.dgn.generator import FORMAT, RECIPE
from gen_prior.generators.dgn.network import Decoder, WhitenedCodes, WhitenedDecoder
from gen_prior.hub.strict_loading import load_strictly
from gen_prior.optimise.synthesize import synthesize
from gen_prior.training.fit import SHEET_COLUMNS, RunOptions, check_run, contact_sheet, fit, read_photographs
from gen_prior.training.gan import GanTrainer, Losses
from gen_prior.training.networks import Encoder, FeatureExtractor, choose_hook_layers, to_channels_last
from gen_prior.training.photograph_codes import principal_axes
from gen_prior.training.photographs import Photographs
from gen_prior.training.prior_file import (
    NETWORKS_FILE,
    load_networks,
    part_of,
    run_record,
    save_generator,
    save_networks,
)
from gen_prior.training.settings import GanSettings
from gen_prior.util.progress import ProgressCallback

if TYPE_CHECKING:
    from typing_extensions import Unpack

VARIANCE_KEPT = 0.99
EXPORT_PHOTOGRAPHS, ON_POLICY_PHOTOGRAPHS, SHEET_PHOTOGRAPHS = 20_000, 5_000, 512
"""Photographs over which code statistics are taken: for the export, for on-policy codes and for contact sheets."""


@dataclass(frozen=True)
class DecoderSettings(GanSettings):
    """All that a prior is a function of, beside the photographs and the classifier."""

    code_channels: int = 64
    width: float = 1.0
    """Factor on the decoder's channels."""
    kl_weight: float = 2e-4
    encoder_rate: float = 1.0
    """Factor on the encoder's learning rate; at 0 codes keep their meaning, which on-policy codes need."""

    def check(self) -> None:
        super().check()
        if self.size not in SIZES:
            raise OptionError(f"size must be one of {', '.join(map(str, SIZES))}, got {self.size}")
        if not 0 < self.width <= 16:
            raise OptionError(f"width must lie in 0 to 16, got {self.width}")
        if self.on_policy > 0 and self.encoder_rate:
            raise OptionError("on-policy codes need a frozen encoder", fix="pass --start-from and --set encoder_rate=0")


class DecoderTrainer(GanTrainer):
    """Trains an encoder of the classifier's features and the decoder of its codes."""

    settings: DecoderSettings

    def __init__(self, extractor: FeatureExtractor, photographs: Photographs, settings: DecoderSettings) -> None:
        super().__init__(extractor, photographs, settings)
        channels = [len(std) for std in self.stds]
        self.rate_factors = {"encoder": settings.encoder_rate}
        self.train_networks(
            encoder=to_channels_last(Encoder(channels, settings.code_channels), self.device),
            decoder=to_channels_last(Decoder(settings.code_channels, settings.size, settings.width), self.device),
        )
        self.networks["encoder"].requires_grad_(settings.encoder_rate > 0)

    def encode(self, images: Tensor) -> Tensor:
        """Images `[B, 3, S, S]` -> mean spatial codes `[B, C, 4, 4]` by the averaged encoder."""
        with torch.no_grad(), self.autocast():
            features = self.extractor.scaled(images.to(self.device), self.stds)
            mean: Tensor = self.averages["encoder"](features)[0].float()
        return mean

    def codes(self, photographs: Tensor, sample: bool, generator: torch.Generator) -> tuple[Tensor, Losses]:
        """Codes drawn from the encoder's Gaussians, then sampled ones; their KL divergence from N(0, 1)."""
        with torch.no_grad():
            features = self.extractor.scaled(photographs, self.stds)
        mean, log_variance = self.networks["encoder"](features)
        mean, log_variance = mean.float(), log_variance.float()
        noise = torch.randn(mean.shape, generator=generator).to(self.device)
        code = mean + noise * (0.5 * log_variance).exp()
        if sample:
            code = torch.cat([code, self._sample(mean.detach(), generator)])
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)).mean()
        return code, {"kl": (self.settings.kl_weight, divergence)}

    def _sample(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Samples of N(mean, covariance of the batch), as Gaussian combinations of its codes; scaled at random."""
        centre = codes.mean(0, keepdim=True)
        count = round(len(codes) * self.settings.sampled)
        weights = torch.randn(count, len(codes), generator=generator).to(codes) / max(1, len(codes) - 1) ** 0.5
        low, high = self.settings.sampled_scale
        weights = weights * (low + (high - low) * torch.rand(count, 1, generator=generator).to(codes))
        return centre + torch.einsum("kb,bchw->kchw", weights, codes - centre)

    def network_tensors(self) -> dict[str, Tensor]:
        """Averaged encoder and decoder, and the critics: the networks that another run can start from."""
        parts = {**self.averages, "critic": self.critic}
        return {f"{part}.{key}": value for part, module in parts.items() for key, value in module.state_dict().items()}

    def start_from(self, networks: Mapping[str, Tensor], origin: str) -> None:
        """Load the networks of another run. Raises `WeightsError` if they have other shapes."""
        for part, modules in {
            "encoder": (self.networks["encoder"], self.averages["encoder"]),
            "decoder": (self.networks["decoder"], self.averages["decoder"]),
            "critic": (self.critic,),
        }.items():
            for module in modules:
                load_strictly(module, part_of(networks, part), origin)

    def whitened(self, photographs: int) -> WhitenedDecoder:
        """The averaged decoder of whitened codes, by the statistics of so many photographs' codes."""
        return WhitenedDecoder(self.average_decoder(), *code_statistics(self, photographs))


def train_decoder(
    classifier: Classifier,
    images: str | Path,
    out: str | Path,
    settings: DecoderSettings | None = None,
    *,
    resume: bool = False,
    start_from: str | Path | None = None,
    sheet_steps: int = 32,
    progress: ProgressCallback | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train a deep generator network that inverts `classifier`, and export it.

    Args:
        classifier: any convolutional classifier; it is read, never changed.
        images: a folder of photographs, nested or flat, or of `.tar` shards of them.
        out: folder for the cache of decoded photographs, checkpoints, `log.jsonl`, contact sheets and the result.
        settings: all that the result is a function of, beside the photographs and the classifier.
        resume: go on from the newest undamaged checkpoint in `out`.
        start_from: `networks.safetensors` of another run of the same shape, to start with its networks; the critics
            then take part from the first step.
        sheet_steps: steps of activation maximisation on the contact sheets.
        progress: called while photographs are read.
        options: see `gen_prior.training.fit.RunOptions`.

    Returns:
        The exported file; `load_generator("local-dir:OUT")` loads it.

    Raises:
        OptionError: impossible settings, a classifier without suitable layers, a folder with another run.
        ImageError: no images, too few, or most of them unreadable.
        OutputError: a folder that cannot be written to.
    """
    settings, out = settings if settings is not None else DecoderSettings(), Path(out)
    check_run(images, out, settings, resume)
    networks = None
    if start_from is not None:
        networks, digest = load_networks(Path(start_from))
        settings = replace(settings, started_from=digest, adversarial_from=0)
    extractor = FeatureExtractor(classifier, choose_hook_layers(classifier, settings.size))
    photographs = read_photographs(images, out, settings.batch, settings.size, progress)
    trainer = DecoderTrainer(extractor, photographs, settings)
    if networks is not None:
        trainer.start_from(networks, str(start_from))
    if settings.on_policy:
        trainer.add_on_policy(WhitenedCodes(*code_statistics(trainer, ON_POLICY_PHOTOGRAPHS)))
    fit(trainer, out, lambda: sample_sheet(trainer, classifier, sheet_steps), resume=resume, **options)
    return _export(trainer, classifier, out)


def _export(trainer: DecoderTrainer, classifier: Classifier, out: Path) -> Path:
    """Write the generator and the networks that further training starts from into `out`."""
    network = trainer.whitened(EXPORT_PHOTOGRAPHS)
    metadata = {
        "format": FORMAT,
        "training": run_record(trainer),
        "data": json.dumps(asdict(trainer.photographs.description)),
        "classifier": json.dumps(classifier.describe()),
        "taps": json.dumps(list(trainer.hook_layers)),
        "code": "gen_prior/training",
    }
    save_networks(out / NETWORKS_FILE, trainer.network_tensors(), settings=json.dumps(asdict(trainer.settings)))
    return save_generator(network, metadata, out)


def code_statistics(trainer: DecoderTrainer, photographs: int, batch: int = 256) -> tuple[Tensor, Tensor]:
    """Mean `[C, 4, 4]` and scaled principal directions `[C * 16, D]` of training photographs' codes and their mirrors'.

    The directions, as columns, hold `VARIANCE_KEPT` of the variance, largest first, scaled by their stds.
    """
    count = min(photographs, len(trainer.training))
    chosen = trainer.training[torch.linspace(0, len(trainer.training) - 1, count).long()]
    shape = (trainer.settings.code_channels, CODE_SIDE, CODE_SIDE)
    size = trainer.settings.code_channels * CODE_SIDE**2
    total, moment = torch.zeros(size, dtype=torch.double), torch.zeros(size, size, dtype=torch.double)
    for indices in chosen.split(batch):
        images = trainer.photographs.batch(indices)
        codes = torch.cat([trainer.encode(images), trainer.encode(images.flip(-1))])
        flat = codes.flatten(1).double().cpu()
        total += flat.sum(0)
        moment += flat.T @ flat
    mean = total / (2 * count)
    covariance = (moment / (2 * count) - mean[:, None] * mean).float()
    values, vectors = principal_axes(covariance.double())
    kept = int((values.cumsum(0) / values.sum() < VARIANCE_KEPT).sum()) + 1
    return mean.float().view(shape), (vectors[:, :kept] * values[:kept].sqrt()).float()


def sample_sheet(trainer: DecoderTrainer, classifier: Classifier, steps: int) -> Tensor:
    """`[3, H, W]`, rows: held-out photographs, their reconstructions, sampled codes, classes maximised."""
    columns = min(SHEET_COLUMNS, len(trainer.held_out))
    photographs = trainer.photographs.batch(trainer.held_out[:columns], device=trainer.device)
    network = deepcopy(trainer.whitened(SHEET_PHOTOGRAPHS))
    generator = Generator(network, (network.dims,), output_range=(0, 1), name="in training", recipe=RECIPE)
    generator = generator.to(trainer.device)
    sampled = torch.randn(columns, *generator.code_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoded = trainer.average_decoder()(trainer.encode(photographs))
        rows = [photographs, decoded, generator(sampled.to(trainer.device))]
    classes = classifier.classes
    count = min(columns, classes)
    targets = [f"{LOGITS}:{round(index * (classes - 1) / max(1, count - 1))}" for index in range(count)]
    return contact_sheet([*rows, synthesize(classifier, targets, generator, steps=steps).images[:, 0]])
