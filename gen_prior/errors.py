"""Every error a user can cause: what was given, what is allowed, and the command or call that mends it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GenPriorError(Exception):
    """Base of the family. `str(error)` is one line, ending with the fix where there is one."""

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        self.message = message
        self.fix = fix
        stop = "" if message.endswith(("?", ".")) else "."
        super().__init__(f"{message}{stop} Fix: {fix}" if fix else message)


class UnknownNameError(GenPriorError):
    """A name that is in no registry; the message lists close matches."""

    def __init__(self, kind: str, given: str, allowed: Iterable[str], *, fix: str | None = None) -> None:
        names = list(allowed)
        self.matches = close_matches(given, names)
        hint = f"did you mean {', '.join(self.matches)}?" if self.matches else f"known: {_listing(names)}"
        super().__init__(f"unknown {kind} {given!r}; {hint}", fix=fix)


class TargetError(GenPriorError):
    """A target that does not exist in this classifier: unknown layer, unit or position out of range."""


class OptionError(GenPriorError):
    """An option or argument of the wrong kind, range or shape."""


class WeightsError(GenPriorError):
    """A weights file that is missing, damaged, of another network, or does not match its hash."""


class DownloadError(GenPriorError):
    """Files that could not be had from the Hub: no network, no such repository, no permission."""


class MissingExtraError(GenPriorError):
    """A feature whose optional dependency is not installed."""


class DeviceError(GenPriorError):
    """A device that does not exist here, or whose memory does not suffice for a single item."""


class ImageError(GenPriorError):
    """A file that is no image, or one outside the limits."""


class OutputError(GenPriorError):
    """A folder that cannot be written to (full, read-only), or a result that cannot be read back."""


def close_matches(given: str, names: Iterable[str], limit: int = 6) -> list[str]:
    """Names that contain `given` or are spelled like it, best first, at most `limit`."""
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
