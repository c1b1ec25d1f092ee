"""The settings of training stages: those that all share, those of image-making stages, reading them, old names."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

import torch

from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.util.devices import PRECISIONS, has_bfloat16

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
S = TypeVar("S")


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of every training stage."""

    steps: int = 20_000
    """Training steps."""
    batch: int = 64
    """Photographs per step."""
    rate: float = 5e-4
    """Learning rate of Adam."""
    cooldown: float = 0.2
    """Fraction of the steps, at the end, over which the learning rates fall linearly to a twentieth."""
    ema: float = 0.998
    """Decay per step of the exponential moving average of the weights, which is what is exported."""
    held_out: int = 1_000
    """Photographs that are not trained on; at most a tenth of all."""
    seed: int = 0
    """Seed of all random draws."""
    precision: str = "auto"
    """"bf16" (autocast), "fp32", or "auto": bf16 where the device has instructions for it."""
    parent_sha256: str = ""
    """SHA-256 of the file of the prior that is extended; set by the stage."""

    def check(self) -> None:
        """Raises `OptionError` for values that no run can have."""
        if self.steps < 1:
            raise OptionError(f"steps must be at least 1, got {self.steps}")
        if self.batch < 2:
            raise OptionError(f"batch must be at least 2, got {self.batch}")
        if self.precision not in PRECISIONS:
            raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")


@dataclass(frozen=True)
class GanSettings(TrainingSettings):
    """Settings of the stages that train an image-making network against critics."""

    size: int = 64
    """Side of the photographs that the network learns to reconstruct, in pixels."""
    critic_rate: float = 2e-4
    """Learning rate of the critics."""
    critic_width: int = 32
    """Channels of the patch critic's first layer."""
    adversarial_from: int = 2_000
    """First step with the adversarial loss; the critics alone learn for the 200 steps before."""
    pixel_weight: float = 4.0
    """Weight of the L1 distance of pixels."""
    feature_weight: float = 1.0
    """Weight of the distance of features."""
    adversarial_weight: float = 0.3
    """Weight of the adversarial loss."""
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
    coring: float = 0.0
    """Limit of fine contrast relative to that at coarser scales in the exported generator; 0: none."""
    grain: float = 0.0
    """Strength of the grain of the exported generator, which doubles the side of its images; 0: none."""
    cored_weight: float = 4.0
    """Weight of the L1 loss on texture that coring removes."""
    started_from: str = ""
    """SHA-256 of the networks that the run was initialised with, empty for random weights; set by the stage."""

    def check(self) -> None:
        super().check()
        if not 0 <= self.on_policy <= 4:
            raise OptionError(f"on_policy must lie in 0 to 4, got {self.on_policy}")
        for name in ("coring", "grain"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"{name} must be a finite number, not negative, got {getattr(self, name)}")


@dataclass(frozen=True)
class EnlargingSettings(GanSettings):
    """Settings of the stages that double the side of a prior's images."""

    size: int = 128
    batch: int = 16
    cooldown: float = 0.4
    adversarial_weight: float = 0.15
    ema: float = 0.995
    held_out: int = 96
    crops: int = 12
    """Random squares cut out of each photograph."""
    sampled_details: tuple[float, float] = (0.7, 1.2)
    """Range of factors on the fine part of sampled codes, where they have one."""


def mixed_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Context of forward passes in training; "auto" is bf16 where `device` has instructions for it, else fp32."""
    if precision == "bf16" or (precision == "auto" and has_bfloat16(device)):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` by today's names: checkpoints of version 0.1 have others."""
    return {RENAMED.get(name, name): value for name, value in settings.items()}


def with_values(settings: S, values: Mapping[str, Any]) -> S:
    """The dataclass `settings` with `values`, which have the types of JSON or TOML.

    Raises `UnknownNameError` for a name that it does not have, `OptionError` for a value of another type.
    """
    known = {part.name: getattr(settings, part.name) for part in fields(settings)}  # type: ignore[arg-type]
    found = {}
    for name, value in values.items():
        if name not in known and name in RENAMED:
            warnings.warn(f"the setting {name} is called {RENAMED[name]} since 0.2", DeprecationWarning, stacklevel=2)
            name = RENAMED[name]
        if name not in known:
            raise UnknownNameError("training setting", name, sorted(known))
        kind = type(known[name])
        if not _fits(value, known[name]):
            raise OptionError(f"{name} takes a value like {known[name]!r} ({kind.__name__}), got {value!r}")
        found[name] = kind(value)
    return replace(settings, **found)  # type: ignore[type-var]


def _fits(value: Any, like: Any) -> bool:
    """Return whether `value`, read from text, has the type of `like`."""
    if isinstance(like, tuple):
        kind = like[0] if like else ""
        same = isinstance(value, list) and (isinstance(kind, str) or len(value) == len(like))
        return same and all(_fits(part, kind) for part in value)
    if isinstance(like, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(like)


def differences(ours: Any, theirs: Mapping[str, Any], but: tuple[str, ...] = ()) -> list[str]:
    """Names of the settings in which a dataclass and values from a file differ, "name theirs, not ours"."""
    return [
        f"{name} {theirs[name]!r}, not {value!r}"
        for name, value in asdict(ours).items()
        if name not in but and theirs.get(name, value) != value
    ]
