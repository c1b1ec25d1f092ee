"""Natural images of a folder to which a unit responds most, to show beside images synthesised for it."""

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
from gen_prior.objectives import Activations
from gen_prior.objectives.receptive_field import Box, receptive_field
from gen_prior.objectives.targets import Target, parse_target
from gen_prior.util.image_io import image_files, read_image
from gen_prior.util.progress import Progress, ProgressCallback, progress_callback

Position = tuple[int, int]


@dataclass(frozen=True)
class Exemplar:
    """A natural image and a unit's response to it.

    Attributes:
        path: the image file.
        activation: the unit's activation.
        image: the centre crop that the classifier was given, `[3, H, W]`, RGB, in [0, 1].
        box: the unit's receptive field in `image`.
    """

    path: Path
    activation: float
    image: Tensor
    box: Box

    @property
    def seen(self) -> Tensor:
        """The image cropped to the unit's receptive field."""
        return self.box.crop(self.image)


def image_paths(folder: str | Path) -> list[Path]:
    """All image files under `folder`, sorted. Raises `ImageError` if there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"no such folder of images: {folder}")
    return image_files([folder])


def check_folder(folder: str | Path) -> None:
    """Raise `ImageError` unless at least one image under `folder` can be read."""
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
    progress: ProgressCallback | None = None,
) -> list[Exemplar]:
    """Find the `count` images under `folder` with the highest activation of `target`; one pass, constant memory.

    Args:
        target: a class or unit. For a channel at a position, `anywhere` takes its maximum over all positions.
        batch: images at a time.
        on_bad: called with a message for each file that cannot be read, which is left out; if None, such a file
            raises `ImageError`.
        progress: called after every batch with a `Progress` in images.

    Returns:
        The exemplars, highest activation first.

    Raises:
        ImageError: no images, one that cannot be read, or, with `on_bad`, none that can.
        TargetError: no such target. OptionError: `count` is below 1.
    """
    report = progress_callback(progress, lambda p: (p.done, p.total))
    if count < 1:
        raise OptionError(f"count must be at least 1, got {count}")
    parsed = parse_target(target, classifier)
    paths = image_paths(folder)
    best: list[tuple[float, int, Position | None]] = []
    with classifier.record_layers([parsed.layer]) as reader, torch.no_grad():
        for numbers, images in _batches(classifier, paths, batch, on_bad):
            values = reader(classifier.preprocess(images.to(classifier.device)))
            for number, (score, position) in zip(numbers, _strongest(parsed, values, anywhere), strict=True):
                heapq.heappush(best, (score, -number, position))
                if len(best) > count:
                    heapq.heappop(best)
            if report is not None:
                report(Progress(numbers[-1] + 1, len(paths), "looking at images", torch.tensor([max(best)[0]])))
    if not best:
        raise ImageError(f"none of the {len(paths)} image files under {folder} can be read")
    boxes: dict[Position | None, Box] = {}
    result = []
    for score, negative, position in sorted(best, reverse=True):
        if position not in boxes:
            boxes[position] = receptive_field(
                classifier, parsed if position is None else parsed.with_position(position)
            )
        path = paths[-negative]
        result.append(Exemplar(path, score, as_seen(classifier, read_image(path)), boxes[position]))
    return result


def as_seen(classifier: Classifier, image: Tensor) -> Tensor:
    """The centre crop of a photograph `[3, H, W]` at the classifier's input size, as in evaluation."""
    height, width = classifier.input_size
    rows, columns = int(image.shape[-2]), int(image.shape[-1])
    factor = min(rows / height, columns / width)
    # Crop first: an image of 20,000 x 1 pixels, resized whole, would not fit in memory. This is torchvision's crop;
    # `util.resample.centre_crop` differs by a pixel for odd margins.
    centre: Tensor = center_crop(image, [max(1, round(factor * height)), max(1, round(factor * width))])
    return resize(centre, [height, width], antialias=True).clamp(0, 1)


def _batches(
    classifier: Classifier, paths: list[Path], size: int, on_bad: Callable[[str], None] | None
) -> Iterator[tuple[list[int], Tensor]]:
    """Batches of readable images `[B, 3, H, W]` with their indices in `paths`."""
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


def _strongest(target: Target, activations: Activations, anywhere: bool) -> list[tuple[float, Position | None]]:
    """Each image's activation and where it is taken (None if the target has no position)."""
    if not anywhere or not isinstance(target.position, tuple):
        position = target.position if isinstance(target.position, tuple) else None
        return [(score, position) for score in target.read(activations).tolist()]
    channel = target.everywhere(activations).float()
    top = channel.flatten(1).max(1)
    positions = [divmod(index, channel.shape[-1]) for index in top.indices.tolist()]
    return list(zip(top.values.tolist(), positions, strict=True))
