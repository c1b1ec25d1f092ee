"""The settings that every training stage shares, each with its default; and their names in version 0.1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gen_prior.errors import OptionError

RENAMED = {
    "imagined": "sampled",
    "imagined_scale": "sampled_scale",
    "imagined_details": "sampled_details",
    "rehearsed": "on_policy",
    "rehearsal_weight": "on_policy_weight",
    "aimed": "from_class",
    "louder": "most_gain",
    "refines": "parent_sha256",
    "extends": "parent_sha256",
    "calms": "parent_sha256",
}
"""Name of a setting in version 0.1 -> name today."""


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` by today's names: checkpoints of version 0.1 have others."""
    return {RENAMED.get(name, name): value for name, value in settings.items()}


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of every training stage."""

    steps: int = 20_000
    batch: int = 64
    rate: float = 5e-4
    """Learning rate of Adam."""
    cooldown: float = 0.2
    """Fraction of the steps, at the end, over which the learning rates fall linearly to a twentieth."""
    ema: float = 0.998
    """Decay per step of the exponential moving average of the weights, which is what is exported."""
    held_out: int = 1_000
    """Photographs that are not trained on; at most a tenth of all."""
    seed: int = 0
    precision: str = "bf16"
    """"bf16" (autocast) or "fp32"."""

    def check(self) -> None:
        """Raises `OptionError` for values that no run can have."""
        if self.steps < 1:
            raise OptionError(f"steps must be at least 1, got {self.steps}")
        if self.batch < 2:
            raise OptionError(f"batch must be at least 2, got {self.batch}")


@dataclass(frozen=True)
class GanSettings(TrainingSettings):
    """Settings of the stages that train an image-making network against critics."""

    size: int = 64
    """Side of the photographs that the network learns to reconstruct, in pixels."""
    critic_rate: float = 2e-4
    critic_width: int = 32
    """Channels of the patch critic's first layer."""
    adversarial_from: int = 2_000
    """First step with the adversarial loss; the critics alone learn for the 200 steps before."""
    pixel_weight: float = 4.0
    feature_weight: float = 1.0
    adversarial_weight: float = 0.3
    sampled: float = 0.5
    """Codes sampled per photograph in the adversarial phase, with the covariance of photographs' codes."""
    sampled_scale: tuple[float, float] = (0.5, 1.4)
    """Range of factors on a sampled code's distance from the mean: optimised codes may leave the typical distance."""
    on_policy: float = 0.0
    """On-policy codes per photograph in the adversarial phase, see `gen_prior.training.on_policy`."""
    on_policy_weight: float = 0.01
    """Weight of the loss that raises the activations of on-policy codes' images."""
    shift: int = 3
    """Features are compared after a random shift of up to this many pixels, so that strides leave no fixed pattern."""
    started_from: str = ""
    """SHA-256 of the networks that the run was initialised with; empty for random weights."""

    def check(self) -> None:
        super().check()
        if not 0 <= self.on_policy <= 4:
            raise OptionError(f"on_policy must lie in 0 to 4, got {self.on_policy}")
