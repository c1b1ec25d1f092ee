"""Where a network came from: source, revision, hashes, licence and paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Provenance:
    """Where a generator or classifier came from; goes into every result.

    `sha256` maps a file's name to the hex digest of its bytes.
    """

    source: str = "user"
    revision: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None
    paper: str | None = None
