"""Output of the commands: results on stdout, all else on stderr; with --json, stdout is JSON and nothing else."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gen_prior.util.words import few


def printable(text: str) -> str:
    """`text` with escape sequences, and all other characters that are not printed as they are, written as `\\x1b`."""
    shown = (one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)
    return "".join(shown)


class PlainConsole(Console):
    """A console that prints all text as `printable` gives it: names of files and layers are possibly untrusted."""

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich renders a text, or a cell of a table."""
        return super().render_str(printable(text), **options)


console = PlainConsole(highlight=False)
errors = PlainConsole(stderr=True, highlight=False)


def print_error(message: str) -> None:
    """Print an error message on stderr: one line, which a terminal shows broken between words."""
    errors.print("[red]gen-prior:[/red]", end=" ")
    errors.print(_between_words(message, len("gen-prior: ")), markup=False, soft_wrap=True)


def print_remark(message: str, *, quiet: bool = False) -> None:
    """Print a remark on stderr as `print_error` prints an error, unless `quiet`."""
    if not quiet:
        errors.print(_between_words(message), markup=False, soft_wrap=True)


def _between_words(message: str, before: int = 0) -> str:
    """`message` in one line; for a terminal in lines that fit, after `before` letters; paths stay whole."""
    line = " ".join(message.split())
    if not errors.is_terminal:
        return line
    lines = textwrap.wrap(
        line, errors.width, initial_indent=" " * before, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines)[before:]


def print_remarks(remarks: Mapping[str, Sequence[str]], *, quiet: bool = False) -> None:
    """Print one line for each remark on the names that it is about: the first three of them, then a count."""
    for remark, names in remarks.items():
        print_remark(f"{few(names)}: {remark}", quiet=quiet)


def print_json(value: Any) -> None:
    """Print `value` as JSON."""
    print(json.dumps(value, indent=1, allow_nan=False), flush=True)


def print_table(title: str, columns: list[str], rows: list[list[str]], right: tuple[str, ...] = ()) -> None:
    """Print a table; the columns in `right` are aligned right."""
    table = Table(
        title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(table)


def print_numbers(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table of numbers. Columns that do not fit continue in another block, which repeats the first column."""
    widths = [max(map(len, cells)) + 2 for cells in zip(columns, *rows, strict=True)]
    blocks: list[list[int]] = [[]]
    for number in range(1, len(columns)):
        taken = widths[0] + sum(widths[other] for other in blocks[-1])
        if blocks[-1] and taken + widths[number] > console.width + 2:
            blocks.append([])
        blocks[-1].append(number)
    for index, block in enumerate(blocks):
        if index:
            console.print()
        shown = [[row[0], *(row[number] for number in block)] for row in [columns, *rows]]
        print_table("", shown[0], shown[1:], right=tuple(shown[0][1:]))
