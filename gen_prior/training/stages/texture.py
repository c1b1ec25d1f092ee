"""A trained prior unlearns the texture that its critics left where a code says nothing.

Codes of photographs lie on a shell; nearer to the mean code there are none, so no photograph ever told the decoder what
to draw there. Critics did: a woven pattern, as rough as any photograph. It is the fine part of the image of the mean
code, it shows wherever a code says little, and an optimisation that strays there stays there.
Here the decoder learns from its own images to leave that pattern out everywhere, and that what lies t times as far from
the mean may be t times as rough; else images of codes on the shell, and the coarse part of all images, stay as they
are. That takes no photographs.
"""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur
from torchvision.utils import make_grid

from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.dgn.blocks import CODE_SIDE
from gen_prior.generators.dgn.flow import aimed
from gen_prior.generators.dgn.generator import FILE, read_network
from gen_prior.generators.dgn.network import WhitenedDecoder
from gen_prior.hub.tensors import file_sha256
from gen_prior.training.base_trainer import Training
from gen_prior.training.checkpoints import checkpoints
from gen_prior.training.export import NETWORKS_FILE, record_of, save_generator
from gen_prior.training.fit import Progress, conduct
from gen_prior.training.gan import placed
from gen_prior.training.prior_file import refuse_details
from gen_prior.training.settings import TrainingSettings
from gen_prior.util.devices import resolve_device

BLUR = (7, 1.5)
"""Side and deviation, in pixels, of the blur that parts the coarse from the fine."""
NEAR = (17, 4.0)
"""Side and deviation of the window, in pixels, in which the pattern's share of an image is measured."""
COARSE = 8
"""Side, in pixels, of the areas over which roughness and the coarse part are averaged."""
SHEET_COLUMNS, SHEET_SCALES = 8, (1.0, 0.6, 0.3, 0.0)


@dataclass(frozen=True)
class CalmSettings(TrainingSettings):
    """Everything but the prior that the calmed one is a function of."""

    steps: int = 300
    batch: int = 12
    rate: float = 3e-4
    cooldown: float = 0.6
    ema: float = 0.95
    radius: float = 1.1
    """Of the shell that the optimisation will keep codes on."""
    aimed: float = 0.7
    """Part of the codes that begin at a class, where the prior has a flow; the others are random."""
    directions: int = 60
    """Those of the largest variance: half of the codes lose only these."""
    louder: float = 1.2
    """The other directions, where kept, are multiplied by a half up to this."""
    roughness_weight: float = 2.0
    pattern_weight: float = 0.5
    calms: str = ""
    """SHA-256 of the prior's file."""


