"""The contact sheet of a comparison, drawn from `comparison.json` and the images that it names."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from gen_prior.optimise.result_rows import faithfulness_row
from gen_prior.report.measures import best_photograph
from gen_prior.util.image_io import read_image, to_pil
from gen_prior.util.mosaic import font, pages, paste, wrapped, write_line, write_pages
from gen_prior.util.reading import reading
from gen_prior.util.words import percent, short

RECORD = "comparison.json"
SHEET = "contact-sheet"
CELL, GAP, MARGIN, SIDE = 224, 20, 36, 250
"""Pixels: side of an image, space between images, border, width of the column with the methods' names."""
LINE, NAME = 21, 32
"""Pixels: a line of text, and the name of a method above its lines."""
TITLE_SIZE, HEAD_SIZE, TEXT_SIZE = 30, 22, 15
INK, GREY, RULE, RIGHT, WRONG = "#1a1a1a", "#6a6a6a", "#dddddd", "#1a7f37", "#b3261e"
PLOT_HEIGHT = 190
ABREAST = 3
"""Most methods side by side."""
ABSENT = "-"
COLOURS = ("#0b62a4", "#d1600a", "#3a8a3a", "#8a3a8a", "#a48a0b", "#b3261e", "#0a8a8a", "#555555")


def draw_sheet(folder: str | Path) -> list[Path]:
    """Draw the comparison saved in `folder` there, and return the paths of the sheets.

    One block per target; rows are methods, columns are seeds; as many targets on a page as `grid.TALLEST` allows.
    Raises `OutputError` if the record or an image is missing or damaged, or a sheet cannot be written.
    """
    folder = Path(folder)
    with reading("comparison", folder):
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        layout = _Layout.of(record)
        sheets = [_png(_draw(record, folder, part, layout)) for part in _parts(record, layout)]
    return write_pages(folder, SHEET, sheets)


def page_count(record: dict[str, Any]) -> int:
    """Number of pages of a comparison's sheet."""
    return len(_parts(record, _Layout.of(record)))


def draw_page(record: dict[str, Any], folder: Path, page: int) -> Image.Image:
    """One page, from 1, of the sheet of a comparison whose images are in `folder`. Raises as `draw_sheet` does."""
    layout = _Layout.of(record)
    with reading("comparison", folder):
        return _draw(record, folder, _parts(record, layout)[page - 1], layout)


def _parts(record: dict[str, Any], layout: _Layout) -> list[range]:
    return pages(len(record["targets"]), layout.block, header=MARGIN + layout.header)


