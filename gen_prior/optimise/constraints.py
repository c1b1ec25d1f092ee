"""Images `[B, C, H, W]` of a fixed mean and contrast, as displays and experiments need them (Walker et al. 2019).

A most exciting input is compared with others at one mean luminance and one RMS contrast, because nearly every unit
answers more to more contrast. These are edits of pixels (`edits.mean`, `edits.rms_contrast`), which keep every step's
image there, and transforms (`transforms.mean`, `transforms.rms_contrast`) between a generator and the classifier.
"""

from __future__ import annotations

from torch import Tensor

from gen_prior.errors import OptionError

CONSTRAINTS = ("mean", "rms_contrast")
"""Names of these edits and transforms in recipes. A start need not obey them."""


def with_mean(images: Tensor, value: float) -> Tensor:
    """Shift each image to the mean `value` over its pixels and channels; pixels may leave [0, 1]."""
    return images + (value - images.mean((1, 2, 3), keepdim=True))


def with_rms_contrast(images: Tensor, value: float) -> Tensor:
    """Scale each image about its mean to the standard deviation `value` over its pixels and channels."""
    mean = images.mean((1, 2, 3), keepdim=True)
    deviation = (images - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
    return mean + (images - mean) * (value / deviation.clamp_min(1e-6))


def check_constraint(name: str, value: float) -> None:
    """Raise `OptionError` unless `value` is above 0 and at most 1, or at most 0.5 for a contrast."""
    most = 0.5 if name == "rms_contrast" else 1.0
    if not 0 < value <= most:
        raise OptionError(f"{name} must be above 0 and at most {most:g}, of pixels in [0, 1], got {value}")
