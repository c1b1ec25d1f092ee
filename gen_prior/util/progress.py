"""Progress of long calls: every `progress` argument is True, for a bar, or a function of one `Progress`."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gen_prior.errors import OptionError


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
ProgressOption = Callable[..., None] | bool | None
"""The type of a `progress` argument: True for a bar, a function of one `Progress`, or None."""
READ_EVERY = 0.25
"""Seconds between two reads of the activations."""


class TqdmBar:
    """A bar of tqdm, in notebooks a widget: label, share, time left and mean activation."""

    def __init__(self) -> None:
        from tqdm.auto import tqdm  # in notebooks it looks for widgets, and warns where there are none

        self._new = tqdm
        self._bar: Any = None
        self._last_read = 0.0

    def __call__(self, progress: Progress) -> None:
        """Show `progress`; a piece of work with another total gets a bar of its own."""
        bar = self._bar
        if bar is None or bar.total != progress.total or (bar.disable and progress.done < bar.n):
            if bar is not None:
                bar.close()
            self._bar = bar = self._new(total=progress.total)
        is_last = progress.done >= progress.total
        if progress.activations is not None and (is_last or time.monotonic() - self._last_read > READ_EVERY):
            self._last_read = time.monotonic()
            bar.set_postfix_str(f"activation {progress.activations.mean().item():.4g}", refresh=False)
        bar.set_description(progress.label, refresh=False)
        bar.update(progress.done - bar.n)
        if is_last:
            bar.close()


def progress_callback(
    progress: ProgressOption, old_arguments: Callable[[Progress], tuple[Any, ...]] | None = None
) -> ProgressCallback | None:
    """A `progress` argument as a function of one `Progress`, or None: a `TqdmBar` for True.

    Callbacks of version 0.1 took several arguments; they are called with `old_arguments(progress)`, after a
    DeprecationWarning. Raises `OptionError` for anything else.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        return TqdmBar()
    if not callable(progress):
        raise OptionError(
            f"progress must be True, None or a function of one gen_prior.Progress, got {progress!r}",
            fix="progress=True, for a bar",
        )
    try:
        inspect.signature(progress).bind(None)
        return progress
    except (TypeError, ValueError):  # it cannot take one argument, or (a builtin) does not say
        if old_arguments is None:
            return progress
        warnings.warn("progress callbacks take one gen_prior.Progress since 0.2", DeprecationWarning, stacklevel=3)
    arguments = old_arguments
    return lambda step: progress(*arguments(step))


def labelled(progress: ProgressCallback | None, label: str) -> ProgressCallback | None:
    """Progress of a part of the work under another label, without activations."""
    if progress is None:
        return None
    return lambda step: progress(Progress(step.done, step.total, label))
