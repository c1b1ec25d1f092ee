"""Going on with a saved search without gradients, or beginning one: `load_or_create`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gen_prior.applications.black_boxes import source_words
from gen_prior.applications.evolution import Evolution, start_identity
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator


def load_or_create(
    path: Path, generator: Generator, source: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Evolution:
    """The search saved at `path`, or a new one.

    `source` is the identity of the score, `options` are those of `Evolution`; a `start` may be a function that finds
    the code, which is then called for a new search only. Raises `OptionError` if the saved search has another score or
    other options, `OutputError` as `Evolution.load`.
    """
    start = options.get("start")
    if not path.is_file():
        found = start() if callable(start) else start
        return Evolution(generator, source=source, **{**options, "start": found})
    search = Evolution.load(path, generator)
    saved, fix = search.settings, "pass another --out, or continue the search that is there"
    if saved["source"] != source:
        now = source_words(source, unlike=saved["source"])
        raise OptionError(f"{path} holds a search for {source_words(saved['source'])}, not for {now}", fix=fix)
    if start is not None:
        known = options.get("start_source")
        if saved["start"] != (dict(known) if callable(start) and known else start_identity(start, known)):
            raise OptionError(f"the search in {path} has another start", fix=fix)
    for name, value in options.items():
        if name not in ("start", "start_source") and saved[name] != value:
            raise OptionError(f"the search in {path} has {name} {saved[name]}, not {value}", fix=fix)
    return search
