"""A folder of photographs, as a classifier sees them: evaluation's crop, in batches."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import ImageError
from gen_prior.util.files import is_folder
from gen_prior.util.image_io import image_files, read_image

CROP = 224 / 256
"""Share of the short side that the crop keeps, as ImageNet's evaluation does: resized to 256, cropped to 224."""


def image_paths(folder: str | Path) -> list[Path]:
    """All image files under `folder`, sorted. Raises `ImageError` if there is none."""
    folder = Path(folder)
    if not is_folder(folder):
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


def listing_sha256(folder: Path, paths: Sequence[Path]) -> str:
    """SHA-256 of the sorted names (relative to `folder`) and sizes in bytes of image files, one a line."""
    lines = [f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n" for path in paths]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def as_seen(classifier: Classifier, image: Tensor, crop: float = CROP) -> Tensor:
    """The centre crop of a photograph `[3, H, W]` at the classifier's input size, as in evaluation.

    It keeps the share `crop` of the short side, or more where that has fewer pixels than the input.
    """
    height, width = classifier.input_size
    rows, columns = int(image.shape[-2]), int(image.shape[-1])
    whole = min(rows / height, columns / width)
    factor = max(crop * whole, min(whole, 1.0))
    # Crop first: an image of 20,000 x 1 pixels, resized whole, would not fit in memory. This is torchvision's crop;
    # `util.resample.centre_crop` differs by a pixel for odd margins.
    from torchvision.transforms.v2.functional import center_crop, resize  # slow to import

    centre: Tensor = center_crop(image, [max(1, round(factor * height)), max(1, round(factor * width))])
    return resize(centre, [height, width], antialias=True).clamp(0, 1)


def batches(
    classifier: Classifier, paths: Sequence[Path], size: int, on_bad: Callable[[str], None] | None, first: int = 0
) -> Iterator[tuple[list[int], Tensor]]:
    """Batches of readable images `[B, 3, H, W]` with their indices in `paths`, from index `first` on.

    `on_bad` is called with a message for each file that cannot be read; if None, it raises `ImageError`.
    """
    numbers: list[int] = []
    images: list[Tensor] = []
    for number in range(first, len(paths)):
        try:
            images.append(as_seen(classifier, read_image(paths[number])))
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
