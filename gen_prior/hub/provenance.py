"""`Provenance`: source, revision, hashes, licence and paper of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Provenance:
    """Origin of a generator or classifier, as results record it; `sha256` is `{file name: hex digest}`."""

    source: str = "user"
    revision: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None
    paper: str | None = None
