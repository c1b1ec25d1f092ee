"""The training of a generator prior: reconstruct photographs, then also convince critics, resumably.

Every random draw is a function of (seed, step), so a resumed run follows the same trajectory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.dgn import load_strictly
from gen_prior.generators.dgn_network import Decoder
from gen_prior.training.checkpoints import latest_checkpoint, save_checkpoint
from gen_prior.training.images import Photographs
from gen_prior.training.networks import Critic, Encoder, Trunk


@dataclass(frozen=True)
class Settings:
    """Everything but the data and the classifier that a trained prior is a function of."""

    size: int = 64
    code_channels: int = 64
    width: float = 1.0
    steps: int = 20_000
    batch: int = 64
    rate: float = 5e-4
    critic_rate: float = 2e-4
    cooldown: float = 0.2
    """Fraction of the steps, at the end, over which the rates fall linearly to a twentieth."""
    adversarial_from: int = 2_000
    """First step at which the critics take part; they learn alone for the 200 steps before."""
    pixel_weight: float = 4.0
    feature_weight: float = 1.0
    kl_weight: float = 2e-4
    adversarial_weight: float = 0.3
    imagined: float = 0.5
    """Imagined codes per photograph in the adversarial phase, drawn with the batch's own covariance."""
    imagined_scale: tuple[float, float] = (0.5, 1.4)
    """Each imagined code lies this many times as far from the mean: an optimised code may leave the typical shell."""
    shift: int = 3
    """Features are compared after a random shift of up to this many pixels: strides leave no fixed pattern."""
    ema: float = 0.998
    held_out: int = 1_000
    seed: int = 0
    precision: str = "bf16"
    started_from: str = ""
    """SHA-256 of the networks that the run began with; empty where it began with random ones."""


