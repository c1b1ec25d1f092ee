"""Scores from an experiment, as people and spreadsheets save them: CSV with a row for each image, or plain numbers."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gen_prior.errors import OptionError
from gen_prior.util.reading import read_regular

MAX_BYTES = 2**26
"""Most bytes that are read of a file of scores."""
IMAGE = "image"
MISSING = {"", "nan", "na", "n/a", "none", "null", "-"}
"""Cells, in lower case, of an image that was not measured."""
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Byte order mark -> encoding; all else is UTF-8, with or without a mark."""


@dataclass(frozen=True)
class Scores:
    """Content of a file: for each row the name of an image, "" in a file of numbers alone, and a value a column.

    `columns` are the names of all columns but the images', none in a file without a line of names. NaN stands for a
    cell that says that the image was not measured. A cell that is no score is kept as text, since its column may be a
    remark: `score_of` refuses it.
    """

    columns: list[str]
    images: list[str]
    values: list[list[float | str]]


def read_scores(path: str | Path) -> Scores:
    """Read a table of scores: comma, semicolon or tab between cells, any line ends, with or without a byte order mark.

    The table has a line of names, of which one is `image`, or two columns without names, or it holds numbers alone, in
    the order of the images. Where semicolons or tabs stand between cells, a comma is a decimal comma.

    Raises `OptionError` for a file that cannot be read or is no such table, also for numbers alone with a text or
    infinity among them.
    """
    lines = [line for line in _text(Path(path)).splitlines() if line.strip(" \t;,")]
    if not lines:
        raise OptionError(f"{path} holds no scores", fix="write one score a line, or fill in scores.csv")
    separator = next((one for one in (";", "\t", ",") if one in lines[0]), "")
    if not separator:
        header = lines[0].strip().lower() in (IMAGE, "score")
        words = [word for line in lines[header:] for word in line.split()]
        return Scores([], [""] * len(words), [[score_of(_value(word), "", path)] for word in words])
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    except csv.Error as error:
        raise OptionError(f"{path} cannot be read as a table: {error}") from error
    names = [name.lower() for name in rows[0]]
    if IMAGE in names:
        return _named(rows, names.index(IMAGE), separator, path)
    if len(rows[0]) == 2 and not _is_number(rows[0][0]):
        return _named([[IMAGE, "score"], *rows], 0, separator, path)
    raise OptionError(
        f"{path} has {len(rows[0])} columns, but none is called {IMAGE!r}",
        fix="fill in scores.csv of the generation, or write one score a line in the order of the images",
    )


def _named(rows: Sequence[Sequence[str]], image: int, separator: str, path: str | Path) -> Scores:
    """The table whose first row holds names, with the images' names in column `image`."""
    chosen = [number for number, name in enumerate(rows[0]) if number != image and name]
    images = [_tidy(row[image]) if image < len(row) else "" for row in rows[1:]]
    if "" in images:
        raise OptionError(f"row {images.index('') + 2} of {path} does not name its image")
    values = [[_value(row[number] if number < len(row) else "", separator) for number in chosen] for row in rows[1:]]
    return Scores([rows[0][number] for number in chosen], images, values)


def _text(path: Path) -> str:
    try:
        data = read_regular(path, limit=MAX_BYTES)
        return data.decode(MARKS.get(data[:2], "utf-8-sig"))
    except FileNotFoundError as error:
        raise OptionError(f"no such file of scores: {path}") from error
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def score_of(value: float | str, image: str, path: str | Path) -> float:
    """A value of `Scores` as a score, NaN for none. Raises `OptionError` for a cell that is no score."""
    if isinstance(value, str):
        where = f" for {image}" if image else ""
        raise OptionError(
            f"{path} holds {value[:40]!r}{where}, which is no score", fix="leave it empty where there is none"
        )
    return value


def _value(cell: str, separator: str = "") -> float | str:
    """A cell as a finite number, NaN for one that says that there is none, or as its text."""
    if cell.strip().lower() in MISSING:
        return math.nan
    written = cell.replace(",", ".") if separator in (";", "\t") and "." not in cell else cell
    try:
        value = float(written)
    except ValueError:
        return cell
    return cell if math.isinf(value) else value


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell.lower()) is not None


def _tidy(name: str) -> str:
    """The name of an image with forward slashes and without `./`."""
    return re.sub(r"^(\./)+", "", name.replace("\\", "/"))


__all__ = ["IMAGE", "Scores", "read_scores", "score_of"]
