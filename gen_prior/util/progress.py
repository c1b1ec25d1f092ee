"""Progress of long calls: every `progress` argument is a function of one `Progress`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of work; `label` says what is being done.

    `activations`, where there are any: `[B]`, still on the device. Reading them makes the host wait, so do it seldom.
    """

    done: int
    total: int
    label: str = ""
    activations: Tensor | None = None

    def within(self, before: int, total: int, label: str | None = None) -> Progress:
        """The same report as part of a larger piece of work, of which `before` units were done earlier."""
        return replace(self, done=before + self.done, total=total, label=self.label if label is None else label)


ProgressCallback = Callable[[Progress], None]


def progress_callback(
    callback: Callable[..., None] | None, old_arguments: Callable[[Progress], tuple[Any, ...]]
) -> ProgressCallback | None:
    """`callback` as a function of one `Progress`.

    Callbacks of version 0.1 took several arguments; they are called with `old_arguments(progress)`, after a
    DeprecationWarning.
    """
    if callback is None:
        return None
    try:
        inspect.signature(callback).bind(None)
        return callback
    except (TypeError, ValueError):  # it cannot take one argument, or (a builtin) does not say
        warnings.warn("progress callbacks take one gen_prior.Progress since 0.2", DeprecationWarning, stacklevel=3)
    return lambda progress: callback(*old_arguments(progress))
