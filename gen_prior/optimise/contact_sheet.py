"""The contact sheet of a result: all its images with their activations, in pages where there are many targets."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from gen_prior.optimise.result_data import ResultData
from gen_prior.optimise.stored_result import UNFINISHED
from gen_prior.util.image_io import png_bytes
from gen_prior.util.mosaic import SIDE, TEXT_SIZE, draw_mosaic, font, row_pages, shortened, thumbnail, write_pages

COLUMNS = 8
"""Images per row of a contact sheet with a single seed, where the targets stand side by side."""


def contact_sheet(result: ResultData, targets: range | None = None) -> Image.Image:
    """The images of `result` with their activations, as a picture; of all targets where None.

    A row for each target and a column for each seed; with a single seed, targets side by side, named below. Images
    that are not finished leave a gap.
    """
    targets = range(len(result.targets)) if targets is None else targets
    names = [result.targets[t]["name"] for t in targets]
    rows = [_cells(result, t) for t in targets]
    values = [
        [f"{value:.3g}" if status != UNFINISHED else status for value, status in zip(*pair, strict=True)]
        for pair in ((result.activations[t].tolist(), result.status[t]) for t in targets)
    ]
    if len(result.seeds) == 1:
        captions = [_caption(name, row[0]) for name, row in zip(names, values, strict=True)]
        starts = range(0, len(rows), COLUMNS)
        return draw_mosaic(
            [[row[0] for row in rows[start : start + COLUMNS]] for start in starts],
            captions=[captions[start : start + COLUMNS] for start in starts],
        )
    return draw_mosaic(rows, captions=values, row_names=names, column_names=[f"seed {seed}" for seed in result.seeds])


def _caption(name: str, value: str) -> str:
    """`NAME: VALUE` in the width of an image, of which the name gives way."""
    return f"{shortened(name, SIDE - font(TEXT_SIZE).getlength(f': {value}'))}: {value}"


def _cells(result: ResultData, t: int) -> list[Image.Image | None]:
    """The images of a target, small, None for those that are not finished."""
    return [
        thumbnail(image) if status != UNFINISHED else None
        for image, status in zip(result.images_of(t), result.status[t], strict=True)
    ]


def sheet_pages(result: ResultData) -> list[range]:
    """The targets on each page of the contact sheet."""
    return row_pages(len(result.targets), columns=COLUMNS if len(result.seeds) == 1 else 1)


def write_contact_sheets(result: ResultData, folder: Path) -> list[Path]:
    """Write `contact-sheet.png`, and for many targets `contact-sheet-2.png`, ...; nothing for a single image."""
    if result.activations.numel() < 2:
        return []
    sheets = (png_bytes(contact_sheet(result, page)) for page in sheet_pages(result))
    return write_pages(folder, "contact-sheet", sheets)
