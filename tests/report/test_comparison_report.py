"""The analysis of a comparison against numbers worked out by hand, and the files of its report."""

from __future__ import annotations

import copy
import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gen_prior.errors import MissingExtraError
from gen_prior.report.comparison_analysis import Analysis, Pair, analyse
from gen_prior.report.comparison_report import latex, markdown, write_report
from gen_prior.report.latex import latex_text

FIRST = [[1.0, 3.0], [3.0, 3.0], [5.0, 5.0], [4.0, 8.0], [9.0, 7.0], [10.0, 12.0]]
"""Activation of each target and seed by the first method; their means are 2, 3, 5, 6, 8 and 11."""
SECOND = [[1.0, 1.0], [1.0, 1.0], [2.0, 2.0], [2.0, 2.0], [3.0, 3.0], [5.0, 5.0]]


def record(*, layer: str = "logits", methods: tuple[Any, ...] = (FIRST, SECOND), **item: Any) -> dict[str, Any]:
    """The part of a comparison's record that a report needs."""
    return {
        "classifier": {"name": "tiny_net"},
        "judge": {"name": "other"},
        "evaluations": 4,
        "natural": {"size": 32, "high_frequency": 0.03, "slope": -2.5},
        "seeds": [0, 1],
        "targets": [{"name": f"t{t}", "target": f"{layer}:{t}", "layer": layer} for t in range(len(methods[0]))],
        "methods": [
            {
                "name": f"m{m}",
                "diversity": [None] * len(values),
                "items": [
                    {"target": t, "seed": s, "status": "ok", "activation": value} | item
                    for t, row in enumerate(values)
                    for s, value in enumerate(row)
                ],
            }
            for m, values in enumerate(methods)
        ],
    }


def only_pair(analysis: Analysis) -> Pair:
    (pair,) = analysis.pairs
    return pair


def test_seeds_are_averaged_first() -> None:
    analysis = analyse(record())
    assert analysis.values["activation"]["m0"] == {0: 2, 1: 3, 2: 5, 3: 6, 4: 8, 5: 11}
    assert analysis.means["activation"]["m0"].value == pytest.approx(35 / 6)
    pair = only_pair(analysis)
    assert (pair.first, pair.second) == ("m0", "m1")
    assert pair.difference.mean == pytest.approx((1 + 2 + 3 + 4 + 5 + 6) / 6)
    assert pair.difference.p == pair.p == 2 / 64  # all of one sign; the only test
    assert pair.difference.low is not None
    assert 1 < pair.difference.low < 3.5


def test_more_seeds_are_no_more_evidence() -> None:
    more = record(methods=([row * 5 for row in FIRST], [row * 5 for row in SECOND]))
    assert analyse(more).pairs == analyse(record()).pairs


def test_p_is_corrected_for_all_tests_of_the_report() -> None:
    third = [[-value for value in row] for row in FIRST]
    analysis = analyse(record(methods=(FIRST, SECOND, third), judge_top1=True, judge_probability=0.5))
    assert [pair.measure.name for pair in analysis.pairs] == [
        *["activation"] * 3, *["judge_top1"] * 3, *["judge_probability"] * 3,
    ]  # fmt: skip
    assert analysis.tests == 9
    assert [pair.difference.p for pair in analysis.pairs] == [2 / 64] * 3 + [1.0] * 6
    assert [pair.p for pair in analysis.pairs] == [9 * 2 / 64] * 3 + [1.0] * 6


def test_activations_of_hidden_units_are_divided_by_the_largest() -> None:
    analysis = analyse(record(layer="conv2"))
    assert "largest" in analysis.measures[0].words
    assert analysis.values["activation"]["m0"] == dict.fromkeys(range(6), 1.0)
    assert analysis.values["activation"]["m1"][0] == pytest.approx(1 / 2)
    both = analyse(record(layer="conv2", methods=([[-4.0]], [[2.0]], [[0.0]])))
    assert [both.values["activation"][name][0] for name in ("m0", "m1", "m2")] == [-1.0, 0.5, 0.0]


def test_of_a_unit_that_is_to_respond_least_less_is_better() -> None:
    given = record()
    for target in given["targets"]:
        target["terms"] = [{"weight": -1.0, "layer": "logits"}]
    assert only_pair(analyse(given)).difference.mean == pytest.approx(-3.5)


def test_what_is_missing_is_left_out_of_both() -> None:
    given = record()
    given["methods"][0]["items"][0]["activation"] = None  # one seed: the other counts
    for item in given["methods"][1]["items"][2:4]:
        item["status"] = "not finished"
    analysis = analyse(given)
    assert analysis.values["activation"]["m0"][0] == 3.0
    assert 1 not in analysis.values["activation"]["m1"]
    assert only_pair(analysis).difference.count == 5
    assert only_pair(analysis).p is None
    assert "(n=5)" in markdown(given, analysis)
    assert "not tested" in markdown(given, analysis)


