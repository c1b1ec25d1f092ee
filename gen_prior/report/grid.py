"""Names of `util.mosaic` and `optimise.contact_sheet`, for what draws reports."""

from __future__ import annotations

from gen_prior.optimise.contact_sheet import contact_sheet, write_contact_sheets
from gen_prior.util.mosaic import (
    GAP,
    LINE,
    SIDE,
    TALLEST,
    fitted,
    font,
    mosaic,
    pages,
    paste,
    row_pages,
    wrapped,
    write_line,
    write_pages,
)

__all__ = [
    "GAP",
    "LINE",
    "SIDE",
    "TALLEST",
    "contact_sheet",
    "fitted",
    "font",
    "mosaic",
    "pages",
    "paste",
    "row_pages",
    "wrapped",
    "write_contact_sheets",
    "write_line",
    "write_pages",
]
