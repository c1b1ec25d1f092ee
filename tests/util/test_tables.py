"""Tables: what is written can be read back, by csv and pyarrow, and no name becomes a formula."""

from __future__ import annotations

import csv
import io
import math
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from gen_prior.errors import MissingExtraError, OptionError, OutputError
from gen_prior.util.tables import write_csv, write_parquet, write_tables

COLUMNS: dict[str, type] = {"target": str, "seed": int, "activation": float, "right": int}
ROWS: list[dict[str, Any]] = [
    {"target": "goldfish", "seed": 0, "activation": 1 / 3, "right": True},
    {"target": '-goldfish, "big"', "seed": 2**40, "activation": -0.5, "right": False},
    {"target": "=HYPERLINK(1)", "seed": 1, "activation": float("nan"), "right": None},
    {"seed": 3},
    {"target": "Größe\n'", "activation": math.inf},
]


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))


def test_csv_keeps_every_digit_and_the_order(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "numbers.csv", ROWS, COLUMNS)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["target,seed,activation,right", "goldfish,0,0.3333333333333333,1"]
    found = read(path)
    assert float(found[0]["activation"]) == 1 / 3
    assert found[1] == {"target": '\'-goldfish, "big"', "seed": str(2**40), "activation": "-0.5", "right": "0"}
    assert (found[2]["activation"], found[2]["right"]) == ("", "")
    assert found[3] == {"target": "", "seed": "3", "activation": "", "right": ""}
    assert (found[4]["target"], found[4]["activation"]) == ("Größe\n'", "inf")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-goldfish", "@sum", "\t=1", "\n=1", "'quoted", "plain", "", "a=b"])
def test_no_text_begins_as_a_formula_and_removing_one_apostrophe_restores_it(tmp_path: Path, text: str) -> None:
    (row,) = read(write_csv(tmp_path / "one.csv", [{"target": text, "seed": 1}], {"target": str, "seed": int}))
    assert not row["target"].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert row["target"].removeprefix("'") == text


def test_parquet_has_types_and_plain_texts(tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(write_parquet(tmp_path / "numbers.parquet", ROWS, COLUMNS))
    assert table.column_names == list(COLUMNS)
    assert [str(field.type) for field in table.schema] == ["string", "int64", "double", "int64"]
    assert table.to_pylist()[:2] == [
        {"target": "goldfish", "seed": 0, "activation": 1 / 3, "right": 1},
        {"target": '-goldfish, "big"', "seed": 2**40, "activation": -0.5, "right": 0},
    ]
    assert table["activation"].null_count == 2
    empty = pyarrow.parquet.read_table(write_parquet(tmp_path / "empty.parquet", [], COLUMNS))
    assert (empty.column_names, empty.num_rows) == (list(COLUMNS), 0)


def test_a_column_that_the_table_lacks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'colour'"):
        write_csv(tmp_path / "numbers.csv", [{"colour": 1}], COLUMNS)
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_only_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [path.name for path in write_tables(tmp_path, "numbers", ROWS, COLUMNS)] == [
        "numbers.csv",
        "numbers.parquet",
    ]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("gen_prior.util.tables.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"gen-prior\[tables\]"):
        write_parquet(tmp_path / "other.parquet", ROWS, COLUMNS)
    write_tables(tmp_path, "numbers", ROWS[:1], COLUMNS)
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.csv"]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_csv(tmp_path / "file" / "numbers.csv", ROWS, COLUMNS)
