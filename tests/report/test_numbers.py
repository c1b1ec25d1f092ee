"""`numbers.csv`: one row for each image, whose values are those of the records."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from pandas.api import types
from torch import nn

from gen_prior.applications import accentuation, morph_folder, responses
from gen_prior.applications.benchmark import benchmark
from gen_prior.applications.compare import compare
from gen_prior.applications.invert import invert
from gen_prior.classifiers import Classifier
from gen_prior.generators import Generator, load_generator
from gen_prior.optimise.stored_result import UNFINISHED
from gen_prior.optimise.synthesize import synthesize
from gen_prior.report import numbers
from gen_prior.report.measures import MEASURES

LABELS = ("ant", "bee", "crane bird", "golden retriever", "cup")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float | None:
    return float(text) if text else None


def check_types(folder: Path, columns: dict[str, type]) -> None:
    """pandas reads the CSV with the types of the columns (whole numbers with gaps as floats), and Parquet exactly."""
    table, exact = pandas.read_csv(folder / "numbers.csv"), pandas.read_parquet(folder / "numbers.parquet")
    assert list(table) == list(exact) == list(columns)
    for name, kind in columns.items():
        if table[name].notna().any():
            whole = kind is int and bool(table[name].notna().all())
            for column in (table[name], exact[name]):
                assert types.is_string_dtype(column) == (kind is str), name
                assert types.is_integer_dtype(column) == whole, name
                assert types.is_float_dtype(column) == (kind is not str and not whole), name
            texts = table[name].str.removeprefix("'") if kind is str else table[name]
            assert texts.dropna().tolist() == exact[name].dropna().tolist(), name


@pytest.fixture
def judge(make_tiny_network: Callable[..., nn.Module]) -> Classifier:
    return Classifier(make_tiny_network(1), input_size=24, labels=LABELS, name="tiny-judge")


def test_a_comparison_has_a_row_for_each_image(
    tiny_classifier: Classifier, tiny_generator: Generator, judge: Classifier, tmp_path: Path
) -> None:
    pixels = load_generator("pixel-raw", image_size=16, device="cpu")
    methods = [tiny_generator, pixels]
    compared = compare(
        tiny_classifier, ["bee", "-ant"], methods, judge=judge, seeds=[4, 2], evaluations=3, out=tmp_path
    )
    rows = read(tmp_path / "numbers.csv")
    assert list(rows[0]) == list(numbers.COMPARISON)
    items = [(method, item) for method in compared.record["methods"] for item in method["items"]]
    assert len(rows) == len(items) == 2 * 2 * 2
    for row, (method, item) in zip(rows, items, strict=True):
        assert (row["method"], row["seed"], row["image"]) == (method["name"], str(item["seed"]), item["image"])
        assert (tmp_path / row["image"]).is_file()
        for name in ("activation", "start_activation", "probability", "judge_probability", "kept_jpeg", "slope"):
            assert number(row[name]) == item[name], name
        assert row["judge_top1"] == ("" if item["judge_top1"] is None else str(int(item["judge_top1"])))
        assert number(row["target_diversity"]) == method["diversity"][item["target"]]
    assert [row["target"] for row in rows[:4]] == ["bee", "bee", "'-ant", "'-ant"]
    check_types(tmp_path, numbers.COMPARISON)
    before = (tmp_path / "numbers.csv").read_bytes()
    compared.save(tmp_path / "again")
    assert (tmp_path / "again" / "numbers.csv").read_bytes() == before


def test_a_synthesis_and_its_mix(tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path) -> None:
    result = synthesize(tiny_classifier, ["bee", "ant+cup"], tiny_generator, seeds=2, steps=2)
    result.status[1][1] = UNFINISHED
    panel: dict[str, Any] = {
        "path": {"normalised": 0.5}, "two_alternatives": 0.75, "two_alternatives_photographs": 1.0,
    }  # fmt: skip
    numbers.write_result_numbers(result, tmp_path, [panel, None])
    rows = read(tmp_path / "numbers.csv")
    assert [(row["target_number"], row["seed"]) for row in rows] == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    assert float(rows[2]["activation"]) == result.activations[1, 0].item()
    assert json.loads(rows[2]["terms"]) == dict(zip(("ant", "cup"), result.terms[1][0], strict=True))
    assert [row["target_two_alternatives"] for row in rows] == ["0.75", "0.75", "", ""]
    assert {name: value for name, value in rows[3].items() if value} == {
        "target_number": "1",
        "target": rows[2]["target"],
        "units": rows[2]["units"],
        "seed": "1",
        "status": "not finished",
    }


def test_an_inversion(tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path) -> None:
    found = invert(
        tiny_classifier, torch.rand(3, 40, 50), ["conv1", "conv2"], [tiny_generator], steps=2, seed=3, out=tmp_path
    )
    rows = read(tmp_path / "numbers.csv")
    assert [(row["method"], row["layer"], row["seed"]) for row in rows] == [
        ("tiny", "conv1", "3"),
        ("tiny", "conv2", "3"),
    ]
    for row in rows:
        assert float(row["error"]) == found.reconstructions["tiny"][row["layer"]].error
        assert row["style_error"] == ""
        assert (tmp_path / row["image"]).is_file()


def test_a_benchmark(tiny_classifier: Classifier, tiny_generator: Generator, judge: Classifier, tmp_path: Path) -> None:
    record = benchmark(
        tiny_classifier, [tiny_generator], tmp_path, judge=judge, classes=1, units=1, layers=["conv2"], seeds=2,
        evaluations=2,
    )  # fmt: skip
    rows = read(tmp_path / "numbers.csv")
    listed = record["generators"][0]["items"]
    assert [row["layer"] for row in rows] == ["logits", "logits", "conv2", "conv2"]
    assert [float(row["activation"]) for row in rows] == listed[0]["activations"] + listed[1]["activations"]
    assert [row["judge_rank"] for row in rows[:2]] == [str(rank) for rank in listed[0]["judge_ranks"]]
    assert [row["judge_rank"] for row in rows[2:]] == ["", ""]


def test_every_measure_has_a_column() -> None:
    columns = {measure.name if measure.of == "image" else f"target_{measure.name}" for measure in MEASURES}
    assert columns <= numbers.COMPARISON.keys()


def test_every_column_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "numbers.md").read_text(encoding="utf-8")
    first = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    documented = {name.strip(" `") for cell in first for name in cell.split(",")}
    tables = (numbers.RESULT, numbers.COMPARISON, numbers.BENCHMARK, numbers.INVERSION, numbers.DREAM)
    assert documented == {name for table in tables for name in table}


@pytest.mark.parametrize(
    ("page", "columns"),
    [("accentuate", accentuation.COLUMNS), ("morph", morph_folder.COLUMNS), ("evolve", responses.COLUMNS)],
)
def test_tables_of_their_own_are_documented_where_they_are_made(page: str, columns: dict[str, type]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "howto" / f"{page}.md").read_text(encoding="utf-8")
    assert [name for name in columns if f"`{name}`" not in text] == []
