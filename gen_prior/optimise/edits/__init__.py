"""Edits of the code after each update, and of the gradient before it: (code or gradient, context) -> a new one."""

import warnings

from gen_prior.optimise.edits.context import Context, Edit
from gen_prior.optimise.edits.gradient import GRADIENT_EDITS, build_gradient_edit, laplacian, ppgn, smooth
from gen_prior.optimise.edits.latent import (
    EDITS,
    blur,
    build_edit,
    clip_small_contribution,
    clip_small_norm,
    fresh_noise,
    l2_decay,
    langevin,
    mean,
    natural_range,
    norm_sphere,
    rms_contrast,
)

__all__ = [
    "EDITS",
    "GRADIENT_EDITS",
    "Context",
    "Edit",
    "blur",
    "build_edit",
    "build_gradient_edit",
    "clip_small_contribution",
    "clip_small_norm",
    "fresh_noise",
    "l2_decay",
    "langevin",
    "laplacian",
    "mean",
    "natural_range",
    "norm_sphere",
    "ppgn",
    "rms_contrast",
    "smooth",
]


def __getattr__(name: str) -> object:
    if name == "shell":
        warnings.warn("edits.shell is edits.norm_sphere since 0.2", DeprecationWarning, stacklevel=2)
        return norm_sphere
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
