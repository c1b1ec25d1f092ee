"""Files written whole or not at all, and images read with limits."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from gen_prior.errors import ImageError, OutputError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically: a reader sees the old file or the new one, never a part.

    Raises `OutputError` where the disk is full or the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OutputError(_cannot(path, error), fix="pass another folder with --out") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(partial).chmod(0o666 & ~mask)
        Path(partial).replace(path)
    except OSError as error:
        Path(partial).unlink(missing_ok=True)
        raise OutputError(_cannot(path, error), fix="free some space, or pass another folder with --out") from error
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; refuses NaN, which JSON does not have."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_png(path: Path, image: Tensor) -> None:
    """Write one RGB image `[3, H, W]` in [0, 1] as an 8-bit PNG, atomically."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def to_pil(image: Tensor) -> Image.Image:
    """RGB `[3, H, W]` in [0, 1] -> 8-bit picture, rounded."""
    picture: Image.Image = to_pil_image((image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu())
    return picture


def read_image(path: str | Path) -> Tensor:
    """An image file -> RGB `[3, H, W]` in [0, 1]; rotated as its EXIF data says, transparency on white.

    Raises `ImageError` where the file is missing, no image, damaged or beyond Pillow's pixel limit.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode in ("I;16", "I;16L", "I;16B", "I"):
                scaled = torch.tensor(list(picture.getdata()), dtype=torch.float32).view(1, picture.height, picture.width)
                return (scaled / 65535).clamp(0, 1).expand(3, -1, -1).contiguous()
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            return pil_to_tensor(picture.convert("RGB")).float() / 255
    except FileNotFoundError as error:
        raise ImageError(f"no such image: {path}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} has too many pixels (limit {Image.MAX_IMAGE_PIXELS})") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"{path} is not an image that can be read ({', '.join(FORMATS)})") from error


def _cannot(path: Path, error: OSError) -> str:
    return f"cannot write {path}: {error.strerror or error}"
