"""Images in labelled rows and columns, in pages; text and images drawn by Pillow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gen_prior.errors import OptionError
from gen_prior.util.files import as_output_errors, write_bytes
from gen_prior.util.image_io import from_pil, to_pil

INK, TEXT_SIZE = "#282828", 11
GAP, LINE = 6, 16
SIDE = 144
"""Pixels: side of an image."""
TALLEST = 3000
"""Pixels: no sheet of several targets is higher; the others go on further pages. A target is never split."""


def mosaic(
    rows: Sequence[Sequence[Tensor | None]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
    side: int = SIDE,
) -> Tensor:
    """One image `[3, H, W]` of `rows` of images `[3, h, w]`, all in [0, 1]; None leaves a cell empty.

    Each image is scaled to fit `side` x `side` pixels; captions and column names that are wider are cut.
    Raises `OptionError` if there is no image.
    """
    sheet = draw_mosaic(rows, captions=captions, row_names=row_names, column_names=column_names, side=side)
    return from_pil(sheet)


def draw_mosaic(
    rows: Sequence[Sequence[Tensor | Image.Image | None]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
    side: int = SIDE,
) -> Image.Image:
    """As `mosaic`, a picture of tensors or pictures: of many images, `thumbnail`s take less memory."""
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        raise OptionError("a mosaic needs at least one image")
    words = max((int(font(TEXT_SIZE).getlength(name)) for name in row_names or []), default=-GAP)
    left = 8 + words + GAP
    top = 4 + (LINE + 2 if column_names else 0)
    height = side + GAP + (LINE if captions else 0)
    sheet = Image.new("RGB", (left + columns * (side + GAP), top + len(rows) * height + 4), "white")
    draw = ImageDraw.Draw(sheet)
    for c, name in enumerate(column_names or []):
        write_line(draw, (left + c * (side + GAP), 4), name, TEXT_SIZE, INK, side)
    for r, row in enumerate(rows):
        y = top + r * height
        if row_names:
            write_line(draw, (6, y + side // 2 - 6), row_names[r], TEXT_SIZE, INK, left)
        for c, image in enumerate(row):
            x = left + c * (side + GAP)
            if image is not None:
                paste(sheet, to_pil(image) if isinstance(image, Tensor) else image, (x, y), side)
            if captions and c < len(captions[r]):
                write_line(draw, (x, y + side + 1), captions[r][c], TEXT_SIZE, INK, side)
    return sheet


def thumbnail(image: Tensor) -> Image.Image:
    """An image `[3, H, W]` in [0, 1] as a picture of the size that it has in a mosaic."""
    return fitted(to_pil(image), SIDE)


def row_pages(count: int, *, columns: int = 1) -> list[range]:
    """Split `count` targets over the pages of a mosaic with captions, `columns` of them in a row."""
    rows = pages(-(-count // columns), SIDE + GAP + LINE, header=LINE + 10)
    return [range(part.start * columns, min(part.stop * columns, count)) for part in rows]


def pages(count: int, height: int, *, header: int = 0) -> list[range]:
    """Split `count` blocks over pages: as many of `height` pixels below `header` as `TALLEST` allows."""
    each = max(1, (TALLEST - header) // height)
    return [range(first, min(first + each, count)) for first in range(0, count, each)]


def write_pages(folder: Path, name: str, sheets: Iterable[bytes]) -> list[Path]:
    """Write PNG files `NAME.png`, `NAME-2.png`, ... and return their paths; further pages of before are deleted."""
    paths: list[Path] = []
    for number, data in enumerate(sheets, start=1):
        paths.append(folder / (f"{name}.png" if number == 1 else f"{name}-{number}.png"))
        write_bytes(paths[-1], data)
    with as_output_errors(folder):
        for left in set(folder.glob(f"{name}-*.png")) - set(paths):
            if left.stem.removeprefix(f"{name}-").isdecimal():
                left.unlink()
    return paths


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of all sheets, `size` pixels high."""
    return ImageFont.load_default(size)


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """`picture` scaled so that its longer side has `side` pixels."""
    factor = side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)


def paste(sheet: Image.Image, picture: Image.Image, corner: tuple[int, int], side: int) -> None:
    """Paste `picture`, scaled to fit, into the middle of the square of `side` pixels whose top left is `corner`."""
    small = fitted(picture, side)
    sheet.paste(small, (corner[0] + (side - small.width) // 2, corner[1] + (side - small.height) // 2))


def write_line(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], words: str, size: int, colour: str, width: float
) -> float:
    """Draw one line of text, cut with an ellipsis beyond `width` pixels; returns the x at which it ends."""
    words, chosen = " ".join(words.split()), font(size)
    while draw.textlength(words, chosen) > width and words:
        words = words.removesuffix("...")[:-1].rstrip() + "..." if words != "..." else ""
    draw.text(corner, words, colour, chosen)
    return corner[0] + draw.textlength(words, chosen)


def shortened(words: str, width: float, size: int = TEXT_SIZE) -> str:
    """`words` within `width` pixels; what is too long loses its middle: "blocks.6/...2@7,7"."""
    chosen, kept, short = font(size), len(words), words
    while chosen.getlength(short) > width and kept > 0:
        kept -= 1
        tail = kept // 2
        short = words[: kept - tail].rstrip() + "..." + words[len(words) - tail :].lstrip()
    return short


def wrapped(words: str, width: float, size: int) -> list[str]:
    """`words` broken into lines of at most `width` pixels."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if font(size).getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
