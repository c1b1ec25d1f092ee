"""Code statistics: mean, standard deviation and range of each code unit over images, measured by the encoder.

They are the code prior of generators without a published one: bounds of mean + 3 std (Nguyen et al. 2016) and a
Gaussian. Batches are accumulated, so memory does not grow with the number of images.
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
from gen_prior.util.progress import Progress, ProgressOption, progress_callback
from gen_prior.util.resample import centre_crop

log = logging.getLogger(__name__)

FILE, FORMAT = "statistics.safetensors", "gen-prior/statistics-1"
PARTS = ("mean", "std", "minimum", "maximum")
WEIGHTS_KEY = "weights"
LARGEST_COVARIANCE = 8192


class Statistics(NamedTuple):
    """Statistics of the codes of `images` images, `[*code_shape]` each; `covariance` is `[D, D]`."""

    images: int
    mean: Tensor
    std: Tensor
    minimum: Tensor
    maximum: Tensor
    covariance: Tensor | None = None


class Accumulator:
    """Accumulates `Statistics` over batches of codes `[B, *shape]`: float64 sums, shifted by the first batch's mean."""

    def __init__(self, shape: tuple[int, ...], covariance: bool = False) -> None:
        dims = torch.Size(shape).numel()
        if covariance and dims > LARGEST_COVARIANCE:
            raise OptionError(f"a full covariance of {dims} units is too large, the limit is {LARGEST_COVARIANCE}")
        self.shape, self.count = shape, 0
        self._shift = torch.zeros(dims, dtype=torch.float64)
        self._sum, self._squares = torch.zeros_like(self._shift), torch.zeros_like(self._shift)
        self._products = torch.zeros(dims, dims, dtype=torch.float64) if covariance else None
        self._low, self._high = torch.full((dims,), torch.inf), torch.full((dims,), -torch.inf)

    def add(self, codes: Tensor) -> None:
        """Add a batch. Raises `OptionError` for codes that are not finite."""
        flat = codes.detach().flatten(1).cpu()
        if not torch.isfinite(flat).all():
            raise OptionError("the encoder gave codes that are not finite")
        self._low = torch.minimum(self._low, flat.amin(0).float())
        self._high = torch.maximum(self._high, flat.amax(0).float())
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
        """Statistics so far, with the unbiased (n - 1) variance. Raises `OptionError` for fewer than two codes."""
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
    progress: ProgressOption = None,
) -> Statistics:
    """Statistics of the codes of `images` by the generator's encoder.

    Args:
        images: image files, and folders that are searched for them. Each is cropped to its centre of the generator's
            aspect ratio and resized.
        covariance: also measure the full covariance, for codes of at most 8192 units.
        on_bad: called with a message about each file that cannot be read, which is left out; None: raise `ImageError`.
        progress: as `synthesize` takes it, in image files.

    Raises:
        OptionError: a generator without an encoder, or fewer than two images. ImageError: no image, or an unreadable.
    """
    if batch_size < 1:
        raise OptionError(f"a batch must hold at least 1 image, got {batch_size}")
    if not generator.can_encode:
        raise OptionError(f"{generator.name} has no encoder, which code statistics need")
    accumulator = Accumulator(generator.code_shape, covariance)
    height, width = generator.image_shape()
    batch: list[Tensor] = []

    paths = image_files(images)
    report = progress_callback(progress)

    def flush(done: int) -> None:
        if batch:
            accumulator.add(generator.encode(torch.stack(batch)))
            batch.clear()
            if report is not None:
                report(Progress(done, len(paths), "encoding images"))

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
    """The largest centre crop of the aspect ratio height : width, resized to that size."""
    scale = max(height / image.shape[1], width / image.shape[2])
    size = (max(height, round(image.shape[1] * scale)), max(width, round(image.shape[2] * scale)))
    resized = F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0].clamp(0, 1)
    return centre_crop(resized, height, width)


def statistics_path(provenance: Provenance) -> Path:
    """Path of the statistics measured for these weights: in their own folder, or in the cache for files of the Hub.

    Raises `OptionError` if there are no weights.
    """
    if not provenance.sha256:
        raise OptionError(
            f"a generator from {provenance.source} has no weights to keep code statistics for",
            fix="calibrate a learnt generator with an encoder, such as deepsim-fc6 or diffusers:REPO",
        )
    prefix, _, rest = provenance.source.partition(":")
    if prefix == "local-dir":
        return Path(rest).expanduser() / FILE
    digest = hashlib.sha256(" ".join(sorted(provenance.sha256.values())).encode()).hexdigest()
    return cache_folder() / "statistics" / f"{digest[:32]}.safetensors"


def save(statistics: Statistics, generator: Generator) -> Path:
    """Write `statistics` at `statistics_path`, where the next `load_generator` finds them, and return the path.

    Raises `OptionError` for a generator without weights, `OutputError` if the file cannot be written.
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
    """The hashes of the weights, without those of configurations, as statistics record them."""
    return " ".join(sorted(digest for name, digest in sha256.items() if not name.endswith(".json")))


def statistics_file(provenance: Provenance, files: Files | None = None) -> Path | None:
    """File of the statistics of these weights, measured here or published with them in `files`, if there is one."""
    if not provenance.sha256:
        return None
    path = statistics_path(provenance)
    if path.is_file():
        return path
    return files.find_optional(FILE) if files is not None else None


def find_statistics(
    provenance: Provenance, shape: tuple[int, ...] | None = None, files: Files | None = None
) -> Statistics | None:
    """The statistics of these weights, or None if there are none or, with `shape`, none for codes of that shape.

    Statistics of other weights are ignored with a warning in the log. Raises `WeightsError` for an invalid file.
    """
    path = statistics_file(provenance, files)
    if path is None:
        return None
    tensors, metadata = read_tensors(path), read_file_metadata(path)
    lacking = [name for name in PARTS if name not in tensors]
    shapes = {tuple(tensors[name].shape) for name in PARTS if name in tensors}
    if lacking or len(shapes) != 1 or not metadata.get("images", "").isdecimal():
        raise WeightsError(
            f"{path} holds no code statistics (lacks {', '.join(lacking) or 'the image count or equal shapes'})",
            fix=f"remove {FILE}, or measure it again: gen-prior calibrate",
        )
    if metadata.get(WEIGHTS_KEY, weights_hash(provenance.sha256)) != weights_hash(provenance.sha256):
        log.warning("%s was measured with other weights and is ignored. Fix: run gen-prior calibrate again", path)
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
