"""The contact sheet of a comparison, drawn from `comparison.json` and the images that it names."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from gen_prior.util.image_io import read_image, to_pil
from gen_prior.util.mosaic import font, pages, paste, wrapped, write_line, write_pages
from gen_prior.util.reading import reading

RECORD = "comparison.json"
SHEET = "contact-sheet"
CELL, GAP, MARGIN, SIDE = 224, 20, 36, 250
"""Pixels: side of an image, space between images, border, width of the column with the methods' names."""
LINE = 21
TITLE_SIZE, HEAD_SIZE, TEXT_SIZE = 30, 22, 15
INK, GREY, RULE, RIGHT, WRONG = "#1a1a1a", "#6a6a6a", "#dddddd", "#1a7f37", "#b3261e"
PLOT_HEIGHT = 190
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
    """Pixels: width of a sheet, height of a method's row and of a target's block; the legend's lines."""

    width: int
    row: int
    block: int
    legend: list[str]

    @classmethod
    def of(cls, record: dict[str, Any]) -> _Layout:
        """The layout of a comparison's sheets, the same for all of them."""
        has_failures = any(item["status"] != "ok" for method in record["methods"] for item in method["items"])
        row = CELL + 8 + (3 if has_failures else 2) * LINE + GAP
        block = 60 + LINE + len(record["methods"]) * row + PLOT_HEIGHT + 40
        width = max(2 * MARGIN + SIDE + len(record["seeds"]) * (CELL + GAP) - GAP, 900)
        return cls(width, row, block, wrapped(_legend(record), width - 2 * MARGIN, TEXT_SIZE))

    @property
    def header(self) -> int:
        """Height of title and legend."""
        return 44 + len(self.legend) * LINE + 24


def _draw(record: dict[str, Any], folder: Path, targets: range, layout: _Layout) -> Image.Image:
    """The sheet of some of the targets."""
    width, row, block, header = layout.width, layout.row, layout.block, layout.header
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
        for column, seed in enumerate(record["seeds"]):
            write_line(draw, (_left(column), top + 52), f"seed {seed}", TEXT_SIZE, GREY, CELL)
        for m, method in enumerate(record["methods"]):
            y = top + 60 + LINE + m * row
            _method(draw, method, t, y, COLOURS[m % len(COLOURS)], target["judged"])
            items = [item for item in method["items"] if item["target"] == t]
            for column, item in enumerate(items):
                _cell(sheet, draw, folder, item, (_left(column), y), target["judged"])
        _plot(draw, record, t, top + 60 + LINE + len(record["methods"]) * row, width)
    return sheet


def _left(column: int) -> int:
    return MARGIN + SIDE + column * (CELL + GAP)


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
    return words + (
        f". Natural photographs at {natural['size']} px have {natural['high_frequency']:.1%} of their power above half "
        f"the Nyquist frequency and a spectrum slope of {natural['slope']:.2f}."
    )


def _method(draw: ImageDraw.ImageDraw, method: dict[str, Any], t: int, y: int, colour: str, judged: bool) -> None:
    """Draw a row's left column: the method's name and medians of its measures over the target's images."""
    items = [item for item in method["items"] if item["target"] == t]
    draw.rectangle([(MARGIN, y), (MARGIN + 5, y + CELL)], colour)
    x = MARGIN + 16
    write_line(draw, (x, y), method["name"], HEAD_SIZE - 2, INK, SIDE - 26)
    has_table = any(item.get("photograph_ratio") is not None for item in items)
    lines = [
        ("activation", _median(items, "activation", "{:.1f}")),
        *([("of best photograph", _median(items, "photograph_ratio", "{:.2f}"))] if has_table else []),
        *([("judge is right", _share(items, "judge_top1"))] if judged else []),
        *([("judge's p", _median(items, "judge_probability", "{:.1%}"))] if judged else []),
        ("kept after blur", _median(items, "kept_blur", "{:.0%}")),
        ("kept after JPEG", _median(items, "kept_jpeg", "{:.0%}")),
        ("kept after shift", _median(items, "kept_shift", "{:.0%}")),
        ("high frequency", _median(items, "high_frequency", "{:.1%}")),
        ("spectrum slope", _median(items, "slope", "{:.2f}")),
        *_panel_lines((method.get("faithfulness") or {t: None})[t]),
        ("diversity", "-" if method["diversity"][t] is None else f"{method['diversity'][t]:.2f}"),
    ]
    for index, (name, value) in enumerate(lines):
        line = y + 32 + index * LINE
        write_line(draw, (x, line), name, TEXT_SIZE, GREY, SIDE)
        draw.text((x + 205, line), value, INK, font(TEXT_SIZE), anchor="ra")


def _panel_lines(panel: dict[str, Any] | None) -> list[tuple[str, str]]:
    """How faithful the images are: the path, and the two-alternative score beside that of photographs."""
    if panel is None:
        return []
    path, scores = panel["path"]["normalised"], (panel["two_alternatives"], panel["two_alternatives_photographs"])
    return [
        ("path similarity", "-" if path is None else f"{path:.2f}"),
        ("two alternatives", "{:.0%} of {:.0%}".format(*scores)),
    ]


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
    write_line(draw, (x, line), f"activation {_formatted(item['activation'], '{:.1f}')}", TEXT_SIZE, INK, CELL)
    if item["probability"] is not None:
        draw.text((x + CELL, line), f"p {item['probability']:.1%}", INK, font(TEXT_SIZE), anchor="ra")
    line += LINE
    if judged and item["judge_class"] is None:
        write_line(draw, (x, line), "judge: not finite", TEXT_SIZE, WRONG, CELL)
    if judged and item["judge_class"] is not None:
        colour = RIGHT if item["judge_top1"] else WRONG
        draw.text((x + CELL, line), f"p {item['judge_probability']:.1%}", colour, font(TEXT_SIZE), anchor="ra")
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
        draw.text((left - 8, y), f"{value:.1f}", GREY, font(TEXT_SIZE), anchor="rm")
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


def _median(items: Sequence[dict[str, Any]], name: str, form: str) -> str:
    values = sorted(item[name] for item in items if item.get(name) is not None)
    if not values:
        return "-"
    middle = len(values) // 2
    return form.format(values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2)


def _share(items: Sequence[dict[str, Any]], name: str) -> str:
    values = [item[name] for item in items if item[name] is not None]
    return f"{sum(values)} of {len(values)}" if values else "-"


def _formatted(value: float | None, form: str) -> str:
    return form.format(value) if value is not None else "not finite"
