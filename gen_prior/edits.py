"""Edits: changes made to the code itself after an update, beside the update rule (blur, clipping, noise)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gen_prior.errors import UnknownNameError
from gen_prior.generators.base import CodePrior
from gen_prior.randomness import Streams


@dataclass(frozen=True)
class Context:
    """What an edit may look at."""

    step: int
    steps: int
    rate: float
    gradient: Tensor
    """Gradient of the loss that the step was taken with, `[B, *code_shape]`."""
    prior: CodePrior
    streams: Streams


Edit = Callable[[Tensor, Context], Tensor]
"""(code `[B, *code_shape]`, context) -> new code."""

EDITS: dict[str, Callable[..., Edit]] = {}


def build_edit(name: str, options: Mapping[str, Any]) -> Edit:
    """The named edit with its options. Raises `UnknownNameError`."""
    if name not in EDITS:
        raise UnknownNameError("edit", name, EDITS)
    return EDITS[name](**options)
