"""How a comparison is looked at: results by method, sheets, tables, and what a notebook shows of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from gen_prior.errors import ImageError, OptionError, UnknownNameError
from gen_prior.optimise.load_result import load_result
from gen_prior.optimise.result import Result
from gen_prior.report.comparison_sheet import draw_page, page_count
from gen_prior.report.measures import best_photograph
from gen_prior.report.numbers import comparison_rows
from gen_prior.util.html import cell, picture_tag, table
from gen_prior.util.image_io import read_image
from gen_prior.util.tables import dataframe
from gen_prior.util.words import counted, short

if TYPE_CHECKING:
    import pandas

SHOWN_TARGETS, SHOWN_SEEDS = 4, 6
"""Largest table of images in a notebook."""


class ComparisonView:
    """The part of a `Comparison` that presents it."""

    record: dict[str, Any]
    results: dict[str, Result]
    folder: Path | None

    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write the comparison into `out`."""
        raise NotImplementedError

    def __getitem__(self, method: str) -> Result:
        """The result of a method, read from the folder where the comparison was loaded.

        Raises `UnknownNameError` with close matches, `OutputError` for a folder that is damaged or gone.
        """
        if method in self.results:
            return self.results[method]
        folders = {one["name"]: one["folder"] for one in self.record["methods"]}
        if method not in folders or self.folder is None:
            raise UnknownNameError("method of this comparison", method, folders)
        return load_result(self.folder / folders[method])

    def sheet(self, page: int = 1) -> Image.Image:
        """The contact sheet as a PIL picture: all images with their measures, many targets on several pages.

        Raises `OptionError` for an unknown page, `OutputError` for a folder that is damaged or gone.
        """
        known = page_count(self.record)
        if not 1 <= page <= known:
            raise OptionError(f"this comparison has pages 1 to {known}, got {page}")
        if self.folder is not None:
            return draw_page(self.record, self.folder, page)
        with tempfile.TemporaryDirectory() as folder:
            for method in self.record["methods"]:
                self.results[method["name"]].save(Path(folder) / method["folder"])
            return draw_page(self.record, Path(folder), page)

    def to_dataframe(self) -> pandas.DataFrame:
        """A pandas table with a row for each image, and the columns of `numbers.csv`, without those that are empty.

        Raises `MissingExtraError` without pandas.
        """
        return dataframe(comparison_rows(self.record))

    def __repr__(self) -> str:
        record = self.record
        counts = " x ".join(counted(len(record[f"{noun}s"]), noun) for noun in ("target", "seed"))
        methods = ", ".join(method["name"] for method in record["methods"]) or "nothing yet"
        judge = f", judged by {record['judge']['name']}" if record["judge"] else ""
        return f"<Comparison: {counts} through {methods}; for {record['classifier']['name']}{judge}>"

    def _repr_html_(self) -> str:
        """View in a notebook: the images of the first targets, then the summary of the measures."""
        head = [f"seed {seed}" for seed in self.record["seeds"][:SHOWN_SEEDS]]
        names = [str(target["name"]) for target in self.record["targets"]]
        rows = [
            (f"{name}, {method['name']}", [self._cell(method, t, s) for s in range(len(head))])
            for t, name in enumerate(names[:SHOWN_TARGETS])
            for method in self.record["methods"]
        ]
        more = "all images: comparison.sheet()" if len(names) * len(self.record["seeds"]) > len(rows) else ""
        return table(repr(self)[1:-1], head, rows, more) + self._summary()

    def _cell(self, method: dict[str, Any], t: int, s: int) -> str:
        seeds = len(self.record["seeds"])
        item = next((one for one in method["items"][t * seeds + s :][:1]), None)
        if item is None:
            return cell("not finished")
        activation = "not finite" if item["activation"] is None else f"{item['activation']:.4g}"
        judged = f"judge: {item['judge_class']}" if item.get("judge_class") else ""
        if judged and self.record["targets"][t].get("judged") is False:
            judged = "not judged"
        return cell(activation, judged, image=self._picture(method["name"], item, t, s))

    def _picture(self, method: str, item: dict[str, Any], t: int, s: int) -> str:
        """The `img` element of an item; none where the file is gone or lies outside the folder."""
        if method in self.results:
            return picture_tag(self.results[method].tensor_of("image", t, s), method)
        path = None if self.folder is None else (self.folder / item["image"]).resolve()
        if self.folder is None or path is None or self.folder.resolve() not in path.parents:
            return ""
        try:
            return picture_tag(read_image(path), method)
        except ImageError:
            return ""

    def _summary(self) -> str:
        """Rows of measures, columns of methods: the median or the share, and its interval."""
        methods = self.record["methods"]
        measures = list(dict.fromkeys(name for method in methods for name in method["summary"]))
        rows = []
        for measure in measures:
            found = [method["summary"].get(measure) for method in methods]
            if any(found):
                rows.append((measure.replace("_", " "), [_value(one) for one in found]))
        title = "Median (of yes or no, mean), and its 95 % interval"
        best = best_photograph(self.record)
        more = f"photograph ratio: activation divided by {best}" if best else ""
        return table(title, [method["name"] for method in methods], rows, more) if rows else ""


def _value(summary: dict[str, Any] | None) -> str:
    """A cell with the value of a measure and, unless its ends are the same, its interval."""
    if summary is None:
        return cell("")
    low, high = short(summary["low"]), short(summary["high"])
    return cell(short(summary["value"]), "" if low == high or summary.get("count") == 1 else f"{low} to {high}")
