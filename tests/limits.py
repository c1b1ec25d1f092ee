"""Bounds of time and memory for what reads the untrusted input."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path


class TooSlowError(BaseException):
    """Raised in a block that does not end."""


@contextlib.contextmanager
def bounded(seconds: int = 60, memory: int = 8 * 2**30) -> Iterator[None]:
    """In this block time is limited, and how much memory may be asked for, in bytes."""

    def stop(signal: int, frame: object) -> None:
        raise TooSlowError

    before, limits = signal.signal(signal.SIGALRM, stop), resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, limits[1]))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)
