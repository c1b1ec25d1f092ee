"""The folder of a benchmark: its record, table and numbers, and whether it is the same benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gen_prior.errors import OptionError
from gen_prior.optimise.stored_result import MAX_RECORD_BYTES
from gen_prior.report.benchmark_table import markdown
from gen_prior.report.numbers import write_benchmark_numbers
from gen_prior.util.files import write_bytes, write_json
from gen_prior.util.folders import OTHER_RUN_FIX, check_kind, remove_run
from gen_prior.util.reading import read_regular, reading
from gen_prior.util.words import few, others

RECORD = "benchmark.json"
FORMAT = "gen-prior/benchmark-1"
MAY_GROW = ("targets", "generator_names")
"""Lists to which a run that goes on may add."""


def write_benchmark(folder: Path, record: dict[str, Any]) -> None:
    """Write the record, the table and `numbers.csv`. Raises `OutputError`."""
    write_json(folder / RECORD, record)
    write_bytes(folder / "benchmark.md", markdown(record).encode())
    write_benchmark_numbers(record, folder)


def check_same(
    folder: Path, record: dict[str, Any], settings: dict[str, dict[str, Any]], *, overwrite: bool = False
) -> None:
    """Raise `OptionError` where `folder` holds another run than that of `record`; with `overwrite`, delete that run.

    `settings`: name of each generator -> everything that its images depend on.

    The same run may go on to more targets and generators. Raises `OutputError` for a record that is damaged.
    """
    check_kind(folder, RECORD, overwrite=overwrite)
    if overwrite:
        remove_run(folder)
    if not (folder / RECORD).exists():
        return
    now, own = json.loads(json.dumps([record, settings]))
    with reading("benchmark", folder):
        before = json.loads(read_regular(folder / RECORD, limit=MAX_RECORD_BYTES, within=folder))
        before.setdefault("generator_names", [one["name"] for one in before["generators"]])
        fixed = [name for name in now if name not in (*MAY_GROW, "generators", "finished")]
        changed = [name for name in fixed if before.get(name) != now[name]]
        unlike = [one["name"] for one in before["generators"] if one["settings"] != own.get(one["name"])]
        fewer = [name for name in MAY_GROW if not set(before[name]) <= set(now[name])]
    if fewer or changed or unlike:
        words = others(fewer + changed) or f"other settings of {few(unlike)}"
        raise OptionError(
            f"{folder} holds a benchmark with {words}",
            fix=OTHER_RUN_FIX,
        )
