"""Pieces of a gallery: a picture with its words, films, sections of pictures, and how they share the page's width."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

Json = dict[str, Any]
FILMS = (".gif", ".webp", ".mp4")
"""Kinds of films; the first one that is there is shown."""


def place_of(image: object) -> PurePosixPath:
    """Path of a picture, relative to the folder of the page. Raises `ValueError` for one outside it."""
    path = PurePosixPath(str(image))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the picture {path} lies outside the folder")
    return path


def picture(
    folder: Path, image: object, words: str, caption: str, lines: Sequence[str] = (), *, wide: bool = False
) -> Json:
    """A picture of `folder`, or a film, with its caption; `words` say what it shows. `wide`: a strip or a sheet.

    Raises `ValueError` for one outside the folder.
    """
    path = place_of(image)
    return {
        "path": str(path) if (folder / path).is_file() else None,
        "is_video": path.suffix == ".mp4",
        "words": words,
        "title": "",
        "caption": caption,
        "lines": list(lines),
        "beside": [],
        "wide": wide,
    }


def film(folder: Path, stem: str, words: str, *, wide: bool = False) -> list[Json]:
    """The film of that name and its strip, those that are there."""
    films = [f"{stem}{kind}" for kind in FILMS if (folder / f"{stem}{kind}").is_file()][:1]
    strips = [f"{stem}-strip.png"] if (folder / f"{stem}-strip.png").is_file() else []
    return [
        *(picture(folder, name, words, "film", wide=wide) for name in films),
        *(picture(folder, name, f"{words}, as a strip", "strip", wide=True) for name in strips),
    ]


def section(name: str, pictures: Sequence[Json]) -> Json:
    """A section of pictures side by side."""
    return {"name": name, "target": None, "rows": [("", list(pictures))]}


def section_if_any(name: str, pictures: Sequence[Json]) -> list[Json]:
    """A section of the pictures, or none where there are none."""
    return [section(name, pictures)] if pictures else []


def sheets(folder: Path, stem: str, words: str) -> list[Json]:
    """A section of the pages of the sheet of that name, `STEM.png`, `STEM-2.png`, ..., those that are there."""
    names = [f"{stem}.png", *(f"{stem}-{page}.png" for page in range(2, 1000))]
    there = [name for name in names if (folder / name).is_file()]
    return section_if_any(words, [picture(folder, name, words, "", wide=True) for name in there])


def side_by_side(listed: Sequence[Json]) -> list[Json]:
    """Sections in which single pictures share the width of the page.

    Rows of one picture each become one row, whose pictures have the rows' names above them; sections of one picture
    each become one section, whose pictures have the sections' names.
    """
    merged: list[Json] = []
    for alone, group in groupby(map(_one_row, listed), key=lambda one: _only_picture(one) is not None):
        parts = list(group)
        pictures = [found for part in parts if (found := _only_picture(part)) is not None]
        merged += [section("", pictures)] if alone and len(parts) > 1 else parts
    return merged


def _one_row(one: Json) -> Json:
    """The section with its rows of one picture each in one row."""
    wide = [row for row in one["rows"] if any(picture["wide"] for picture in row[1])]
    rows = [row for row in one["rows"] if row not in wide]
    if len(rows) < 2 or any(len(pictures) != 1 for _, pictures in rows):
        return one
    return one | {"rows": [("", [pictures[0] | {"title": name} for name, pictures in rows]), *wide]}


def _only_picture(one: Json) -> Json | None:
    """The only picture of a section, with the section's name; None if there are others, or a wide one."""
    pictures = [(row, picture) for row, pictures in one["rows"] for picture in pictures]
    if len(pictures) != 1 or pictures[0][1]["wide"]:
        return None
    names = [one["name"], pictures[0][0]]
    return pictures[0][1] | {"title": ", ".join(filter(None, names))}