def _png(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class _Layout:
    """Pixels: width of a sheet, height of a method's row and of a target's block; the legend's lines.

    `columns`: methods side by side, several where there is a single seed.
    """

    width: int
    row: int
    block: int
    legend: list[str]
    columns: int

    @classmethod
    def of(cls, record: dict[str, Any]) -> _Layout:
        """The layout of a comparison's sheets, the same for all of them."""
        has_failures = any(item["status"] != "ok" for method in record["methods"] for item in method["items"])
        most = max(len(_measures(record, t)) for t in range(len(record["targets"])))
        row = max(CELL + 8 + (3 if has_failures else 2) * LINE, NAME + most * LINE) + GAP
        seeds, methods = len(record["seeds"]), len(record["methods"])
        columns = max(1, min(methods, ABREAST)) if seeds == 1 else 1
        block = 60 + LINE + -(-methods // columns) * row + PLOT_HEIGHT + 40
        width = max(2 * MARGIN + columns * (SIDE + seeds * (CELL + GAP)) - GAP, 900)
        return cls(width, row, block, wrapped(_legend(record), width - 2 * MARGIN, TEXT_SIZE), columns)

    def corner(self, method: int, top: int) -> tuple[int, int]:
        """Left and top of a method in the block of a target at `top`."""
        row, column = divmod(method, self.columns)
        return MARGIN + column * (SIDE + CELL + GAP), top + 60 + LINE + row * self.row

    @property
    def header(self) -> int:
        """Height of title and legend."""
        return 44 + len(self.legend) * LINE + 24


def _draw(record: dict[str, Any], folder: Path, targets: range, layout: _Layout) -> Image.Image:
    """The sheet of some of the targets."""
    width, block, header = layout.width, layout.block, layout.header
    sheet = Image.new("RGB", (width, MARGIN + header + len(targets) * block), "white")
    draw = ImageDraw.Draw(sheet)
    title = f"What {record['classifier']['name']} wants to see"
    write_line(draw, (MARGIN, MARGIN), title, TITLE_SIZE, INK, width - 2 * MARGIN)
    for index, line in enumerate(layout.legend):
        write_line(draw, (MARGIN, MARGIN + 44 + index * LINE), line, TEXT_SIZE, GREY, width)
    for index, t in enumerate(targets):
        top, target = MARGIN + header + index * block, record["targets"][t]
        draw.line([(MARGIN, top), (width - MARGIN, top)], RULE, 2)
        end = write_line(draw, (MARGIN, top + 14), target["name"], HEAD_SIZE, INK, width - 2 * MARGIN)
        if target["target"] not in (None, target["name"]):
            write_line(draw, (end + 14, top + 20), target["target"], TEXT_SIZE, GREY, width - end - 14 - MARGIN)
        measures = _measures(record, t)
        for m, method in enumerate(record["methods"]):
            x, y = layout.corner(m, top)
            lines = [(name, values[m]) for name, values in measures]
            _method(draw, method["name"], lines, (x, y), COLOURS[m % len(COLOURS)])
            items = [item for item in method["items"] if item["target"] == t]
            for column, item in enumerate(items):
                left = x + SIDE + column * (CELL + GAP)
                if m < layout.columns:
                    write_line(draw, (left, top + 52), f"seed {item['seed']}", TEXT_SIZE, GREY, CELL)
                _cell(sheet, draw, folder, item, (left, y), target["judged"])
        _plot(draw, record, t, top + block - PLOT_HEIGHT - 40, width)
    return sheet


def _legend(record: dict[str, Any]) -> str:
    natural = record["natural"]
    words = (
        f"{record['evaluations']} classifier evaluations for each image. Left: medians over the seeds. "
        "Under each image: its activation and, for a class, its probability by the classifier"
    )
    if record["judge"]:
        words += (
            "; below, the judge's class and its probability of the target, green if the class is right. "
            f"Judge, which no method optimises: {record['judge']['name']}"
        )
    if any(any(method.get("faithfulness") or ()) for method in record["methods"]):
        words += (
            ". Two alternatives: of two photographs, how often a machine says which one excites the unit more if it is "
            "shown these images; then, if it is shown photographs"
        )
    if best := best_photograph(record):
        words += f". Best photograph: {best}"
    return words + (
        f". Natural photographs at {natural['size']} px have {percent(natural['high_frequency'])} of their power above "
        f"half the Nyquist frequency and a spectrum slope of {short(natural['slope'])}."
    )


def _method(
    draw: ImageDraw.ImageDraw, name: str, lines: Sequence[tuple[str, str]], corner: tuple[int, int], colour: str
) -> None:
    """Draw a row's left column: the method's name and its measures of the target's images."""
    x, y = corner[0] + 16, corner[1]
    draw.rectangle([corner, (corner[0] + 5, y + max(CELL, NAME + len(lines) * LINE - 4))], colour)
    write_line(draw, (x, y), name, HEAD_SIZE - 2, INK, SIDE - 26)
    for index, (words, value) in enumerate(lines):
        line = y + NAME + index * LINE
        write_line(draw, (x, line), words, TEXT_SIZE, GREY, SIDE)
        draw.text((x + 205, line), value, INK, font(TEXT_SIZE), anchor="ra")


def _measures(record: dict[str, Any], t: int) -> list[tuple[str, list[str]]]:
    """Name of each measure of a target that any method has, and its value by each method."""
    columns = [_values(method, t) for method in record["methods"]]
    names = columns[0] if columns else ()
    listed = [(name, [column[name] for column in columns]) for name in names]
    return [(name, values) for name, values in listed if any(value != ABSENT for value in values)]


def _values(method: dict[str, Any], t: int) -> dict[str, str]:
    """Name of each measure -> its median over the images of a target, or the value that they share."""
    items = [item for item in method["items"] if item["target"] == t]
    panel = (method.get("faithfulness") or {t: None})[t]
    shared = faithfulness_row(panel)
    return {
        "activation": _median(items, "activation", short),
        "of best photograph": _median(items, "photograph_ratio", short),
        "judge is right": _share(items, "judge_top1"),
        "judge's p": _median(items, "judge_probability", percent),
        "kept after blur": _median(items, "kept_blur", percent),
        "kept after JPEG": _median(items, "kept_jpeg", percent),
        "kept after shift": _median(items, "kept_shift", percent),
        "high frequency": _median(items, "high_frequency", percent),
        "spectrum slope": _median(items, "slope", short),
        "diversity": _formatted(method["diversity"][t], short, ABSENT),
        "path similarity": _formatted(shared.get("target_path_similarity"), short, ABSENT),
        "two alternatives": _formatted(shared.get("target_two_alternatives"), percent, ABSENT),
        "if shown photographs": _formatted(shared.get("target_two_alternatives_photographs"), percent, ABSENT),
    }


def _cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    folder: Path,
    item: dict[str, Any],
    corner: tuple[int, int],
    judged: bool,
) -> None:
    """Draw one image and the values below it."""
    x, y = corner
    path = (folder / item["image"]).resolve()
    if folder.resolve() not in path.parents:
        raise ValueError(f"{item['image']} lies outside the folder")
    paste(sheet, to_pil(read_image(path)), (x, y), CELL)
    line = y + CELL + 6
    write_line(draw, (x, line), f"activation {_formatted(item['activation'], short)}", TEXT_SIZE, INK, CELL)
    if item["probability"] is not None:
        draw.text((x + CELL, line), f"p {percent(item['probability'])}", INK, font(TEXT_SIZE), anchor="ra")
    line += LINE
    if judged and item["judge_class"] is None:
        write_line(draw, (x, line), "judge: not finite", TEXT_SIZE, WRONG, CELL)
    if judged and item["judge_class"] is not None:
        colour = RIGHT if item["judge_top1"] else WRONG
        draw.text((x + CELL, line), f"p {percent(item['judge_probability'])}", colour, font(TEXT_SIZE), anchor="ra")
        write_line(draw, (x, line), f"judge: {item['judge_class']}", TEXT_SIZE, colour, CELL - 62)
    if item["status"] != "ok":
        write_line(draw, (x, line + LINE), item["status"], TEXT_SIZE, WRONG, CELL)


def _plot(draw: ImageDraw.ImageDraw, record: dict[str, Any], t: int, top: int, width: int) -> None:
    """Plot the median activation at each step, one line per method."""
    curves = {method["name"]: method["history"][t] for method in record["methods"]}
    values = [value for curve in curves.values() for value in curve if value is not None]
    if not values:
        return
    low, high = min(values), max(values)
    high = high if high > low else low + 1
    left, right, bottom = MARGIN + SIDE, width - MARGIN, top + PLOT_HEIGHT - 34
    words = ("activation at each step,", "median over the seeds,", "under the method's", "own transforms")
    for index, line in enumerate(words):
        write_line(draw, (MARGIN + 16, top + index * LINE), line, TEXT_SIZE, GREY, SIDE)
    draw.line([(left, top), (left, bottom), (right, bottom)], GREY, 1)
    for value, y in ((high, top), (low, bottom)):
        draw.text((left - 8, y), short(value), GREY, font(TEXT_SIZE), anchor="rm")
    steps = max(len(curve) for curve in curves.values())
    draw.text((left, bottom + 6), "1", GREY, font(TEXT_SIZE), anchor="la")
    draw.text((right, bottom + 6), f"step {steps}", GREY, font(TEXT_SIZE), anchor="ra")
    for index, curve in enumerate(curves.values()):
        points = [
            (left + (right - left) * step / max(steps - 1, 1), bottom - (bottom - top) * (value - low) / (high - low))
            for step, value in enumerate(curve)
            if value is not None
        ]
        if len(points) > 1:
            draw.line(points, COLOURS[index % len(COLOURS)], 3, joint="curve")


def _median(items: Sequence[dict[str, Any]], name: str, form: Callable[[float], str]) -> str:
    values = sorted(item[name] for item in items if item.get(name) is not None)
    if not values:
        return ABSENT
    middle = len(values) // 2
    return form(values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2)


def _share(items: Sequence[dict[str, Any]], name: str) -> str:
    values = [item[name] for item in items if item[name] is not None]
    return f"{sum(values)} of {len(values)}" if values else ABSENT


def _formatted(value: float | None, form: Callable[[float], str], absent: str = "not finite") -> str:
    return form(value) if value is not None else absent
