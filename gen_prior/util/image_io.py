"""Image files <-> RGB tensors `[3, H, W]` in [0, 1]."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from gen_prior.errors import ImageError, OptionError
from gen_prior.util.files import files_below, is_folder, write_bytes
from gen_prior.util.reading import open_regular

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
AnyImage: TypeAlias = "Tensor | Image.Image | str | PathLike[str]"
"""A tensor `[3, H, W]` in [0, 1], a PIL picture, or an image file."""
BEYOND = 0.01
"""How far outside [0, 1] the values of an image may lie, as after resampling."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def image_files(paths: Iterable[str | Path]) -> list[Path]:
    """The files among `paths` as they are, and in place of each folder the image files below it, sorted.

    Raises `ImageError` where there is none.
    """
    given, found = list(map(Path, paths)), list[Path]()
    for path in given:
        found += [file for file in files_below(path) if is_image(file.name)] if is_folder(path) else [path]
    if not found:
        raise ImageError(
            f"no images ({', '.join(sorted(SUFFIXES))}) in {', '.join(map(str, given)) or 'no folder'}",
            fix="name image files, or a folder that holds some",
        )
    return found


def is_image(name: str) -> bool:
    """True if a file of this name is an image, by its suffix."""
    return Path(name).suffix.lower() in SUFFIXES


def read_image(path: str | Path) -> Tensor:
    """Read an image file as RGB `[3, H, W]` in [0, 1], rotated as its EXIF data says, transparent pixels on white.

    Raises `ImageError` as `read_picture` does.
    """
    try:
        file = open_regular(path)
    except FileNotFoundError as error:
        raise ImageError(f"no such image: {path}") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    with file:
        picture = read_picture(file, str(path))
    return _tensor(picture)


def read_picture(source: str | Path | IO[bytes], name: str) -> Image.Image:
    """The picture in an image file, called `name` in messages, rotated as its EXIF data says, transparency on white.

    In RGB; grey of 16 bits a channel in the mode "F", from 0 to 255.
    Raises `ImageError` for a file that is missing, damaged or no image, has 32 bits a channel, or exceeds Pillow's
    pixel limit.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            file = Image.open(source, formats=FORMATS)
        with file:
            if file.width * file.height > (Image.MAX_IMAGE_PIXELS or math.inf):  # other threads may reset the filter
                raise Image.DecompressionBombError
            if file.mode == "F" or (file.mode == "I" and file.format != "PNG"):
                raise ImageError(
                    f"{name} has 32 bits a channel, without saying which value is black and which white",
                    fix="save it with 8 or 16 bits",
                )
            return _rgb(file)
    except FileNotFoundError as error:
        raise ImageError(f"no such image: {name}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name} has too many pixels (limit {Image.MAX_IMAGE_PIXELS})") from error
    except ImageError:
        raise
    except Exception as error:  # damaged images make decoders fail in any way
        raise ImageError(f"{name} is not an image that can be read ({', '.join(FORMATS)})") from error


def _rgb(picture: Image.Image) -> Image.Image:
    """The picture as `read_picture` gives it."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I;16", "I;16L", "I;16B", "I"):
        return Image.fromarray(np.array(picture, dtype=np.float32) / 257)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _tensor(picture: Image.Image) -> Tensor:
    """`[3, H, W]` of a picture that `_rgb` returned."""
    if picture.mode == "F":
        return (torch.from_numpy(np.array(picture))[None] / 255).clamp(0, 1).expand(3, -1, -1).contiguous()
    return from_pil(picture)


def as_image(image: AnyImage) -> Tensor:
    """An image file, a PIL picture or a tensor as RGB `[3, H, W]` in [0, 1], float32.

    Raises `ImageError` for a file as `read_image` does, `OptionError` as `check_rgb` and for anything else.
    """
    if isinstance(image, str | PathLike):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        if image.mode in ("F", "I"):
            raise OptionError(f"a picture of mode {image.mode} does not say what is white", fix='image.convert("RGB")')
        return _tensor(_rgb(image))
    return check_rgb(image)


def check_rgb(image: Tensor) -> Tensor:
    """An image `[3, H, W]` in float32. Raises `OptionError` for another shape or type, or values outside [0, 1]."""
    if not isinstance(image, Tensor):
        raise OptionError(
            f"an image is a file, a PIL picture or a tensor [3, H, W], got {type(image).__name__}",
            fix="PIL.Image.fromarray(image), of an array [H, W, 3] in uint8" if isinstance(image, np.ndarray) else None,
        )
    dense = image.layout == torch.strided and image.device.type != "meta"
    if image.ndim != 3 or image.shape[0] != 3 or min(image.shape) < 1 or not dense:
        shape = tuple(image.shape)
        one = "image[0]" if shape[:2] == (1, 3) and len(shape) == 4 else None
        turned = "image.permute(2, 0, 1)" if len(shape) == 3 and shape[-1] == 3 else None
        raise OptionError(f"an image must be RGB, [3, H, W], got {list(shape)}", fix=one or turned)
    if not image.is_floating_point():
        raise OptionError(f"an image holds floats in [0, 1], got {image.dtype}", fix="image.float() / 255")
    if not image.isfinite().all():
        raise OptionError("an image holds floats in [0, 1], got some that are not finite")
    low, high = float(image.min()), float(image.max())
    if low < -BEYOND or high > 1 + BEYOND:
        fix = "divide by 255" if low >= 0 and 2 < high <= 255 else "image.clamp(0, 1), if that is meant"
        raise OptionError(f"an image holds floats in [0, 1], got {low:.4g} to {high:.4g}", fix=fix)
    return image.detach().float()


def centre_square(picture: Image.Image, size: int) -> Image.Image:
    """Largest centred square of `picture` in RGB, resampled by Pillow to `size` x `size` pixels."""
    picture = picture.convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    return picture.crop(box) if side == size else picture.resize((size, size), Image.Resampling.BICUBIC, box=box)


def write_png(path: Path, image: Tensor) -> None:
    """Write an RGB image `[3, H, W]` in [0, 1] as an 8-bit PNG, atomically. Raises `OutputError`."""
    write_bytes(path, png_bytes(image))


def png_bytes(image: Tensor | Image.Image) -> bytes:
    """Encode an RGB image `[3, H, W]` in [0, 1], or a picture, as an 8-bit PNG."""
    buffer = io.BytesIO()
    (to_pil(image) if isinstance(image, Tensor) else image).save(buffer, "PNG")
    return buffer.getvalue()


def to_pil(image: Tensor) -> Image.Image:
    """Convert `[3, H, W]` in [0, 1] to an 8-bit picture, each value rounded to the nearest."""
    pixels = (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def from_pil(picture: Image.Image) -> Tensor:
    """Convert an 8-bit picture to `[C, H, W]` in [0, 1]."""
    pixels = torch.from_numpy(np.array(picture))
    return (pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels[None]).float() / 255
