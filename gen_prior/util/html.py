"""Pieces of HTML for notebooks: small images inside the page, and tables; every text is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image
from torch import Tensor

from gen_prior.util.image_io import to_pil
from gen_prior.util.mosaic import fitted

SIDE = 128
"""Longest side in pixels of an image inside a page."""
CELL = "text-align: center; vertical-align: top; padding: 2px 6px"


def picture_tag(image: Tensor | Image.Image, alt: str = "", side: int = SIDE) -> str:
    """An `img` element that holds `image` (`[3, H, W]` in [0, 1], or a picture) as a JPEG of at most `side` pixels."""
    picture = to_pil(image) if isinstance(image, Tensor) else image
    if max(picture.size) > side:
        picture = fitted(picture, side)
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img src="data:image/jpeg;base64,{data}" {size} alt="{escape(alt)}" style="display: block; margin: auto">'


def cell(*lines: str, image: str = "") -> str:
    """The content of a table cell: an `img` element, or none, above lines of text."""
    return image + "<br>".join(escape(line) for line in lines if line)


def table(title: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], more: str = "") -> str:
    """A table with `title` above it and `more` below.

    Args:
        head: text above each column, without the first, which holds the names of the rows.
        rows: name of each row, as text, and its cells, as HTML (`cell`).
    """
    above = "".join(f'<th style="{CELL}">{escape(name)}</th>' for name in head)
    lines = [f"<tr><th></th>{above}</tr>"] if any(head) else []
    for name, cells in rows:
        beside = "".join(f'<td style="{CELL}">{one}</td>' for one in cells)
        lines.append(f'<tr><th style="{CELL}; text-align: left">{escape(name)}</th>{beside}</tr>')
    below = f"<div>{escape(more)}</div>" if more else ""
    return f"<div><div>{escape(title)}</div><table>{''.join(lines)}</table>{below}</div>"
