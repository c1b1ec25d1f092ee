"""What every training of an image-making network here shares: the step, the critics, checkpoints, the log.

Every random draw is a function of (seed, step), so a resumed run follows the same trajectory.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers import Classifier
from gen_prior.training.checkpoints import latest_checkpoint, save_checkpoint
from gen_prior.training.images import Photographs
from gen_prior.training.networks import Critic, Trunk
from gen_prior.training.rehearsal import Rehearsal
from gen_prior.training.settings import RunSettings

Network = TypeVar("Network", bound=nn.Module)


class Run(ABC):
    """Holds the trained networks, their averages, the critics and the optimisers.

    A subclass calls `train_networks` when its networks are there, and says in `codes` and `images` how images come of
    photographs; `run` yields a record of the losses now and then.
    """

    def __init__(
        self,
        trunk: Trunk,
        normalise: Callable[[Tensor], Tensor],
        photographs: Photographs,
        settings: RunSettings,
        device: torch.device,
    ) -> None:
        self.settings, self.photographs, self.device = settings, photographs, device
        self.trunk, self.normalise = placed(trunk.eval(), device), normalise
        torch.manual_seed(settings.seed)
        self.held_out, self.training = photographs.split(settings.held_out, settings.seed)
        sample = photographs.batch(self.training[:256]).to(device)
        self.deviations = self.feature_deviations(sample)
        self.critic = placed(Critic([len(deviation) for deviation in self.deviations], settings.size), device)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), settings.critic_rate, betas=(0.0, 0.99))
        self.step = 0
        self.seconds = 0.0
        self.rehearsal: Rehearsal | None = None
        self._epoch, self._order = -1, self.training

    def rehearse(self, classifier: Classifier, mean: Tensor, basis: Tensor) -> None:
        """Let codes of this mean and basis climb on `classifier`, as many as the settings want."""
        if count := round(self.settings.batch * self.settings.rehearsed):
            self.rehearsal = Rehearsal(classifier, mean, basis, count, self.settings.seed)

    def train_networks(self, **networks: nn.Module) -> None:
        """The networks that are optimised; the average of each is kept beside it."""
        self.networks = networks
        self.averages = {name: deepcopy(network).requires_grad_(False) for name, network in networks.items()}
        groups = [
            {"params": network.parameters(), "factor": self.rate_factor(name)} for name, network in networks.items()
        ]
        self.optimiser = torch.optim.Adam(groups, self.settings.rate, betas=(0.5, 0.99))

    def rate_factor(self, network: str) -> float:
        """What the rate is multiplied by for one of the networks."""
        return 1.0

    @abstractmethod
    def codes(
        self, photographs: Tensor, imagine: bool, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """A spatial code for each photograph `[B, 3, S, S]`, then imagined ones if wanted; losses with weights."""

    @abstractmethod
    def images(self, codes: Tensor, count: int) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Images of spatial codes, of which the first `count` are photographs'; losses with weights."""

    def make(
        self, photographs: Tensor, imagine: bool, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """One image for each photograph, then imagined and climbing ones if wanted; further losses with weights."""
        codes, extra = self.codes(photographs, imagine, generator)
        climbing = self.rehearsal if imagine else None
        if climbing is None:
            images, more = self.images(codes, len(photographs))
            return images, extra | more
        white, spatial = climbing.draw(self.step, generator)
        images, more = self.images(torch.cat([codes, spatial.to(codes)]), len(photographs))
        lack = climbing.climb(self.step, white, images[-climbing.count :], generator)
        return images, extra | more | {"climb": (self.settings.rehearsal_weight, lack)}

    def features(self, image: Tensor, deviations: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Trunk features of RGB images in [0, 1], scaled to unit deviation over photographs."""
        return [
            feature.float() / deviation[:, None, None]
            for feature, deviation in zip(self.trunk(self.normalise(image)), deviations or self.deviations, strict=True)
        ]

    def feature_deviations(self, photographs: Tensor) -> list[Tensor]:
        """Deviation of each feature over `photographs` (`[B, 3, S, S]`), depth by depth."""
        with torch.no_grad():
            return [f.float().std((0, 2, 3)).clamp_min(1e-3) for f in self.trunk(self.normalise(photographs))]

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

    def _modules(self) -> dict[str, nn.Module]:
        averages = {f"{name}_average": network for name, network in self.averages.items()}
        pool = {"rehearsal": self.rehearsal} if self.rehearsal is not None else {}
        return {**self.networks, "critic": self.critic, **averages, **pool}

    def precision(self) -> AbstractContextManager[object]:
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
        with self.precision():
            images, extra = self.make(photographs, critics, generator)
            window = self._window(generator)
            features = self.features(window(images))
            with torch.no_grad():
                real = self.features(window(photographs))
            count = len(photographs)
            terms = {
                "pixel": (settings.pixel_weight, F.l1_loss(images[:count], photographs)),
                "feature": (settings.feature_weight, sum_relative(features, real, count)),
                **extra,
            }
            if adversarial:
                self.critic.requires_grad_(False)
                fool = -average([score.mean(1) for score in self.critic(images, features)]).mean()
                terms["fool"] = (settings.adversarial_weight, fool)
                self.critic.requires_grad_(True)
            total = torch.stack([weight * loss for weight, loss in terms.values()]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_([p for group in self.optimiser.param_groups for p in group["params"]], 5.0)
        self.optimiser.step()
        losses = {name: loss.detach() for name, (_, loss) in terms.items()}
        if critics:
            loss = self._train_critic(photographs, real, images.detach(), [f.detach() for f in features])
            losses["critic"] = loss.detach()
        self._average()
        return losses

    def _train_critic(
        self, real: Tensor, real_features: list[Tensor], fake: Tensor, fake_features: list[Tensor]
    ) -> Tensor:
        """One hinge step; every head judges photographs, reconstructions and imagined images."""
        with self.precision():
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

    def _set_rates(self) -> None:
        settings = self.settings
        left = (settings.steps - self.step) / max(1, round(settings.steps * settings.cooldown))
        factor = max(0.05, min(1.0, left)) * min(1.0, (self.step + 1) / 100)
        for optimiser, rate in ((self.optimiser, settings.rate), (self.critic_optimiser, settings.critic_rate)):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor * group.get("factor", 1.0)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.ema, (self.step + 1) / (self.step + 10))
        for name, network in self.networks.items():
            average_of = self.averages[name]
            torch._foreach_lerp_(list(average_of.parameters()), list(network.parameters()), 1 - decay)


def placed(network: Network, device: torch.device) -> Network:
    """`network` on the device, its weights laid out channels last."""
    return network.to(device).to(memory_format=torch.channels_last)


def average(terms: list[Tensor]) -> Tensor:
    """Mean of equally shaped tensors."""
    return torch.stack(terms).mean(0)


def sum_relative(features: list[Tensor], real: list[Tensor], count: int) -> Tensor:
    """Relative L1 distance of the first `count` items' features, summed over the depths."""
    terms = [(f[:count] - r).abs().mean() / r.abs().mean() for f, r in zip(features, real, strict=True)]
    return torch.stack(terms).sum()
