"""What every sheet is drawn with: fitted pictures and lines of words that stay in their place."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

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
