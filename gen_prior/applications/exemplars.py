"""Natural images from a folder that excite a unit most, to show beside what was synthesised for it."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, resize

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import ImageError, OptionError
from gen_prior.objectives.receptive_field import Box, receptive_field
from gen_prior.objectives.targets import Target, parse_target
from gen_prior.util.image_io import image_files, read_image


@dataclass(frozen=True)
class Exemplar:
    """A natural image (centre crop `[3, H, W]` in [0, 1]), the unit's activation, and what the unit saw of it."""

    path: Path
    activation: float
    image: Tensor
    box: Box

    @property
    def seen(self) -> Tensor:
        """The image cropped to the unit's receptive field."""
        return self.box.crop(self.image)


def image_paths(folder: str | Path) -> list[Path]:
    """Every image file under `folder`, sorted. Raises `ImageError` where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"no such folder of images: {folder}")
    return image_files([folder])


def check_folder(folder: str | Path) -> None:
    """Raises `ImageError` unless there is an image under `folder` that can be read."""
    paths = image_paths(folder)
    for path in paths:
        with contextlib.suppress(ImageError):
            read_image(path)
            return
    raise ImageError(f"none of the {len(paths)} image files under {folder} can be read")


def find_exemplars(
    classifier: Classifier,
    target: str | int | Target,
    folder: str | Path,
    *,
    count: int = 8,
    anywhere: bool = True,
    batch: int = 16,
    on_bad: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Exemplar]:
    """The `count` images under `folder` to which `target` responds most, best first; one pass, constant memory.

    Args:
        target: for a channel at a place, `anywhere` looks for its strongest response over all places.
        on_bad: told about files that cannot be read, which are left out; raises `ImageError` where None.
        progress: called as (images done, images).

    Raises:
        ImageError: no images, one that cannot be read, or, with `on_bad`, none that can.
    """
    if count < 1:
        raise OptionError(f"count must be at least 1, got {count}")
    parsed = parse_target(target, classifier)
    paths = image_paths(folder)
    best: list[tuple[float, int, tuple[int, int] | None]] = []
    done = 0
    with classifier.record_layers([parsed.layer]) as reader, torch.no_grad():
        for numbers, images in _batches(classifier, paths, batch, on_bad):
            values = reader(classifier.preprocess(images.to(classifier.device)))
            scores, places = _strongest(parsed, values, anywhere)
            for number, score, place in zip(numbers, scores, places, strict=True):
                heapq.heappush(best, (score, -number, place))
                if len(best) > count:
                    heapq.heappop(best)
            done = numbers[-1] + 1
            if progress is not None:
                progress(done, len(paths))
    if not best:
        raise ImageError(f"none of the {len(paths)} image files under {folder} can be read")
    found = sorted(best, reverse=True)
    boxes: dict[tuple[int, int] | None, Box] = {}
    result = []
    for score, negative, place in found:
        if place not in boxes:
            boxes[place] = receptive_field(classifier, parsed if place is None else parsed.with_position(place))
        path = paths[-negative]
        result.append(Exemplar(path, score, as_seen(classifier, read_image(path)), boxes[place]))
    return result


def as_seen(classifier: Classifier, image: Tensor) -> Tensor:
    """A photograph `[3, H, W]` -> its centre, scaled to the classifier's input, as classifiers are evaluated."""
    height, width = classifier.input_size
    rows, columns = int(image.shape[-2]), int(image.shape[-1])
    factor = min(rows / height, columns / width)
    # First the centre, then its size: scaled whole, a picture of 20,000 x 1 pixels would not fit in memory. This is
    # torchvision's crop, not `util.resample.centre_crop`: for odd margins they differ by a pixel.
    centre: Tensor = center_crop(image, [max(1, round(factor * height)), max(1, round(factor * width))])
    return resize(centre, [height, width], antialias=True).clamp(0, 1)


def _batches(
    classifier: Classifier, paths: list[Path], size: int, on_bad: Callable[[str], None] | None
) -> Iterator[tuple[list[int], Tensor]]:
    numbers: list[int] = []
    images: list[Tensor] = []
    for number, path in enumerate(paths):
        try:
            images.append(as_seen(classifier, read_image(path)))
            numbers.append(number)
        except ImageError as error:
            if on_bad is None:
                raise
            on_bad(str(error))
        if len(images) == size:
            yield numbers, torch.stack(images)
            numbers, images = [], []
    if images:
        yield numbers, torch.stack(images)


def _strongest(
    target: Target, activations: dict[str, Tensor], anywhere: bool
) -> tuple[list[float], list[tuple[int, int] | None]]:
    if not anywhere or not isinstance(target.position, tuple):
        scores = target.read(activations).tolist()
        return scores, [target.position if isinstance(target.position, tuple) else None] * len(scores)
    channel = target.everywhere(activations).float()
    top = channel.flatten(1).max(1)
    width = channel.shape[-1]
    return top.values.tolist(), [divmod(index, width) for index in top.indices.tolist()]
