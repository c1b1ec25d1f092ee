"""Folders and tar shards of photographs -> a memory-mapped cache of small square uint8 images."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gen_prior.errors import ImageError
from gen_prior.util.files import write_json
from gen_prior.util.image_io import FORMATS, SUFFIXES, centre_square, is_image
from gen_prior.util.progress import Progress, ProgressCallback

CHUNK = 512
SMALLEST_CROP = 0.5
LABEL = "reading photographs"
Reader = Callable[[], bytes]
"""Returns the bytes of one image file."""


@dataclass(frozen=True)
class Description:
    """The photographs as the metadata of a trained prior describe them."""

    source: str
    size: int
    images: int
    """Squares in the cache: `crops` of each readable image."""
    unreadable: int
    listing_sha256: str
    crops: int = 1


class Photographs:
    """Square photographs in a memory-mapped file; `batch(indices)` gives RGB floats in [0, 1]."""

    def __init__(self, array: np.ndarray, description: Description) -> None:
        """`array`: `[N, size, size, 3]` uint8."""
        self.array = array
        self.description = description

    def __len__(self) -> int:
        return len(self.array)

    def split(self, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
        """Indices of the held-out squares (at most a tenth) and of the others, shuffled; no image is in both."""
        crops = self.description.crops
        order = torch.randperm(len(self) // crops, generator=torch.Generator().manual_seed(seed))
        squares = (order[:, None] * crops + torch.arange(crops)).flatten()
        held_out = min(held_out, len(self) // 10) // crops * crops
        return squares[:held_out], squares[held_out:]

    def batch(self, indices: Tensor, flip: Tensor | None = None, device: torch.device | str | None = None) -> Tensor:
        """Images `[B, 3, size, size]` of `indices` (`[B]`) on `device`, mirrored where `flip` (`[B]`, bool) is true."""
        images = torch.from_numpy(self.array[np.sort(indices.numpy())])
        images = images[torch.argsort(torch.argsort(indices))].to(device).permute(0, 3, 1, 2).float() / 255
        return images if flip is None else torch.where(flip.to(device)[:, None, None, None], images.flip(-1), images)


def random_squares(image: Image.Image, size: int, count: int, seed: int) -> np.ndarray:
    """Random squares of half to all of the short side, resampled to `size`: `[count, size, size, 3]` uint8."""
    image = image.convert("RGB")
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        side = min(image.size) * random.uniform(SMALLEST_CROP, 1)
        left, top = random.uniform(0, image.width - side), random.uniform(0, image.height - side)
        box = (left, top, left + side, top + side)
        made.append(np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box)))
    return np.stack(made)


def check_source(source: str | Path) -> Path:
    """`source` as a path. Raises `ImageError` if it does not exist."""
    source = Path(source)
    if not source.exists():
        raise ImageError(f"no such folder of images: {source}", fix="pass --images DIR, a folder that exists")
    return source


def open_photographs(
    source: str | Path,
    size: int,
    cache: str | Path,
    progress: ProgressCallback | None = None,
    crops: int = 1,
) -> Photographs:
    """Read all images below `source` (a folder, nested or flat, or `.tar` shards in it) into the folder `cache`.

    The centre square of each image is kept, or `crops` random squares if more than one. A later call with the same
    listing uses the cache. Unreadable images are skipped and counted; `progress` counts images.
    Raises `ImageError` if there are no images, or if most of them cannot be read.
    """
    source, cache = check_source(source), Path(cache)
    entries = list(_entries(source))
    if not entries:
        raise ImageError(f"no images ({', '.join(sorted(SUFFIXES))}) or .tar shards of them below {source}")
    listing = hashlib.sha256("\n".join(name for name, _ in entries).encode()).hexdigest()
    data, record = cache / f"photographs-{size}.npy", cache / f"photographs-{size}.json"
    if (cached := _cached(data, record, listing, size, crops)) is not None:
        return cached
    cache.mkdir(parents=True, exist_ok=True)
    partial = data.with_suffix(".partial.npy")
    array = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(entries) * crops, size, size, 3))
    kept = _decode_all([read for _, read in entries], array, size, crops, progress)
    if kept < max(2, len(entries) // 2):
        partial.unlink()
        raise ImageError(f"only {kept} of {len(entries)} images below {source} can be read")
    array.flush()
    del array
    partial.replace(data)
    described = Description(source.name, size, kept * crops, len(entries) - kept, listing, crops)
    write_json(record, asdict(described))
    return Photographs(np.load(data, mmap_mode="r")[: kept * crops], described)


def _decode_all(
    entries: list[Reader], array: np.ndarray, size: int, crops: int, progress: ProgressCallback | None
) -> int:
    """Write the squares of all readable images into `array`; return the number of these images."""
    kept = 0
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(entries), CHUNK):
            chunk = entries[start : start + CHUNK]
            for squares in pool.map(lambda read, seed: _decode(read, size, crops, seed), chunk, count(start)):
                if squares is not None:
                    array[kept * crops : (kept + 1) * crops] = squares
                    kept += 1
            if progress is not None:
                progress(Progress(start + len(chunk), len(entries), LABEL))
    return kept


def _cached(data: Path, record: Path, listing: str, size: int, crops: int) -> Photographs | None:
    """The cache of an earlier call; None unless it is undamaged and of this listing, size and number of crops."""
    try:
        described = Description(**json.loads(record.read_text(encoding="utf-8")))
        array = np.load(data, mmap_mode="r")
    except (OSError, ValueError, TypeError, EOFError):
        return None
    if (described.listing_sha256, described.size, described.crops) != (listing, size, crops):
        return None
    if len(array) < described.images:
        return None
    return Photographs(array[: described.images], described)


def _entries(source: Path) -> Iterator[tuple[str, Reader]]:
    """Name and reader of each image file and of each image in a tar shard; files in sorted order."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    for path in files:
        if is_image(path.name):
            yield str(path.relative_to(source)), path.read_bytes
        elif path.suffix.lower() == ".tar":
            try:
                with tarfile.open(path, "r:") as shard:
                    for member in shard:
                        if member.isfile() and is_image(member.name):
                            yield f"{path.name}/{member.name}", _slice(path, member.offset_data, member.size)
            except (tarfile.TarError, OSError) as error:
                raise ImageError(f"{path} is not an uncompressed tar archive, or is damaged: {error}") from error


def _slice(path: Path, offset: int, length: int) -> Reader:
    def read() -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    return read


def _decode(read: Reader, size: int, crops: int, seed: int) -> np.ndarray | None:
    """Squares `[crops, size, size, 3]` uint8 of an image, or None if it cannot be read."""
    try:
        with Image.open(io.BytesIO(read()), formats=FORMATS) as image:
            if crops > 1:
                return random_squares(image, size, crops, seed)
            return np.asarray(centre_square(image, size))[None]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
