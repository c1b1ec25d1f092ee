"""Code statistics: a generator and images -> mean, deviation and bounds of every code unit, by its encoder.

They give a recipe its bounds (mean + 3 std in Nguyen et al. 2016) and a prior its Gaussian. Streaming: memory does
not grow with the number of images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.conversion import cache_folder
from gen_prior.errors import ImageError, OptionError, OutputError
from gen_prior.files import read_image
from gen_prior.provenance import Provenance
from gen_prior.tensor_files import read_file_metadata, read_tensors, save_safetensors

if TYPE_CHECKING:
    from gen_prior.generators.base import Generator

FILE = "statistics.safetensors"
LARGEST_COVARIANCE = 8192
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


class Statistics(NamedTuple):
    """Of `images` codes, per unit: `mean`, `std`, `minimum`, `maximum`, `[*code_shape]`; `covariance` `[D, D]`."""

    images: int
    mean: Tensor
    std: Tensor
    minimum: Tensor
    maximum: Tensor
    covariance: Tensor | None = None


class Accumulator:
    """Takes batches of codes `[B, *shape]`, gives their `Statistics`; sums in float64 around the first batch's mean."""

    def __init__(self, shape: tuple[int, ...], covariance: bool = False) -> None:
        numbers = torch.Size(shape).numel()
        if covariance and numbers > LARGEST_COVARIANCE:
            raise OptionError(f"a full covariance of {numbers} units is too large, the limit is {LARGEST_COVARIANCE}")
        self.shape, self.count = shape, 0
        self._shift = torch.zeros(numbers, dtype=torch.float64)
        self._sum, self._squares = torch.zeros_like(self._shift), torch.zeros_like(self._shift)
        self._products = torch.zeros(numbers, numbers, dtype=torch.float64) if covariance else None
        self._low, self._high = torch.full((numbers,), torch.inf), torch.full((numbers,), -torch.inf)

    def add(self, codes: Tensor) -> None:
        """Count a batch. Raises `OptionError` for codes that are not finite."""
        flat = codes.detach().flatten(1).cpu()
        if not torch.isfinite(flat).all():
            raise OptionError("the encoder gave codes that are not finite")
        self._low, self._high = (
            torch.minimum(self._low, flat.amin(0).float()),
            torch.maximum(self._high, flat.amax(0).float()),
        )
        flat = flat.double()
        if self.count == 0:
            self._shift = flat.mean(0)
        flat = flat - self._shift
        self.count += len(flat)
        self._sum += flat.sum(0)
        self._squares += flat.square().sum(0)
        if self._products is not None:
            self._products += flat.T @ flat

    def result(self) -> Statistics:
        """The statistics so far (deviations with n - 1). Raises `OptionError` before the second code."""
        if self.count < 2:
            raise OptionError(f"statistics need at least 2 images, got {self.count}")
        offset = self._sum / self.count
        variance = (self._squares - self.count * offset.square()).clamp_min(0) / (self.count - 1)
        covariance = None
        if self._products is not None:
            covariance = ((self._products - self.count * offset[:, None] * offset) / (self.count - 1)).float()
        mean, std = (self._shift + offset).float(), variance.sqrt().float()
        mean, std, low, high = (part.view(self.shape) for part in (mean, std, self._low, self._high))
        return Statistics(self.count, mean, std, low, high, covariance)


def calibrate(
    generator: Generator,
    images: Iterable[str | Path],
    *,
    covariance: bool = False,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> Statistics:
    """Statistics of the codes of `images` (files, or folders searched for image files) under the generator's encoder.

    `progress` is told the number of images done. Raises `OptionError` where there is no encoder or a single image,
    `ImageError` for a file that is none.
    """
    if not generator.can_encode:
        raise OptionError(f"{generator.name} has no encoder, so nothing can be measured")
    accumulator = Accumulator(generator.code_shape, covariance)
    height, width = generator.image_shape()
    batch: list[Tensor] = []

    def flush() -> None:
        if batch:
            accumulator.add(generator.encode(torch.stack(batch)))
            batch.clear()
            if progress is not None:
                progress(accumulator.count)

    for path in image_files(images):
        batch.append(_square(read_image(path), height, width))
        if len(batch) == batch_size:
            flush()
    flush()
    return accumulator.result()


def image_files(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Files as given, folders replaced by the image files under them, sorted. Raises `ImageError` for none at all."""
    found = False
    for given in paths:
        path = Path(given)
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        for file in inside:
            found = True
            yield file
    if not found:
        raise ImageError("no images to measure", fix="name image files, or a folder that holds some")


def _square(image: Tensor, height: int, width: int) -> Tensor:
    """The largest centre window of the wanted shape, resized to it."""
    scale = max(height / image.shape[1], width / image.shape[2])
    size = (max(height, round(image.shape[1] * scale)), max(width, round(image.shape[2] * scale)))
    resized = F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0].clamp(0, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return resized[:, top : top + height, left : left + width]


def statistics_path(provenance: Provenance) -> Path:
    """Where the statistics of these weights are kept: in their folder, or in our cache for files of the Hub."""
    prefix, _, rest = provenance.source.partition(":")
    if prefix == "local-dir":
        return Path(rest).expanduser() / FILE
    digest = hashlib.sha256(" ".join(sorted(provenance.sha256.values())).encode()).hexdigest()
    return cache_folder() / "statistics" / f"{digest[:32]}.safetensors"


def save(statistics: Statistics, generator: Generator) -> Path:
    """Keep `statistics` beside the generator's weights; the next `load_generator` uses them. Raises `OutputError`."""
    path = statistics_path(generator.provenance)
    tensors = {name: value for name, value in statistics._asdict().items() if isinstance(value, Tensor)}
    metadata = {"format": "gen-prior/statistics-1", "generator": generator.name, "images": str(statistics.images)}
    try:
        save_safetensors(path, tensors, metadata)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def find_statistics(provenance: Provenance, shape: tuple[int, ...] | None = None) -> Statistics | None:
    """The statistics kept for these weights, or None; of codes of `shape` where given."""
    path = statistics_path(provenance)
    if not provenance.sha256 or not path.is_file():
        return None
    tensors = read_tensors(path)
    if shape is not None and tuple(tensors["mean"].shape) != shape:
        return None
    images = int(read_file_metadata(path)["images"])
    mean, std, low, high = (tensors[name] for name in ("mean", "std", "minimum", "maximum"))
    return Statistics(images, mean, std, low, high, tensors.get("covariance"))


__all__ = ["Accumulator", "Statistics", "calibrate", "find_statistics", "image_files", "save", "statistics_path"]
