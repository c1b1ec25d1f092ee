"""Outputs of layers: the tensor among them, and names of a layer's runs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from gen_prior.errors import OptionError

LOGITS = "logits"
"""Name of the network's output, which is no submodule."""


def run_name(layer: str, run: int) -> str:
    """Name of one run, from 0, of a layer that runs several times in one pass."""
    return f"{layer}#{run}"


def split_run(name: str) -> tuple[str, int | None]:
    """Split `relu#1` into layer and run; without "#", None for the last run."""
    match = re.fullmatch(r"(.+)#(\d+)", name)
    return (match[1], int(match[2])) if match else (name, None)


def as_tensor(output: object) -> Tensor:
    """Find the tensor in a layer's output: itself, its `logits`, or the first one in a tuple, list or mapping.

    Raises `OptionError` where there is none.
    """
    if isinstance(output, Tensor):
        return output
    logits = output.get(LOGITS) if isinstance(output, Mapping) else getattr(output, LOGITS, None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, tuple | list):
        for part in output:
            if isinstance(part, Tensor):
                return part
    raise OptionError(f"the layer's output is a {type(output).__name__}, not a tensor")
