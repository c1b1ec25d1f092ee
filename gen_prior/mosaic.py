"""Pictures in rows and columns with words beside and below them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from gen_prior.errors import OptionError
from gen_prior.files import to_pil

INK, PAPER = (40, 40, 40), "white"


def mosaic(
    rows: Sequence[Sequence[Tensor | None]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
    side: int = 144,
) -> Tensor:
    """Images `[3, H, W]` in [0, 1] (None: an empty place) -> one picture; each is fitted into `side` x `side` pixels.

    Small images are enlarged so that a stranger can see them; words that do not fit are cut.
    """
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        raise OptionError("a mosaic needs at least one picture")
    gap, line = 6, 16
    font = ImageFont.load_default(size=11)
    left = 8 + max((int(font.getlength(name)) for name in row_names or [""]), default=0) + (gap if row_names else 0)
    top = 4 + (line + 2 if column_names else 0)
    height = side + gap + (line if captions else 0)
    sheet = Image.new("RGB", (left + columns * (side + gap), top + len(rows) * height + 4), PAPER)
    draw = ImageDraw.Draw(sheet)
    for c, name in enumerate(column_names or []):
        draw.text((left + c * (side + gap), 4), _fit(name, font, side), INK, font)
    for r, row in enumerate(rows):
        y = top + r * height
        if row_names:
            draw.text((6, y + side // 2 - 6), row_names[r], INK, font)
        for c, image in enumerate(row):
            x = left + c * (side + gap)
            if image is not None:
                picture = _fitted(image, side)
                sheet.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
            if captions and c < len(captions[r]):
                draw.text((x, y + side + 1), _fit(captions[r][c], font, side), INK, font)
    whole: Tensor = pil_to_tensor(sheet).to(torch.float32) / 255
    return whole


def _fitted(image: Tensor, side: int) -> Image.Image:
    picture = to_pil(image)
    factor = side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
