"""`Provenance`: source, revision, hashes, licence and paper of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

IN_PYTHON = "user"
"""Source of what was made in Python, which no name loads."""


@dataclass(frozen=True)
class Provenance:
    """Origin of a generator or classifier, as results record it; `sha256` is `{file name: hex digest}`."""

    source: str = IN_PYTHON
    revision: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None
    paper: str | None = None