def test_shares_stay_between_0_and_100_per_cent() -> None:
    given = record()
    for m, method in enumerate(given["methods"]):
        for item in method["items"]:
            item["judge_top1"] = item["target"] == 0 or (m == 0 and item["target"] != 5)
    means = analyse(given).means["judge_top1"]
    assert means["m0"].value == pytest.approx(5 / 6)
    assert means["m0"].high == 1.0
    assert means["m1"].value == pytest.approx(1 / 6)
    assert means["m1"].low == 0.0


def test_spectra_stand_beside_photographs_and_are_not_tested() -> None:
    given = record(slope=-1.5)
    analysis = analyse(given)
    assert [pair.measure.name for pair in analysis.pairs] == ["activation"]
    (row,) = [line for line in markdown(given, analysis).splitlines() if line.startswith("| slope")]
    assert row.split(" | ")[1:] == ["-1.50 [-1.50, -1.50]", "-1.50 [-1.50, -1.50]", "-2.50 |"]


def test_the_report_says_what_it_would_take() -> None:
    given = record(judge_top1=True)
    analysis = analyse(given)
    assert "no corrected p can be below 0.062; with 7 targets, it can be below 0.05" in markdown(given, analysis)
    assert "no corrected p" not in markdown(record(), analyse(record()))
    assert "**0.031**" in markdown(record(), analyse(record()))


def test_the_figure_speaks_of_bars_where_there_are_some() -> None:
    few = record(methods=(FIRST[:5], SECOND[:5]))
    assert "(large dots); each small dot" in markdown(few, analyse(few))
    assert "intervals (bars); each small dot" in markdown(record(), analyse(record()))


def test_a_single_method_has_no_differences() -> None:
    given = record(methods=(FIRST,))
    analysis = analyse(given)
    assert analysis.pairs == []
    assert "Paired" not in markdown(given, analysis)
    assert latex(given, analysis).count("\\begin{table}") == 1


def test_latex_is_well_formed() -> None:
    given = record(probability=0.5, slope=-1.5)
    given["methods"][1]["name"] = "a_b&c%{\\x}#$~^"
    text = latex(given, analyse(given))
    assert r"a\_b\&c\%\{\textbackslash{}x\}\#\$\textasciitilde{}\textasciicircum{}" in text
    assert r"$-$1.50 [$-$1.50, $-$1.50]" in text
    plain = re.sub(r"\\[{}%&#$_]", "", text)
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    tables = re.findall(r"\\begin\{tabular\}\{(\w+)\}\n(.*?)\\end\{tabular\}", plain, re.DOTALL)
    assert len(tables) == 2
    for columns, body in tables:
        rows = [line for line in body.splitlines() if not line.endswith("rule")]
        assert len(rows) > 2
        for row in rows:
            assert row.endswith(r" \\")
            assert row.count("&") == (0 if row.startswith(r"\multicolumn") else len(columns) - 1)


def test_hyphens_of_names_stay() -> None:
    assert latex_text("dgn-lite0 - pixel-raw: -3.0 [-6.5, +0.5]\n<1 a") == (
        "dgn-lite0 $-$ pixel-raw: $-$3.0 [$-$6.5, +0.5] $<$1 a"
    )


def test_the_files_are_the_same_each_time(tmp_path: Path) -> None:
    given = record(probability=0.5, judge_top1=True, slope=-1.5)
    before = copy.deepcopy(given)
    paths = write_report(given, tmp_path / "a")
    assert given == before
    assert sorted(path.name for path in paths) == ["figure.pdf", "figure.png", "report.md", "report.tex"]
    for path in write_report(given, tmp_path / "b"):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    assert (tmp_path / "a" / "figure.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(io.BytesIO((tmp_path / "a" / "figure.png").read_bytes())) as figure:
        assert figure.width == 1440


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen_prior.report.comparison_figure.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"gen-prior\[figures\]"):
        write_report(record(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_zero_has_no_minus_and_one_target_no_difference() -> None:
    given = record(methods=(FIRST, [[value + 0.001 for value in row] for row in FIRST]))
    given["methods"][0]["items"][0]["probability"] = given["methods"][1]["items"][0]["probability"] = 0.5
    analysis = analyse(given)
    assert only_pair(analysis).measure.name == "activation"
    assert "| +0.0 [+0.0, +0.0] |" in markdown(given, analysis)
    assert "| 50.0 (n=1) | 50.0 (n=1) |" in markdown(given, analysis)
