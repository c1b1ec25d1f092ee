"""Folders and tar shards of photographs -> a memory-mapped cache of small square uint8 images."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gen_prior.errors import ImageError, OutputError
from gen_prior.util.files import files_below, is_file, is_folder, write_json
from gen_prior.util.image_io import SUFFIXES, centre_square, is_image, read_picture
from gen_prior.util.progress import Progress, ProgressCallback

CHUNK = 512
SMALLEST_CROP = 0.5
MOST_BYTES = 2**28
"""Largest image file that is read, in bytes."""
LABEL = "reading photographs"
Sources = str | Path | Sequence[str | Path]
"""A folder of photographs, nested or flat, or of `.tar` shards of them; or several of these."""
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
    """Hash of the names of all image files."""
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


def random_squares(picture: Image.Image, size: int, count: int, seed: int) -> np.ndarray:
    """Random squares of half to all of the short side, resampled to `size`: `[count, size, size, 3]` uint8."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        side = min(picture.size) * random.uniform(SMALLEST_CROP, 1)
        left, top = random.uniform(0, picture.width - side), random.uniform(0, picture.height - side)
        box = (left, top, left + side, top + side)
        made.append(np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=box)))
    return np.stack(made)


def check_sources(sources: Sources) -> list[Path]:
    """`sources` as paths. Raises `ImageError` if one does not exist."""
    paths = [Path(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    for path in paths:
        if not is_file(path) and not is_folder(path):
            raise ImageError(f"no such folder of images: {path}", fix="pass --images DIR, a folder that exists")
    return paths


def list_photographs(sources: Sources) -> tuple[list[Reader], str]:
    """A reader of each image file in `sources`, and the SHA-256 of their names.

    Raises `ImageError` if there are none, or a shard is damaged.
    """
    paths = check_sources(sources)
    entries = [(path, entry) for path in paths for entry in _entries(path)]
    if not entries:
        where = ", ".join(map(str, paths))
        raise ImageError(f"no images ({', '.join(sorted(SUFFIXES))}) or .tar shards of them below {where}")
    names = [name if len(paths) == 1 else f"{path.name}/{name}" for path, (name, _) in entries]
    return [read for _, (_, read) in entries], hashlib.sha256(
        "\n".join(names).encode(errors="surrogateescape")
    ).hexdigest()


def open_photographs(
    sources: Sources,
    size: int,
    cache: str | Path,
    progress: ProgressCallback | None = None,
    crops: int = 1,
    limit: int = 0,
) -> Photographs:
    """Read all images in `sources`, or evenly spaced ones up to `limit`, into the folder `cache`.

    The centre square of each image is kept, or `crops` random squares if more than one. A later call with the same
    listing uses the cache. Unreadable images are skipped and counted; `progress` counts images.
    Raises `ImageError` as `list_photographs` does, and if most images cannot be read; `OutputError` for a full disk.
    """
    readers, listing = list_photographs(sources)
    if limit and limit < len(readers):
        readers = [readers[index * len(readers) // limit] for index in range(limit)]
    name = ", ".join(path.name for path in check_sources(sources))
    data = Path(cache) / f"photographs-{size}-{crops}-{listing[:8]}-{limit}.rgb"
    record = data.with_suffix(".json")
    if (cached := _cached(data, record, listing, size, crops)) is not None:
        return cached
    data.parent.mkdir(parents=True, exist_ok=True)
    partial, bytes_each = data.with_suffix(".partial"), crops * size**2 * 3
    try:
        with partial.open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is found now, not after an hour of reading
                os.posix_fallocate(file.fileno(), 0, len(readers) * bytes_each)
            kept = 0
            for squares in _decoded(readers, size, crops, progress):
                kept += file.write(squares.tobytes()) // bytes_each
            file.truncate(kept * bytes_each)
        if kept < max(2, len(readers) // 2):
            raise ImageError(f"only {kept} of {len(readers)} images below {name} can be read")
        partial.replace(data)
    except OSError as error:
        raise OutputError(
            f"cannot cache {len(readers)} photographs in {cache}: {error.strerror or error}",
            fix=f"free {len(readers) * bytes_each / 1e9:.3f} GB, or pass another folder with --out",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    write_json(record, asdict(Description(name, size, kept * crops, len(readers) - kept, listing, crops)))
    cached = _cached(data, record, listing, size, crops)
    assert cached is not None
    return cached


def _decoded(
    readers: Sequence[Reader], size: int, crops: int, progress: ProgressCallback | None
) -> Iterator[np.ndarray]:
    """The squares `[crops, size, size, 3]` of each readable image."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(readers), CHUNK):
            chunk = readers[start : start + CHUNK]
            for squares in pool.map(lambda read, seed: _decode(read, size, crops, seed), chunk, count(start)):
                if squares is not None:
                    yield squares
            if progress is not None:
                progress(Progress(start + len(chunk), len(readers), LABEL))


def _cached(data: Path, record: Path, listing: str, size: int, crops: int) -> Photographs | None:
    """The cache of an earlier call; None unless it is undamaged and of this listing, size and number of crops."""
    try:
        described = Description(**json.loads(record.read_text(encoding="utf-8")))
        array = np.memmap(data, np.uint8, "r").reshape(described.images, size, size, 3)
    except (OSError, ValueError, TypeError):
        return None
    if (described.listing_sha256, described.size, described.crops) != (listing, size, crops):
        return None
    return Photographs(array, described)


def _entries(source: Path) -> Iterator[tuple[str, Reader]]:
    """Name and reader of each image file and of each image in a tar shard; files in sorted order."""
    for path in [source] if source.is_file() else files_below(source):
        if is_image(path.name):
            yield str(path.relative_to(source)), _reader(path)
        elif path.suffix.lower() == ".tar":
            try:
                with tarfile.open(path, "r:") as shard:
                    for member in shard:
                        if member.isfile() and not member.issparse() and is_image(member.name):
                            yield f"{path.name}/{member.name}", _reader(path, member.offset_data, member.size)
            except (tarfile.TarError, OSError, ValueError, MemoryError) as error:
                raise ImageError(f"{path} is not an uncompressed tar archive, or is damaged: {error}") from error


def _reader(path: Path, offset: int = 0, length: int | None = None) -> Reader:
    """Reads `length` bytes of a file, or all of it. The reader raises `ImageError` for more than `MOST_BYTES`."""

    def read() -> bytes:
        size = path.stat().st_size if length is None else length
        if not 0 <= size <= MOST_BYTES:
            raise ImageError(f"{path} has {size} bytes, more than an image")
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    return read


def _decode(read: Reader, size: int, crops: int, seed: int) -> np.ndarray | None:
    """Squares `[crops, size, size, 3]` uint8 of an image, or None if it cannot be read."""
    try:
        picture = read_picture(io.BytesIO(read()), "a photograph").convert("RGB")
    except (ImageError, OSError, MemoryError):
        return None
    return random_squares(picture, size, crops, seed) if crops > 1 else np.asarray(centre_square(picture, size))[None]
