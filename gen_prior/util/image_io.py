"""Files written whole or not at all, and images read with limits."""

from __future__ import annotations

import io
import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
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
    write_files({path: data})


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write several files: all of them are on disk before the first takes its name, so a full disk changes nothing.

    Raises `OutputError` as `write_bytes` does.
    """
    staged: dict[Path, Path] = {}
    path = Path()
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            staged[path] = Path(partial)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        for path, part in staged.items():
            part.chmod(0o666 & ~mask)
            part.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"cannot write {path}: {reason}", fix="free some space, or pass another folder with --out"
        ) from error
    finally:
        for part in staged.values():
            part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; refuses NaN, which JSON does not have."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_png(path: Path, image: Tensor) -> None:
    """Write one RGB image `[3, H, W]` in [0, 1] as an 8-bit PNG, atomically."""
    write_bytes(path, png_bytes(image))


def png_bytes(image: Tensor) -> bytes:
    """One RGB image `[3, H, W]` in [0, 1] as the bytes of an 8-bit PNG."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, "PNG")
    return buffer.getvalue()


def to_pil(image: Tensor) -> Image.Image:
    """RGB `[3, H, W]` in [0, 1] -> 8-bit picture, rounded."""
    picture: Image.Image = to_pil_image((image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu())
    return picture


def read_image(path: str | Path) -> Tensor:
    """An image file -> RGB `[3, H, W]` in [0, 1]; rotated as its EXIF data says, transparency on white.

    Raises `ImageError` where the file is missing, no image, damaged, of 32-bit numbers or beyond Pillow's pixel limit.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            file = Image.open(path, formats=FORMATS)
        with file:
            if file.mode == "F" or (file.mode == "I" and file.format != "PNG"):
                raise ImageError(
                    f"{path} holds numbers of 32 bits, which do not say what is black and white",
                    fix="save it with 8 or 16 bits",
                )
            picture = ImageOps.exif_transpose(file)
            if picture.mode in ("I;16", "I;16L", "I;16B", "I"):
                scaled = torch.from_numpy(np.array(picture, dtype=np.float32))[None]
                return (scaled / 65535).clamp(0, 1).expand(3, -1, -1).contiguous()
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            return pil_to_tensor(picture.convert("RGB")).float() / 255
    except FileNotFoundError as error:
        raise ImageError(f"no such image: {path}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path} has too many pixels (limit {Image.MAX_IMAGE_PIXELS})") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"{path} is not an image that can be read ({', '.join(FORMATS)})") from error
