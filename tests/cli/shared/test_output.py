"""Tables and remarks of the commands: nothing is broken in the middle, many names take one line."""

from __future__ import annotations

import pytest
from command_runner import Run
from rich.console import Console

from gen_prior.cli.shared import output


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], methods: int) -> list[list[str]]:
    """The lines of each table that is printed 60 columns wide, for methods `m0-a-long-name`, ..."""
    monkeypatch.setattr(output, "console", Console(width=60, highlight=False))
    names = [f"m{m}-a-long-name" for m in range(methods)]
    output.print_numbers(["median", *names, "photographs"], [["spectrum slope", *map(str, range(methods)), "-2.5"]])
    tables = capsys.readouterr().out.split("\n\n")
    return [[line.strip() for line in table.splitlines()] for table in tables]


def test_a_table_that_fits_is_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (table,) = printed(monkeypatch, capsys, 1)
    assert [line.split() for line in table] == [
        ["median", "m0-a-long-name", "photographs"],
        ["spectrum", "slope", "0", "-2.5"],
    ]


def test_a_wide_table_goes_on_below(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tables = printed(monkeypatch, capsys, 5)
    assert all(len(line) <= 60 for table in tables for line in table)
    assert [len(table) for table in tables] == [2] * len(tables)
    names = [name for table in tables for name in table[0].split()[1:]]
    assert names == [*(f"m{m}-a-long-name" for m in range(5)), "photographs"]
    assert [value for table in tables for value in table[1].split()[2:]] == ["0", "1", "2", "3", "4", "-2.5"]


def test_many_names_take_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_remarks({"not judged": ["a", "b", "c", "d", "e"], "failed": ["a"]})
    assert capsys.readouterr().err.splitlines() == ["a, b, c and 2 more: not judged", "a: failed"]
    output.print_remarks({"not judged": ["a"]}, quiet=True)
    assert capsys.readouterr().err == ""


def test_a_terminal_breaks_remarks_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/a/long/path/that-goes-on-and-on/beyond/the/width/of/a/line"
    monkeypatch.setattr(output, "errors", Console(stderr=True, width=40, force_terminal=True, color_system=None))
    output.print_error(f"unknown class 'golfish'; did you mean goldfish, goldfinch? {path} is there")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "gen-prior: unknown class 'golfish'; did"
    assert path in lines
    assert all(len(line) <= 40 for line in lines if line != path)
    monkeypatch.setattr(output, "errors", Console(stderr=True, width=40))
    output.print_error("unknown class 'golfish'; did you mean goldfish, goldfinch?")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_escape_sequences_in_names_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[31mred\x1b]0;title\x07\u202etxt\udcff"
    output.print_remark(name)
    output.print_table("", [name], [[name]])
    output.print_error(name)
    printed = capsys.readouterr()
    assert not {"\x1b", "\x07", "\u202e", "\udcff"} & {*printed.out, *printed.err}
    assert printed.err.count(r"a\x1b[31mred\x1b]0;title\x07\u202etxt\udcff") == 2
    for words in (
        ["synth", f"--{name}"],
        [name],
        ["layers", "efficientnet-lite0", name],
        ["models", "--json", "x", name],
    ):
        done = Run(*words)
        assert done.code != 0
        assert "\x1b" not in done.out + done.err
