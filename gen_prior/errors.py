"""Errors that a user can cause. Messages say what was given, what is allowed, and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class GenPriorError(Exception):
    """Base class of all our errors. `str(error)` is one line, `message`, then "Fix: " and `fix` where there is one."""

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        self.message = message
        self.fix = fix
        stop = "" if message.endswith(("?", ".")) else "."
        super().__init__(f"{message}{stop} Fix: {fix}" if fix else message)


class UnknownNameError(GenPriorError):
    """An unknown name of a model, layer, class or option; the message lists close matches."""

    def __init__(self, kind: str, given: str, allowed: Iterable[str], *, fix: str | None = None) -> None:
        names = list(allowed)
        self.matches = close_matches(given, names)
        hint = f"did you mean {', '.join(self.matches)}?" if self.matches else f"known: {_listing(names)}"
        super().__init__(f"unknown {kind} {given!r}; {hint}", fix=fix)


class TargetError(GenPriorError):
    """A target that the classifier does not have: unknown layer, or a unit or position out of range."""


class OptionError(GenPriorError):
    """An option or argument of the wrong kind, range or shape."""


class WeightsError(GenPriorError):
    """A weights file that is missing, damaged, of another network, or differs from its expected hash.

    `layout`: names and shapes of all tensors of a file of another network, where they were compared.
    """

    def __init__(
        self, message: str, *, fix: str | None = None, layout: Mapping[str, tuple[int, ...]] | None = None
    ) -> None:
        super().__init__(message, fix=fix)
        self.layout = layout


class DownloadError(GenPriorError):
    """A failed download: no network, no such repository or file, no permission, or no space."""


class MissingExtraError(GenPriorError):
    """A feature whose optional dependency is not installed."""


class DeviceError(GenPriorError):
    """A device that does not exist on this machine, or has too little memory for a single item."""


class ImageError(GenPriorError):
    """An image file that is missing, damaged or too large, or no image."""


class OutputError(GenPriorError):
    """A folder that cannot be written to (full, read-only), or a saved result that cannot be read."""


class DivergedError(GenPriorError):
    """A training run whose losses or weights are no longer finite."""


def close_matches(given: str, names: Iterable[str], limit: int = 6) -> list[str]:
    """Names that contain `given` or are spelled like it, at most `limit`, best first."""
    names = list(dict.fromkeys(names))
    lowered = given.lower().strip()
    inside = [name for name in names if lowered and lowered in name.lower()]
    alike = difflib.get_close_matches(given, names, n=limit, cutoff=0.6)
    by_lower = {name.lower(): name for name in names}
    alike += [by_lower[match] for match in difflib.get_close_matches(lowered, by_lower, n=limit, cutoff=0.6)]
    return list(dict.fromkeys([*alike[:1], *inside, *alike]))[:limit]


def _listing(names: list[str], limit: int = 12) -> str:
    shown = ", ".join(names[:limit])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > limit else shown or "none"
