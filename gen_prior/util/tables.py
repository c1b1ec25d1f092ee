"""Tables of numbers as files: CSV for any program, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen_prior.errors import MissingExtraError, OptionError
from gen_prior.util.files import as_output_errors, write_bytes

if TYPE_CHECKING:
    import pandas

Columns = Mapping[str, type]
"""Name of a column, in the order of the table -> the type of its values: str, int or float."""
Row = Mapping[str, Any]
"""Name of a column -> value; None and NaN, or no value at all, leave the cell empty. Booleans are 1 and 0."""

FORMULA = ("=", "+", "-", "@", "\t", "'")
"""Beginnings of a text that spreadsheets take for a formula, and the apostrophe that is put before those."""


def write_csv(path: str | Path, rows: Sequence[Row], columns: Columns) -> Path:
    """Write a table as CSV, atomically, and return its path: UTF-8 without byte order mark, a line for the names first.

    A text that begins with `=`, `+`, `-`, `@` or a tab would be run as a formula by a spreadsheet; it gets an
    apostrophe in front (`-goldfish` becomes `'-goldfish`), and so does one that begins with an apostrophe, so that
    removing one gives every text back. A carriage return in a text becomes a line feed. Numbers have all their digits.

    Raises `OptionError` for a row with a column that the table does not have, `OutputError` if it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_shielded(name) for name in columns])
    writer.writerows([_cell(value) for value in values] for values in _typed(rows, columns))
    write_bytes(Path(path), text.getvalue().encode())
    return Path(path)


def write_parquet(path: str | Path, rows: Sequence[Row], columns: Columns) -> Path:
    """Write a table as Parquet, atomically, and return its path; texts are as they are.

    Raises `MissingExtraError` without pyarrow, otherwise as `write_csv` does.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            "Parquet needs pyarrow, which is not installed", fix="pip install 'gen-prior[tables]', or write a .csv"
        ) from error
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    by_column = list(zip(*_typed(rows, columns), strict=True)) or [()] * len(columns)
    arrays = [pyarrow.array(values, types[kind]) for values, kind in zip(by_column, columns.values(), strict=True)]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(arrays, names=list(columns)), buffer)
    write_bytes(Path(path), buffer.getvalue())
    return Path(path)


def write_tables(folder: str | Path, name: str, rows: Sequence[Row], columns: Columns) -> list[Path]:
    """Write `name.csv` into `folder`, and `name.parquet` where pyarrow is installed; returns their paths.

    Where it is not, a Parquet file of an earlier run is deleted, since it would not be of these rows.
    """
    paths = [write_csv(Path(folder) / f"{name}.csv", rows, columns)]
    other = Path(folder) / f"{name}.parquet"
    if find_spec("pyarrow") is not None:
        return [*paths, write_parquet(other, rows, columns)]
    with as_output_errors(other):
        other.unlink(missing_ok=True)
    return paths


def dataframe(rows: Sequence[Row]) -> pandas.DataFrame:
    """The rows as a pandas table, without columns that are empty. Raises `MissingExtraError` without pandas."""
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError(
            "a table needs pandas, which is not installed", fix="pip install 'gen-prior[tables]'"
        ) from error
    return pandas.DataFrame(list(rows)).dropna(axis="columns", how="all")


def _typed(rows: Sequence[Row], columns: Columns) -> list[list[Any]]:
    """The values of each row in the order of the columns, converted to the columns' types; None for an empty cell."""
    for row in rows:
        if unknown := [name for name in row if name not in columns]:
            raise OptionError(f"the table has no column {unknown[0]!r}; it has {', '.join(columns)}")
    return [[_converted(row.get(name), kind) for name, kind in columns.items()] for row in rows]


def _converted(value: Any, kind: type) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return kind(value)


def _cell(value: Any) -> Any:
    return _shielded(value) if isinstance(value, str) else value


def _shielded(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.startswith(FORMULA) else text


__all__ = ["Columns", "Row", "dataframe", "write_csv", "write_parquet", "write_tables"]
