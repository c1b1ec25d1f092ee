"""Measures of images: what the classifier says, what a judge says, what survives, how natural the spectrum is.

Pure functions of tensors. Images are `[B, 3, H, W]`, RGB, in [0, 1], on any device; numbers come back on the CPU.
Distortions and spectra are taken at the classifier's input size, where all methods are seen alike, whatever the
size of the image they make.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import pil_to_tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.natural import magnitude
from gen_prior.objectives.targets import Target
from gen_prior.util.image_io import to_pil

CHUNK = 16
"""Images per forward pass."""
SPECTRUM_BINS = 16
JPEG_QUALITY = 50
SHIFT = 8


@dataclass(frozen=True)
class Verdict:
    """What a classifier says of each image, in respect of one class: all `[B]`; ranks begin at 1."""

    probability: Tensor
    rank: Tensor
    top_class: Tensor


def verdict(logits: Tensor, index: int) -> Verdict:
    """Logits `[B, K]` -> probability and rank of class `index`, and the class of the largest logit."""
    logits = logits.detach().float().cpu()
    own = logits[:, index : index + 1]
    return Verdict(logits.softmax(1)[:, index], (logits > own).sum(1) + 1, logits.argmax(1))


def matching_class(classifier: Classifier, judge: Classifier, index: int) -> int | None:
    """The judge's class of the same name as the classifier's class `index`; None where the judge has no such class."""
    if classifier.labels is None or judge.labels is None:
        return None
    if classifier.labels.entries == judge.labels.entries:
        return index
    name = classifier.labels[index]
    found = [label.index for label in judge.labels.entries if label.name == name]
    return found[0] if len(found) == 1 else None


def has_features(classifier: Classifier) -> bool:
    """Whether `logits_and_features` applies: the network has a linear layer."""
    return last_linear(classifier) is not None


def last_linear(classifier: Classifier) -> nn.Linear | None:
    """The network's last linear layer, where it has one."""
    linear = [module for module in classifier.network.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def logits_and_features(classifier: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits `[B, K]` and penultimate features `[B, D]`: what enters the network's last linear layer.

    Raises `OptionError` where the network has no linear layer, or one that takes more than one vector per image.
    """
    linear = last_linear(classifier)
    if linear is None:
        raise OptionError(f"{classifier.name} has no linear layer, so no penultimate features")
    logits: list[Tensor] = []
    features: list[Tensor] = []
    caught: list[Tensor] = []
    handle = linear.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0]))
    try:
        for chunk in _chunks(classifier, images):
            caught.clear()
            logits.append(classifier(chunk).float().cpu())
            if caught[-1].ndim != 2:
                raise OptionError(
                    f"the last linear layer of {classifier.name} takes {list(caught[-1].shape)}, not [B, D]"
                )
            features.append(caught[-1].float().cpu())
    finally:
        handle.remove()
    return torch.cat(logits), torch.cat(features)


def logits_of(classifier: Classifier, images: Tensor) -> Tensor:
    """Logits `[B, K]`."""
    return torch.cat([classifier(chunk).float().cpu() for chunk in _chunks(classifier, images)])


def activations_of(classifier: Classifier, target: Target, images: Tensor) -> Tensor:
    """The target's activation for each image, `[B]`."""
    with classifier.record_layers([target.layer]) as reader:
        chunks = [target.read(reader(classifier.preprocess(chunk))) for chunk in _chunks(classifier, images)]
    return torch.cat(chunks).float().cpu()


def blurred(images: Tensor) -> Tensor:
    """Halved in size and enlarged again (bilinear, antialiased): detail finer than two pixels is gone."""
    size = images.shape[-2:]
    half = F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
    return F.interpolate(half, size, mode="bilinear", align_corners=False)


def jpeg(images: Tensor, quality: int = JPEG_QUALITY) -> Tensor:
    """Saved as JPEG and read back."""

    def round_trip(image: Tensor) -> Tensor:
        buffer = io.BytesIO()
        to_pil(image).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer, formats=("JPEG",)) as file:
            pixels: Tensor = pil_to_tensor(file.convert("RGB"))
        return pixels.to(image.device, image.dtype) / 255

    return torch.stack([round_trip(image) for image in images])


def shifted(images: Tensor, pixels: int = SHIFT) -> Tensor:
    """Moved right and down by `pixels`; the border repeats its edge."""
    return F.pad(images, (pixels, 0, pixels, 0), mode="replicate")[..., : images.shape[-2], : images.shape[-1]]


DISTORTIONS: dict[str, Callable[[Tensor], Tensor]] = {"blur": blurred, "jpeg": jpeg, "shift": shifted}


def activation_kept(classifier: Classifier, target: Target, images: Tensor) -> dict[str, Tensor]:
    """Share of the target's activation that is left after each distortion, `[B]`; NaN where it was not positive."""
    seen = classifier.resize(images.to(classifier.device))
    whole = activations_of(classifier, target, seen)
    whole = torch.where(whole > 0, whole, torch.nan)
    return {name: activations_of(classifier, target, distort(seen)) / whole for name, distort in DISTORTIONS.items()}


@dataclass(frozen=True)
class Spectrum:
    """Of each image, `[B]`: the share of its power above half the Nyquist frequency, and the slope of log power
    over log frequency (for natural photographs see `natural_spectrum`)."""

    high_frequency: Tensor
    slope: Tensor


def spectrum(images: Tensor) -> Spectrum:
    """Images `[B, 3, H, W]` -> their `Spectrum`; the mean colour does not count."""
    pixels = images.detach().float().cpu()
    power = torch.fft.rfft2(pixels, norm="ortho").abs().square().mean(1)
    return _spectrum(power, pixels.shape[-1])


def natural_spectrum(size: int) -> Spectrum:
    """The same of natural photographs at `size` pixels, from the mean magnitudes that ship with the package; `[1]`."""
    return _spectrum(magnitude(size).float().square().mean(0, keepdim=True), size)


def _spectrum(power: Tensor, width: int) -> Spectrum:
    """Power `[B, H, W // 2 + 1]` of a real transform -> share above half Nyquist, log-log slope."""
    rows, columns = torch.fft.fftfreq(power.shape[-2]), torch.fft.rfftfreq(width)
    radius = torch.sqrt(rows[:, None].square() + columns.square())
    twice = torch.full_like(columns, 2.0)  # all columns but the first and the Nyquist one stand for two
    twice[0] = 1.0
    if width % 2 == 0:
        twice[-1] = 1.0
    weight = twice.expand_as(radius) * (radius > 0)
    total = (power * weight).sum((1, 2)).clamp_min(1e-20)
    high = (power * weight * (radius > 0.25)).sum((1, 2)) / total
    # Mean power in bands of equal width in log frequency, from two cycles per image to Nyquist.
    edges = torch.logspace(
        torch.log10(torch.tensor(2.0 / width)).item(), torch.log10(torch.tensor(0.5)).item(), SPECTRUM_BINS + 1
    )
    xs, ys = [], []
    for low, top in itertools.pairwise(edges):
        inside = weight * ((radius >= low) & (radius < top))
        if inside.sum() > 0:
            xs.append((inside * radius).sum() / inside.sum())
            ys.append((power * inside).sum((1, 2)) / inside.sum())
    x, y = torch.stack(xs).log(), torch.stack(ys, 1).clamp_min(1e-20).log()
    x = x - x.mean()
    return Spectrum(high, (y * x).sum(1) / x.square().sum())


def diversity(features: Tensor) -> float | None:
    """Mean cosine distance over all pairs of rows of `[S, D]`: 0 for equal images; None for fewer than two."""
    if len(features) < 2:
        return None
    unit = F.normalize(features.double(), dim=1)
    first, second = torch.triu_indices(len(unit), len(unit), offset=1)
    return float((1 - (unit[first] * unit[second]).sum(1)).mean())


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Frechet distance between Gaussians fitted to two sets of features, `[N, D]` and `[M, D]` (Heusel et al. 2017).

    Raises `OptionError` for sets of fewer than two rows, or of different widths.
    """
    _check_sets(first, second)
    first, second = first.double(), second.double()
    apart = (first.mean(0) - second.mean(0)).square().sum()
    roots = [_covariance_root(rows) for rows in (first, second)]
    cross = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    return float(apart + roots[0].square().sum() + roots[1].square().sum() - 2 * cross)


def _covariance_root(rows: Tensor) -> Tensor:
    """`R` of at most D rows with `R.T @ R` the covariance of `rows`, `[N, D]`."""
    centred = (rows - rows.mean(0)) / (len(rows) - 1) ** 0.5
    return centred if len(rows) <= rows.shape[1] else torch.linalg.qr(centred, mode="r").R


def kernel_distance(first: Tensor, second: Tensor) -> float:
    """Squared kernel distance of two sets of features, `[N, D]` and `[M, D]` (Binkowski et al. 2018, arXiv 1801.01401).

    The kernel is cubic, `(x . y / D + 1) ** 3`. Unlike the Frechet distance it is unbiased, so that sets of different
    and small sizes can be compared; between sets of one kind it is near zero, and may be below it. Raises as
    `frechet_distance`.
    """
    _check_sets(first, second)

    def similarity(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    first, second = first.double(), second.double()
    within = [_mean_apart_from_diagonal(similarity(rows, rows)) for rows in (first, second)]
    return float(within[0] + within[1] - 2 * similarity(first, second).mean())


def _mean_apart_from_diagonal(square: Tensor) -> Tensor:
    count = len(square)
    return (square.sum() - square.diagonal().sum()) / (count * (count - 1))


def _check_sets(first: Tensor, second: Tensor) -> None:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise OptionError(
            f"two sets [N, D] and [M, D] of at least two rows, got {list(first.shape)}, {list(second.shape)}"
        )


def bootstrap_interval(
    values: Sequence[float], *, statistic: str = "median", level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the "median" or "mean" of `values`; the same every time.

    Raises `OptionError` where there are no values, or for another statistic.
    """
    if not values or statistic not in ("median", "mean"):
        raise OptionError(
            f"an interval needs values and the statistic median or mean, got {len(values)}, {statistic!r}"
        )
    data = torch.tensor(values, dtype=torch.float64)
    source = torch.Generator().manual_seed(seed)
    drawn = data[torch.randint(len(data), (resamples, len(data)), generator=source)]
    middles = drawn.quantile(0.5, dim=1) if statistic == "median" else drawn.mean(1)
    tail = (1 - level) / 2
    low, high = middles.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return float(low), float(high)


def _chunks(classifier: Classifier, images: Tensor) -> Iterator[Tensor]:
    with torch.no_grad():
        for chunk in torch.split(images, CHUNK):
            yield chunk.to(classifier.device)


__all__ = [
    "DISTORTIONS",
    "Spectrum",
    "Verdict",
    "activation_kept",
    "activations_of",
    "bootstrap_interval",
    "diversity",
    "frechet_distance",
    "has_features",
    "kernel_distance",
    "logits_and_features",
    "logits_of",
    "matching_class",
    "natural_spectrum",
    "spectrum",
    "verdict",
]
