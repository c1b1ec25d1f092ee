"""Pictures in rows and columns with words beside and below them; the contact sheet of a synthesis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from gen_prior.errors import OptionError
from gen_prior.util.image_io import to_pil

if TYPE_CHECKING:
    from gen_prior.optimise.result import Result

INK, TEXT_SIZE = "#282828", 11
GAP, LINE = 6, 16
COLUMNS = 8
"""Of a contact sheet with one seed, where the targets stand side by side."""


def mosaic(
    rows: Sequence[Sequence[Tensor | None]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
    side: int = 144,
) -> Tensor:
    """Images `[3, H, W]` in [0, 1] (None: an empty place) -> one picture; each is fitted into `side` x `side` pixels.

    Words below and above pictures that do not fit are cut.
    """
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        raise OptionError("a mosaic needs at least one picture")
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
                paste(sheet, to_pil(image), (x, y), side)
            if captions and c < len(captions[r]):
                write_line(draw, (x, y + side + 1), captions[r][c], TEXT_SIZE, INK, side)
    whole: Tensor = pil_to_tensor(sheet).to(torch.float32) / 255
    return whole


def contact_sheet(result: Result) -> Tensor:
    """All images of `result` with their activations: a row for each target, a column for each seed.

    Of one seed, the targets stand side by side with their names below.
    """
    names = [target["name"] for target in result.targets]
    values = [[f"{value:.3g}" for value in row] for row in result.activations.tolist()]
    if len(result.seeds) == 1:
        images = list(result.images[:, 0])
        captions = [f"{name} {row[0]}" for name, row in zip(names, values, strict=True)]
        places = range(0, len(images), COLUMNS)
        return mosaic(
            [images[place : place + COLUMNS] for place in places],
            captions=[captions[place : place + COLUMNS] for place in places],
        )
    return mosaic(
        [list(row) for row in result.images],
        captions=values,
        row_names=names,
        column_names=[f"seed {seed}" for seed in result.seeds],
    )


__all__ = ["contact_sheet", "mosaic"]


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font(size: int) -> Font:
    """The one font of all sheets."""
    return ImageFont.load_default(size)


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """`picture` with its longer side at `side` pixels: small ones enlarged, so that a stranger can see them."""
    factor = side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)


def paste(sheet: Image.Image, picture: Image.Image, place: tuple[int, int], side: int) -> None:
    """`picture`, fitted, in the middle of the square of `side` pixels whose corner is at `place`."""
    small = fitted(picture, side)
    sheet.paste(small, (place[0] + (side - small.width) // 2, place[1] + (side - small.height) // 2))


def write_line(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], words: str, size: int, colour: str, width: float
) -> float:
    """One line, cut with an ellipsis where it would be wider than `width` pixels; returns where it ends."""
    words, chosen = " ".join(words.split()), font(size)
    while draw.textlength(words, chosen) > width and words:
        words = words.removesuffix("...")[:-1].rstrip() + "..." if words != "..." else ""
    draw.text(place, words, colour, chosen)
    return place[0] + draw.textlength(words, chosen)


def wrapped(words: str, width: float, size: int) -> list[str]:
    """`words` in lines of at most `width` pixels."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if font(size).getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


__all__ = ["Font", "fitted", "font", "paste", "wrapped", "write_line"]
