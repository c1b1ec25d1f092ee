"""The settings that every training here shares, each with its default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSettings:
    """Of any training."""

    steps: int = 20_000
    batch: int = 64
    rate: float = 5e-4
    cooldown: float = 0.2
    """Fraction of the steps, at the end, over which the rates fall linearly to a twentieth."""
    ema: float = 0.998
    held_out: int = 1_000
    seed: int = 0
    precision: str = "bf16"


@dataclass(frozen=True)
class RunSettings(TrainingSettings):
    """Everything but the data and the classifier that the training of an image-making network is a function of."""

    size: int = 64
    """Side of the photographs that the network learns to give back."""
    critic_rate: float = 2e-4
    critic_width: int = 32
    """Channels of the patch critic's first layer."""
    adversarial_from: int = 2_000
    """First step at which the critics take part; they learn alone for the 200 steps before."""
    pixel_weight: float = 4.0
    feature_weight: float = 1.0
    adversarial_weight: float = 0.3
    imagined: float = 0.5
    """Imagined codes per photograph in the adversarial phase, drawn with the covariance of real ones."""
    imagined_scale: tuple[float, float] = (0.5, 1.4)
    """Each imagined code lies this many times as far from the mean: an optimised code may leave the typical shell."""
    rehearsed: float = 0.0
    """Climbing codes per photograph in the adversarial phase, see `gen_prior.training.on_policy`."""
    rehearsal_weight: float = 0.01
    """Of the activation that the climbing codes' images still lack."""
    shift: int = 3
    """Features are compared after a random shift of up to this many pixels: strides leave no fixed pattern."""
    started_from: str = ""
    """SHA-256 of the networks that the run began with; empty where it began with random ones."""


@dataclass(frozen=True)
class EnlargingSettings(RunSettings):
    """Of a training that goes on from a prior to images of twice the side, by large photographs."""

    size: int = 128
    cooldown: float = 0.4
    adversarial_weight: float = 0.15
    ema: float = 0.995
    held_out: int = 96
    crops: int = 12
    """Random squares of each photograph."""
    coring: float = 0.0
    """Most of the fine contrast, in parts of the coarser, that the exported generator shows; 0: all of it."""
    grain: float = 0.0
    """Strength of the grain of the exported generator, which doubles the side of its images; 0: none."""
    cored_weight: float = 4.0
    """Of what coring takes away."""
    imagined_details: tuple[float, float] = (0.7, 1.2)
    """As many times as large as photographs' are the details of imagined codes, where these have any."""
