"""Code statistics: a generator and images -> mean, deviation and bounds of every code unit, by its encoder.

They give a recipe its bounds (mean + 3 std in Nguyen et al. 2016) and a prior its Gaussian. Streaming: memory does
not grow with the number of images.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.errors import ImageError, OptionError, OutputError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.hub.convert import cache_folder
from gen_prior.hub.files import Files
from gen_prior.hub.provenance import Provenance
from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors
from gen_prior.util.image_io import image_files, read_image
from gen_prior.util.progress import Progress, ProgressCallback
from gen_prior.util.resample import centre_crop

log = logging.getLogger(__name__)

FILE, FORMAT = "statistics.safetensors", "gen-prior/statistics-1"
PARTS = ("mean", "std", "minimum", "maximum")
WEIGHTS_KEY = "weights"
LARGEST_COVARIANCE = 8192


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
    on_bad: Callable[[str], None] | None = None,
    progress: ProgressCallback | None = None,
) -> Statistics:
    """Statistics of the codes of `images` (files, or folders searched for image files) under the generator's encoder.

    `on_bad` is told about files that cannot be read, which are left out; where None, they raise `ImageError`.
    `progress` is called with a `Progress` in image files. Raises `OptionError` without an encoder or a second image.
    """
    if batch_size < 1:
        raise OptionError(f"a batch must hold at least 1 image, got {batch_size}")
    if not generator.can_encode:
        raise OptionError(f"{generator.name} has no encoder, so nothing can be measured")
    accumulator = Accumulator(generator.code_shape, covariance)
    height, width = generator.image_shape()
    batch: list[Tensor] = []

    paths = image_files(images)

    def flush(done: int) -> None:
        if batch:
            accumulator.add(generator.encode(torch.stack(batch)))
            batch.clear()
            if progress is not None:
                progress(Progress(done, len(paths), "encoding images"))

    for number, path in enumerate(paths, start=1):
        try:
            batch.append(_square(read_image(path), height, width))
        except ImageError as error:
            if on_bad is None:
                raise
            on_bad(str(error))
        if len(batch) == batch_size:
            flush(number)
    flush(len(paths))
    return accumulator.result()


def _square(image: Tensor, height: int, width: int) -> Tensor:
    """The largest centre window of the wanted shape, resized to it."""
    scale = max(height / image.shape[1], width / image.shape[2])
    size = (max(height, round(image.shape[1] * scale)), max(width, round(image.shape[2] * scale)))
    resized = F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0].clamp(0, 1)
    return centre_crop(resized, height, width)


def statistics_path(provenance: Provenance) -> Path:
    """Where statistics measured here are kept for these weights: in their folder, or in our cache for files of the Hub.

    Raises `OptionError` where there are no weights.
    """
    if not provenance.sha256:
        raise OptionError(
            f"a generator from {provenance.source} has no weights to keep code statistics for",
            fix="calibrate one that is learnt and has an encoder, such as deepsim-fc6 or diffusers:REPO",
        )
    prefix, _, rest = provenance.source.partition(":")
    if prefix == "local-dir":
        return Path(rest).expanduser() / FILE
    digest = hashlib.sha256(" ".join(sorted(provenance.sha256.values())).encode()).hexdigest()
    return cache_folder() / "statistics" / f"{digest[:32]}.safetensors"


def save(statistics: Statistics, generator: Generator) -> Path:
    """Keep `statistics` beside the generator's weights; the next `load_generator` uses them.

    Raises `OptionError` for a generator without weights, `OutputError` where the place cannot be written to.
    """
    path = statistics_path(generator.provenance)
    tensors = {name: value for name, value in statistics._asdict().items() if isinstance(value, Tensor)}
    metadata = {"format": FORMAT, "generator": generator.name, "images": str(statistics.images)}
    try:
        save_safetensors(path, tensors, metadata | {WEIGHTS_KEY: weights_hash(generator.provenance.sha256)})
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def weights_hash(sha256: Mapping[str, str]) -> str:
    """What statistics state of the weights that they were measured with: the hashes of these files but the configs."""
    return " ".join(sorted(digest for name, digest in sha256.items() if not name.endswith(".json")))


def statistics_file(provenance: Provenance, files: Files | None = None) -> Path | None:
    """The file of the statistics kept for these weights: measured here, or published with them in `files`."""
    if not provenance.sha256:
        return None
    path = statistics_path(provenance)
    if path.is_file():
        return path
    return files.find_optional(FILE) if files is not None else None


def find_statistics(
    provenance: Provenance, shape: tuple[int, ...] | None = None, files: Files | None = None
) -> Statistics | None:
    """The statistics kept for these weights, or None; of codes of `shape` where given.

    Those of other weights are left out, with a line in the log. Raises `WeightsError` for a file that is none.
    """
    path = statistics_file(provenance, files)
    if path is None:
        return None
    tensors, metadata = read_tensors(path), read_file_metadata(path)
    lacking = [name for name in PARTS if name not in tensors]
    shapes = {tuple(tensors[name].shape) for name in PARTS if name in tensors}
    if lacking or len(shapes) != 1 or not metadata.get("images", "").isdecimal():
        raise WeightsError(
            f"{path} holds no code statistics (lacks {', '.join(lacking) or 'the number of images, or one shape'})",
            fix=f"remove {FILE}, or measure it again: gen-prior calibrate",
        )
    if metadata.get(WEIGHTS_KEY, weights_hash(provenance.sha256)) != weights_hash(provenance.sha256):
        log.warning("%s was measured with other weights, and is not used; gen-prior calibrate measures it again", path)
        return None
    if shape is not None and shapes != {shape}:
        return None
    mean, std, low, high = (tensors[name] for name in PARTS)
    return Statistics(int(metadata["images"]), mean, std, low, high, tensors.get("covariance"))


__all__ = [
    "Accumulator",
    "Statistics",
    "calibrate",
    "find_statistics",
    "save",
    "statistics_file",
    "statistics_path",
    "weights_hash",
]