class CalmTrainer(Training):
    """Trains the decoder and the refiner of a prior to be calm near its mean code."""

    settings: CalmSettings

    def __init__(self, prior: WhitenedDecoder, settings: CalmSettings, device: torch.device) -> None:
        super().__init__(settings, device)
        self.prior = placed(prior.float().requires_grad_(False).eval(), device)
        networks = {"decoder": deepcopy(prior.decoder), "refiner": deepcopy(prior.refiner)}
        kept = {name: network for name, network in networks.items() if any(True for _ in network.parameters())}
        self.train_networks(**{name: network.requires_grad_(True) for name, network in kept.items()})
        with torch.no_grad():
            self.pattern = fine(self.draw_images(self.prior.mean[None]))
        parameters = [p for network in self.networks.values() for p in network.parameters()]
        self.optimisers["networks"] = torch.optim.Adam(parameters, settings.rate, betas=(0.9, 0.99))

    def white_codes(self, count: int, source: torch.Generator) -> Tensor:
        """White codes `[count, D]` such as optimisations begin with where there are no layouts."""
        noise = torch.randn(count, self.prior.numbers, generator=source)
        flow = self.prior.flow
        if flow is not None:
            classes = flow.classes.float().cpu()
            chosen = classes[torch.randint(len(classes), (count,), generator=source)]
            known = torch.rand(count, 1, generator=source) < self.settings.aimed
            noise = torch.where(known, aimed(chosen, noise), noise)
        length = self.settings.radius * self.prior.numbers**0.5
        codes = (noise * (length / noise.norm(dim=1, keepdim=True))).to(self.device)
        return codes if flow is None else cast(Tensor, flow(codes))

    def weakened(self, white: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Spatial codes `[B, C, 4, 4]` nearer to the mean, and how near: factors `[B, 1, 4, 4]` in 0 to 1.

        Half are weakened everywhere alike, half more in some places; half in all directions, half in the largest.
        """
        settings, count = self.settings, len(white)

        def draw(*shape: int) -> Tensor:
            return torch.rand(count, *shape, generator=source)

        where = F.interpolate(draw(1, 2, 2), (CODE_SIDE, CODE_SIDE), mode="bilinear", align_corners=False)
        where = torch.where(draw(1, 1, 1) < 0.5, where, torch.ones(()))
        factor = (1 - where * (1 - 0.95 * draw(1, 1, 1))).to(self.device)
        gain = (0.5 + (settings.louder - 0.5) * draw(1, 1, 1)).to(self.device)
        kept = (draw(1, 1, 1) < 0.5).to(self.device)
        large = torch.arange(white.shape[1], device=self.device) < settings.directions
        basis, shape = self.prior.basis, (count, *self.prior.mean.shape)
        main, rest = ((white * part) @ basis.T for part in (large, ~large))
        spatial = self.prior.mean + main.view(shape) * factor + rest.view(shape) * torch.where(kept, gain, factor)
        return spatial, factor

    def draw_images(self, spatial: Tensor, networks: dict[str, nn.Module] | None = None) -> Tensor:
        """Images of spatial codes, by the prior as it was or by `networks`."""
        decoder = self.prior.decoder if networks is None else networks["decoder"]
        refiner = self.prior.refiner if networks is None else networks.get("refiner", self.prior.refiner)
        with self.precision():
            images: Tensor = refiner(decoder(spatial))
        return images.float()

    def share(self, images: Tensor) -> Tensor:
        """The pattern's share of the fine part of images `[B, 3, H, W]`, `[B, 1, H, W]`: 1 where all of it is there."""

        def near(values: Tensor) -> Tensor:
            return blurred(values.sum(1, keepdim=True), NEAR)

        return near(fine(images) * self.pattern) / (near(self.pattern.square()) + 1e-4)

    def _train_step(self) -> dict[str, Tensor]:
        settings, source = self.settings, self.draws()
        self._set_rates()
        with torch.no_grad():
            white = self.white_codes(settings.batch, source).float()
            whole = self.prior.mean + (white @ self.prior.basis.T).view(-1, *self.prior.mean.shape)
            weak, factor = self.weakened(white, source)
            drawn = self.draw_images(torch.cat([whole, weak]))
            before, weak_before = (drawn - self.share(drawn) * self.pattern).split(settings.batch)
            rough, weak_rough = roughness(before), roughness(weak_before)
            near = F.interpolate(factor, rough.shape[-2:], mode="bilinear", align_corners=False)
            allowed = torch.minimum(rough * near, weak_rough)
        images, weak_images = self.draw_images(torch.cat([whole, weak]), self.networks).split(settings.batch)
        losses = {
            "kept": F.l1_loss(images, before) + F.l1_loss(roughness(images), rough),
            "coarse": F.l1_loss(F.avg_pool2d(weak_images, COARSE), F.avg_pool2d(weak_before, COARSE)),
            "pattern": self.share(torch.cat([images, weak_images])).square().mean(),
            "rough": (roughness(weak_images) - allowed).clamp_min(0).mean(),
        }
        loss = losses["kept"] + losses["coarse"] + settings.roughness_weight * losses["rough"]
        loss = loss + settings.pattern_weight * losses["pattern"]
        optimiser = self.optimisers["networks"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        self._average()
        return {name: value.detach() for name, value in losses.items()}

    def result(self) -> WhitenedDecoder:
        """The prior with what was learned."""
        return self.prior.with_parts(**self.averages)

    def sheet(self) -> Tensor:
        """`[3, H, W]`: columns are codes; pairs of rows, before and after, ever nearer to the mean."""
        with torch.no_grad():
            white = self.white_codes(SHEET_COLUMNS, torch.Generator().manual_seed(self.settings.seed)).float()
            away = (white @ self.prior.basis.T).view(-1, *self.prior.mean.shape)
            rows = []
            for scale in SHEET_SCALES:
                spatial = self.prior.mean + scale * away
                rows += [self.draw_images(spatial), self.draw_images(spatial, self.averages)]
        grid: Tensor = make_grid(torch.cat(rows).clamp(0, 1).cpu(), nrow=SHEET_COLUMNS)
        return grid


def blurred(images: Tensor, window: tuple[int, float]) -> Tensor:
    """Images after a Gaussian blur, by its side and deviation."""
    side, deviation = window
    return gaussian_blur(images, [side, side], [deviation, deviation])


def fine(images: Tensor) -> Tensor:
    """What a slight blur takes away from images, of their shape."""
    return images - blurred(images, BLUR)


def roughness(images: Tensor) -> Tensor:
    """Deviation of each area's pixels from their blurred neighbourhood, `[B, 1, H / 8, W / 8]`."""
    squares = fine(images).square().mean(1, keepdim=True)
    return (F.avg_pool2d(squares, COARSE) + 1e-6).sqrt()


def calm_prior(
    prior: str | Path,
    out: str | Path,
    settings: CalmSettings | None = None,
    *,
    device: str = "auto",
    resume: bool = False,
    log_every: int = 25,
    checkpoint_seconds: float = 240.0,
    progress: Progress | None = None,
) -> Path:
    """Teach a prior to draw nothing rough where its code says nothing, and export it.

    Args:
        prior: the folder that a training or `gen-prior export` left; needs neither the classifier nor photographs.
        out: another folder, for checkpoints, `log.jsonl`, sample sheets and the result.
        settings: all that the result is a function of, beside the prior.
        device, resume, log_every, checkpoint_seconds, progress: as of `train_prior`.

    Returns:
        The exported file; `load_generator("local-dir:OUT")` loads it.

    Raises:
        OptionError: settings that make no sense, a folder with another run.
        WeightsError: a folder without a prior.
        OutputError: a folder that cannot be written to.
    """
    settings, prior, out = settings if settings is not None else CalmSettings(), Path(prior), Path(out)
    if settings.steps < 1 or settings.batch < 2:
        raise OptionError(f"steps must be at least 1 and batch 2, got {settings.steps} and {settings.batch}")
    if checkpoints(out) and not resume:
        raise OptionError(f"{out} holds a training run", fix="go on with --resume, or pass another --out")
    path = prior / FILE
    if not path.is_file():
        raise WeightsError(f"no {FILE} in {prior}", fix="pass the folder that a training or gen-prior export wrote")
    network, metadata = read_network(path, str(path))
    refuse_details(network.config, prior)
    trainer = CalmTrainer(network, replace(settings, calms=file_sha256(path)), resolve_device(device))
    timing: dict[str, Any] = {"log_every": log_every, "checkpoint_seconds": checkpoint_seconds}
    out.mkdir(parents=True, exist_ok=True)
    conduct(trainer, out, resume=resume, sheet=trainer.sheet, progress=progress, **timing)
    if (prior / NETWORKS_FILE).is_file():  # the code keeps its meaning, so further training can go on from here
        shutil.copyfile(prior / NETWORKS_FILE, out / NETWORKS_FILE)
    added = {"name": out.resolve().name, "calming": json.dumps(record_of(trainer))}
    return save_generator(trainer.result(), metadata | added, out)
