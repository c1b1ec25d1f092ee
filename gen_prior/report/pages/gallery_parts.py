"""Pieces of a gallery: a picture with its words, and a section of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

Json = dict[str, Any]


def place_of(image: object) -> PurePosixPath:
    """Path of a picture, relative to the folder of the page. Raises `ValueError` for one outside it."""
    path = PurePosixPath(str(image))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the picture {path} lies outside the folder")
    return path


def picture(
    folder: Path, image: object, words: str, caption: str, lines: Sequence[str] = (), *, wide: bool = False
) -> Json:
    """A picture of `folder` with its caption; `words` say what it shows. `wide`: a strip or a sheet.

    Raises `ValueError` for one outside the folder.
    """
    path = place_of(image)
    return {
        "path": str(path) if (folder / path).is_file() else None,
        "words": words,
        "caption": caption,
        "lines": list(lines),
        "beside": [],
        "wide": wide,
    }


def section(name: str, pictures: Sequence[Json]) -> Json:
    """A section of pictures side by side."""
    return {"name": name, "target": None, "rows": [("", list(pictures))]}
