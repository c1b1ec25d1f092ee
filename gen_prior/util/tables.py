"""Tables of numbers as files: CSV for any program, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen_prior.errors import MissingExtraError, OptionError
from gen_prior.util.files import as_output_errors, atomic_write

if TYPE_CHECKING:
    import pandas

Columns = Mapping[str, type]
"""Name of a column, in the order of the table -> the type of its values: str, int or float."""
Row = Mapping[str, Any]
"""Name of a column -> value; None and NaN, or no value at all, leave the cell empty. Booleans are 1 and 0."""

FORMULA = ("=", "+", "-", "@", "\t", "'")
"""Beginnings of a text that spreadsheets take for a formula, and the apostrophe that is put before those."""
ROWS_AT_ONCE = 65_536
"""Rows of a Parquet file that are gathered in memory."""


def write_csv(path: str | Path, rows: Iterable[Row], columns: Columns) -> Path:
    """Write a table as CSV, atomically, and return its path: UTF-8 without byte order mark, a line for the names first.

    A text that begins with `=`, `+`, `-`, `@` or a tab would be run as a formula by a spreadsheet; it gets an
    apostrophe in front (`-goldfish` becomes `'-goldfish`), and so does one that begins with an apostrophe, so that
    removing one gives every text back. A carriage return in a text becomes a line feed. Numbers have all their digits.
    Rows are written as they come, so that a table need not fit in memory.

    Raises `OptionError` for a row with a column that the table does not have, `OutputError` if it cannot be written.
    """
    with (
        as_output_errors(Path(path)),
        atomic_write(Path(path)) as (partial,),
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_shielded(name) for name in columns])
        writer.writerows([_cell(value) for value in _typed(row, columns)] for row in rows)
    return Path(path)


def write_parquet(path: str | Path, rows: Iterable[Row], columns: Columns) -> Path:
    """Write a table as Parquet, atomically, and return its path; texts are as they are. Rows are taken as they come.

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
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
    waiting = iter(rows)
    with (
        as_output_errors(Path(path)),
        atomic_write(Path(path)) as (partial,),
        pyarrow.parquet.ParquetWriter(partial, schema) as writer,
    ):
        while some := [_typed(row, columns) for row in islice(waiting, ROWS_AT_ONCE)]:
            writer.write_table(pyarrow.table(list(map(list, zip(*some, strict=True))), schema=schema))
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


def _typed(row: Row, columns: Columns) -> list[Any]:
    """The values of a row in the order of the columns, converted to the columns' types; None for an empty cell."""
    if unknown := [name for name in row if name not in columns]:
        raise OptionError(f"the table has no column {unknown[0]!r}; it has {', '.join(columns)}")
    return [_converted(row.get(name), kind) for name, kind in columns.items()]


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
