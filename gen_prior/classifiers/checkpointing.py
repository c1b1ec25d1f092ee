"""Switch gradient checkpointing off, which runs parts of a network again in the backward pass to save memory.

A checkpoint hides the gradients of hidden layers, runs hooks twice, and (in the reentrant kind) refuses
`torch.autograd.grad`. PyTorch has no switch for it; both kinds call a function of `torch.utils.checkpoint`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils import checkpoint

_GENERATORS = ("_checkpoint_without_reentrant_generator", "_checkpoint_without_reentrant_generator_impl")
"""The functions around a region of the other kind, by version of PyTorch."""


class _PlainFunction:
    """Stands in for the autograd function of reentrant checkpoints."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_random_state: bool, *args: Any) -> Any:
        return function(*args)


def _plain_generator(*args: Any, **kwargs: Any) -> Iterator[None]:
    yield


_PLAIN: dict[str, object] = {"CheckpointFunction": _PlainFunction, **dict.fromkeys(_GENERATORS, _plain_generator)}
_ORIGINAL = {name: getattr(checkpoint, name) for name in _PLAIN if hasattr(checkpoint, name)}


_lock = threading.Lock()
_inside = 0
"""Threads that are in the context."""


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """Context in which networks that use gradient checkpointing run as if they did not; of several threads, too."""
    _enter(1)
    try:
        yield
    finally:
        _enter(-1)


def _enter(change: int) -> None:
    """Switch checkpointing off when the first thread enters, and on when the last one leaves."""
    global _inside
    with _lock:
        before, _inside = _inside, _inside + change
        if 0 in (before, _inside):
            for name, original in _ORIGINAL.items():
                setattr(checkpoint, name, _PLAIN[name] if _inside else original)