class Trainer:
    """Holds the networks, their averages and optimisers; `run` yields a record of the losses now and then."""

    def __init__(
        self,
        trunk: Trunk,
        normalise: Callable[[Tensor], Tensor],
        photographs: Photographs,
        settings: Settings,
        device: torch.device,
    ) -> None:
        self.settings, self.photographs, self.device = settings, photographs, device
        self.trunk, self.normalise = trunk.to(device).eval(), normalise
        torch.manual_seed(settings.seed)
        order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(settings.seed))
        held_out = min(settings.held_out, len(photographs) // 10)
        self.held_out, self.training = order[:held_out], order[held_out:]
        self.deviations = self._feature_deviations()
        channels = [len(deviation) for deviation in self.deviations]
        self.encoder = Encoder(channels, settings.code_channels).to(device)
        self.decoder = Decoder(settings.code_channels, settings.size, settings.width).to(device)
        self.critic = Critic(channels, settings.size).to(device)
        for network in (self.encoder, self.decoder, self.critic, self.trunk):
            network.to(memory_format=torch.channels_last)
        self.encoder_average = deepcopy(self.encoder).requires_grad_(False)
        self.decoder_average = deepcopy(self.decoder).requires_grad_(False)
        self.optimiser = torch.optim.Adam(
            [*self.encoder.parameters(), *self.decoder.parameters()], settings.rate, betas=(0.5, 0.99)
        )
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), settings.critic_rate, betas=(0.0, 0.99))
        self.step = 0
        self.seconds = 0.0
        self._epoch, self._order = -1, order

    def features(self, image: Tensor) -> list[Tensor]:
        """Trunk features of RGB images in [0, 1], scaled to unit deviation over photographs."""
        return [
            feature.float() / deviation[:, None, None]
            for feature, deviation in zip(self.trunk(self.normalise(image)), self.deviations, strict=True)
        ]

    def encode(self, image: Tensor) -> Tensor:
        """Averaged encoder: images `[B, 3, S, S]` -> mean spatial codes `[B, C, 4, 4]`."""
        with torch.no_grad(), self._precision():
            return self.encoder_average(self.features(image.to(self.device)))[0].float()

    def run(self, out: Path, *, log_every: int = 50, checkpoint_seconds: float = 240.0) -> Iterator[dict[str, Any]]:
        """Train from `self.step` to `settings.steps`; checkpoints in `out`; yields a record every `log_every`."""
        last = time.monotonic()
        saved = last
        sums: dict[str, Tensor] = {}
        count = 0
        while self.step < self.settings.steps:
            for name, value in self._train_step().items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value
            self.step += 1
            count += 1
            if self.step % log_every == 0 or self.step == self.settings.steps:
                now = time.monotonic()
                self.seconds += now - last
                rate = count * self.settings.batch / max(now - last, 1e-9)
                last = now
                record = {"step": self.step, "seconds": round(self.seconds, 1), "images_per_second": round(rate, 1)}
                record |= {name: round(float(value) / count, 5) for name, value in sums.items()}
                sums, count = {}, 0
                with (out / "log.jsonl").open("a") as log:
                    log.write(json.dumps(record) + "\n")
                due = now - saved > checkpoint_seconds or self.step == self.settings.steps
                if due:
                    save_checkpoint(out, self.step, self.state())
                    saved = now
                yield record | {"checkpoint": due}

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs, tensors and plain numbers only (reads back with `weights_only`)."""
        modules = {name: module.state_dict() for name, module in self._modules().items()}
        return {
            "modules": modules,
            "optimiser": self.optimiser.state_dict(),
            "critic_optimiser": self.critic_optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
            "taps": list(self.trunk.names),
        }

    def resume(self, out: Path) -> bool:
        """Load the newest readable checkpoint of `out`; False where there is none."""
        state = latest_checkpoint(out)
        if state is None:
            return False
        for name, module in self._modules().items():
            module.load_state_dict(state["modules"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.critic_optimiser.load_state_dict(state["critic_optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        return True

    def networks(self) -> dict[str, Tensor]:
        """Averaged encoder and decoder, and the critics: what another run can start from."""
        parts = {"encoder": self.encoder_average, "decoder": self.decoder_average, "critic": self.critic}
        return {f"{part}.{key}": value for part, module in parts.items() for key, value in module.state_dict().items()}

    def start_from(self, networks: Mapping[str, Tensor], origin: str) -> None:
        """Begin with the networks of another run of the same shape. Raises `WeightsError` where they do not fit."""
        for part, modules in {
            "encoder": (self.encoder, self.encoder_average),
            "decoder": (self.decoder, self.decoder_average),
            "critic": (self.critic,),
        }.items():
            own = {key.removeprefix(f"{part}."): value for key, value in networks.items() if key.startswith(f"{part}.")}
            for module in modules:
                load_strictly(module, own, origin)

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "encoder": self.encoder,
            "decoder": self.decoder,
            "critic": self.critic,
            "encoder_average": self.encoder_average,
            "decoder_average": self.decoder_average,
        }

    def _feature_deviations(self) -> list[Tensor]:
        images = self.photographs.batch(self.training[:256]).to(self.device)
        with torch.no_grad():
            return [f.float().std((0, 2, 3)).clamp_min(1e-3) for f in self.trunk(self.normalise(images))]

    def _precision(self) -> AbstractContextManager[object]:
        if self.settings.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _batch(self, generator: torch.Generator) -> Tensor:
        """The step's photographs: a fresh permutation every epoch, mirrored at random."""
        settings = self.settings
        per_epoch = max(1, len(self.training) // settings.batch)
        epoch, place = divmod(self.step, per_epoch)
        if self._epoch != epoch:
            shuffle = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self.training), generator=shuffle)
        chosen = self.training[self._order[place * settings.batch : (place + 1) * settings.batch]]
        flip = torch.rand(len(chosen), generator=generator) < 0.5
        return self.photographs.batch(chosen, flip).to(self.device, memory_format=torch.channels_last)

    def _train_step(self) -> dict[str, Tensor]:
        settings = self.settings
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + 7_919 * self.step + 1)
        self._set_rates()
        photographs = self._batch(generator)
        critics = self.step >= settings.adversarial_from - 200
        adversarial = self.step >= settings.adversarial_from
        with self._precision():
            with torch.no_grad():
                real = self.features(photographs)
            mean, log_variance = self.encoder(real)
            mean, log_variance = mean.float(), log_variance.float()
            noise = torch.randn(mean.shape, generator=generator).to(self.device)
            code = mean + noise * (0.5 * log_variance).exp()
            if critics:
                code = torch.cat([code, self._imagined_codes(mean.detach(), generator)])
            images = self.decoder(code).float()
            window = self._window(generator)
            features = self.features(window(images))
            with torch.no_grad():
                real = self.features(window(photographs)) if settings.shift else real
            count = len(photographs)
            losses = {
                "pixel": F.l1_loss(images[:count], photographs),
                "feature": sum_relative(features, real, count),
                "kl": 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)).mean(),
            }
            total = (
                settings.pixel_weight * losses["pixel"]
                + settings.feature_weight * losses["feature"]
                + settings.kl_weight * losses["kl"]
            )
            if adversarial:
                self.critic.requires_grad_(False)
                losses["fool"] = -average([score.mean(1) for score in self.critic(images, features)]).mean()
                total = total + settings.adversarial_weight * losses["fool"]
                self.critic.requires_grad_(True)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_([p for group in self.optimiser.param_groups for p in group["params"]], 5.0)
        self.optimiser.step()
        if critics:
            losses["critic"] = self._train_critic(photographs, real, images.detach(), [f.detach() for f in features])
        self._average()
        return {name: value.detach() for name, value in losses.items()}

    def _train_critic(
        self, real: Tensor, real_features: list[Tensor], fake: Tensor, fake_features: list[Tensor]
    ) -> Tensor:
        """One hinge step; every head judges photographs, reconstructions and imagined images."""
        with self._precision():
            genuine, forged = self.critic(real, real_features), self.critic(fake, fake_features)
            loss = average([F.relu(1 - score.float()).mean() for score in genuine])
            loss = loss + average([F.relu(1 + score.float()).mean() for score in forged])
        self.critic_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimiser.step()
        return loss

    def _window(self, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        """The step's shift of whole pixels, the same for photographs and what is made of them."""
        reach, size = self.settings.shift, self.settings.size
        y, x = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()

        def shifted(images: Tensor) -> Tensor:
            return F.pad(images, (reach,) * 4, mode="reflect")[..., y : y + size, x : x + size]

        return shifted if reach else lambda images: images

    def _imagined_codes(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Gaussian combinations of the batch's codes: samples of N(mean, covariance of the batch)."""
        centre = codes.mean(0, keepdim=True)
        count = round(len(codes) * self.settings.imagined)
        weights = torch.randn(count, len(codes), generator=generator).to(codes) / max(1, len(codes) - 1) ** 0.5
        low, high = self.settings.imagined_scale
        weights = weights * (low + (high - low) * torch.rand(count, 1, generator=generator).to(codes))
        return centre + torch.einsum("kb,bchw->kchw", weights, codes - centre)

    def _set_rates(self) -> None:
        settings = self.settings
        left = (settings.steps - self.step) / max(1, round(settings.steps * settings.cooldown))
        factor = max(0.05, min(1.0, left)) * min(1.0, (self.step + 1) / 100)
        for optimiser, rate in ((self.optimiser, settings.rate), (self.critic_optimiser, settings.critic_rate)):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.ema, (self.step + 1) / (self.step + 10))
        for average_of, network in ((self.encoder_average, self.encoder), (self.decoder_average, self.decoder)):
            torch._foreach_lerp_(list(average_of.parameters()), list(network.parameters()), 1 - decay)


def average(terms: list[Tensor]) -> Tensor:
    """Mean of equally shaped tensors."""
    return torch.stack(terms).mean(0)


def sum_relative(features: list[Tensor], real: list[Tensor], count: int) -> Tensor:
    """Relative L1 distance of the first `count` items' features, summed over the depths."""
    terms = [(f[:count] - r).abs().mean() / r.abs().mean() for f, r in zip(features, real, strict=True)]
    return torch.stack(terms).sum()
