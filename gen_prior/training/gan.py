"""What every training of an image-making network here shares: the step, its losses, the critics."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers import Classifier
from gen_prior.generators.dgn.network import Decoder, WhiteCodes
from gen_prior.training.base_trainer import Training
from gen_prior.training.networks import Critic, Trunk
from gen_prior.training.on_policy import Rehearsal
from gen_prior.training.photographs import Photographs
from gen_prior.training.settings import RunSettings

Network = TypeVar("Network", bound=nn.Module)


class Run(Training):
    """Holds the critics beside the trained networks.

    A subclass calls `train_networks` when its networks are there, a decoder among them, and says in `codes` how codes
    come of photographs; where more than the decoder makes images of them, in `images`.
    """

    settings: RunSettings

    def __init__(
        self,
        trunk: Trunk,
        normalise: Callable[[Tensor], Tensor],
        photographs: Photographs,
        settings: RunSettings,
        device: torch.device,
    ) -> None:
        super().__init__(settings, device)
        self.photographs = photographs
        self.trunk, self.normalise = placed(trunk.eval(), device), normalise
        self.taps = self.trunk.names
        torch.manual_seed(settings.seed)
        self.held_out, self.training = photographs.split(settings.held_out, settings.seed)
        sample = photographs.batch(self.training[:256], device=device)
        self.deviations = self.feature_deviations(sample)
        channels = [len(deviation) for deviation in self.deviations]
        self.critic = placed(Critic(channels, settings.size, settings.critic_width), device)
        self.optimisers["critic"] = torch.optim.Adam(self.critic.parameters(), settings.critic_rate, betas=(0.0, 0.99))
        self.rehearsal: Rehearsal | None = None
        self._epoch, self._order = -1, self.training

    def rehearse(self, classifier: Classifier, space: WhiteCodes) -> None:
        """Let codes of `space` climb on `classifier`, as many as the settings want."""
        if count := round(self.settings.batch * self.settings.rehearsed):
            self.rehearsal = Rehearsal(classifier, space, count, self.settings.seed)

    def train_networks(self, **networks: nn.Module) -> None:
        """The networks that are optimised; the average of each is kept beside it."""
        super().train_networks(**networks)
        groups = [
            {"params": network.parameters(), "factor": self.rate_factor(name)} for name, network in networks.items()
        ]
        self.optimisers["networks"] = torch.optim.Adam(groups, self.settings.rate, betas=(0.5, 0.99))

    def rate_factor(self, network: str) -> float:
        """What the rate is multiplied by for one of the networks."""
        return 1.0

    @abstractmethod
    def codes(
        self, photographs: Tensor, imagine: bool, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """A spatial code for each photograph `[B, 3, S, S]`, then imagined ones if wanted; losses with weights."""

    def images(self, codes: Tensor, count: int) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Images of spatial codes, of which the first `count` are photographs'; losses with weights."""
        return self.networks["decoder"](codes).float(), {}

    def average_decoder(self) -> Decoder:
        """The decoder as it is exported."""
        return cast(Decoder, self.averages["decoder"])

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

    def rate_of(self, optimiser: str) -> float:
        """The critics have their own."""
        return self.settings.critic_rate if optimiser == "critic" else self.settings.rate

    def _modules(self) -> dict[str, nn.Module]:
        pool = {"rehearsal": self.rehearsal} if self.rehearsal is not None else {}
        return {**super()._modules(), "critic": self.critic, **pool}

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
        images = self.photographs.batch(chosen, flip, self.device)
        return images.contiguous(memory_format=torch.channels_last)

    def _train_step(self) -> dict[str, Tensor]:
        settings = self.settings
        generator = self.draws()
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
        optimiser = self.optimisers["networks"]
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 5.0)
        optimiser.step()
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
        self.optimisers["critic"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers["critic"].step()
        return loss

    def _window(self, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        """The step's shift of whole pixels, the same for photographs and what is made of them."""
        reach, size = self.settings.shift, self.settings.size
        y, x = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()

        def shifted(images: Tensor) -> Tensor:
            return F.pad(images, (reach,) * 4, mode="reflect")[..., y : y + size, x : x + size]

        return shifted if reach else lambda images: images


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
