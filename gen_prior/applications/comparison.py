"""`Comparison`: the outcome of `compare`, and the folder that holds it, possibly untrusted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gen_prior.applications.comparison_view import ComparisonView
from gen_prior.errors import OptionError, OutputError
from gen_prior.optimise.result import Result
from gen_prior.optimise.saved_run import check_saved
from gen_prior.optimise.stored_result import MAX_RECORD_BYTES
from gen_prior.report.comparison_report import write_report
from gen_prior.report.comparison_sheet import RECORD, draw_sheet
from gen_prior.report.numbers import write_comparison_numbers
from gen_prior.util.files import as_output_errors, is_file, write_json
from gen_prior.util.folders import remove_run, run_writer
from gen_prior.util.reading import read_regular, reading

FORMAT = "gen-prior/comparison-1"


@dataclass(repr=False)
class Comparison(ComparisonView):
    """The outcome of `compare`.

    Attributes:
        record: all measures and settings, as `comparison.json` holds them.
        results: name of the method -> its `Result`; empty if the comparison was loaded from a folder.
        folder: where the comparison is on disk; None for one that was not written.

    `comparison["pixel"]` is the result of a method, also of a comparison that was loaded.
    """

    record: dict[str, Any]
    results: dict[str, Result] = field(default_factory=dict)
    folder: Path | None = None

    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write each method's results into a sub-folder of `out`, then the record, numbers and sheets; returns `out`.

        Raises `OptionError` for a folder that holds another run, unless `overwrite` is given, which replaces it, and
        for a comparison that was loaded, `OutputError` if `out` cannot be written to.
        """
        for method in self.record["methods"]:
            if method["name"] not in self.results:
                raise OptionError("a loaded comparison has no images; they are in its folder", fix="copy that folder")
        if self.folder is not None and Path(out).resolve() == self.folder.resolve():
            return Path(out)  # it is there
        with run_writer(out) as folder, as_output_errors(Path(out)):
            run = {name: value for name, value in self.record.items() if name not in ("methods", "finished")}
            check_saved(folder, RECORD, run, overwrite=overwrite)
            if overwrite:
                remove_run(folder)  # first, so that a mixture is never taken for a comparison
            for method in self.record["methods"]:
                self.results[method["name"]].save(folder / method["folder"], overwrite=overwrite)
            write_json(folder / RECORD, self.record)
            draw_sheet(folder)
            write_comparison_numbers(self.record, folder)
        return Path(out)

    def report(self, out: str | Path) -> list[Path]:
        """Write means, paired differences with tests, and a figure into the folder `out`; returns the paths.

        `report.md`, `report.tex`, `figure.pdf` and `figure.png`: see `gen_prior.report.comparison_analysis`. Raises
        `MissingExtraError` without matplotlib, `OutputError` if they cannot be written.
        """
        return write_report(self.record, out)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Name of the method -> measure -> {statistic, value, low, high, count}, or None if not measured."""
        return {method["name"]: method["summary"] for method in self.record["methods"]}


def load_comparison(folder: str | Path) -> Comparison:
    """Load the measures of the comparison saved in `folder` (or its JSON file), without the images.

    Raises `OutputError` if it is missing or damaged.
    """
    path = Path(folder)
    path = path if is_file(path) else path / RECORD
    with reading("comparison", folder):
        record = json.loads(read_regular(path, limit=MAX_RECORD_BYTES))
        if record.get("format") != FORMAT:
            raise OutputError(f"{path} is not a comparison of format {FORMAT}")
        _check_record(record)
    return Comparison(record, folder=path.parent)


def _check_record(record: dict[str, Any]) -> None:
    """Raise `ValueError`, `LookupError`, `TypeError` or `AttributeError` for a record that readers cannot rely on."""
    for method in record["methods"]:
        if not isinstance(method["name"], str) or Path(method["folder"]).name != method["folder"]:
            raise ValueError("a method without a name or a folder")
        for summary in method["summary"].values():
            if summary is not None:
                float(summary["value"]), float(summary["low"]), float(summary["high"]), int(summary["count"])
    record["classifier"]["name"], record["natural"]["size"], list(record["targets"]), list(record["seeds"])
