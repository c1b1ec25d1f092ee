"""A generator is shown to work before its files are kept: it draws one image, and that is one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gen_prior.errors import WeightsError
from gen_prior.generators.base import Generator


def proven(
    generator: Generator,
    file: str,
    *,
    code: Tensor | None = None,
    size: tuple[int, int] | None = None,
    draw: Callable[[Tensor], Tensor] | None = None,
) -> Generator:
    """`generator`, once it has drawn a finite image of `size` (any, where None) from `code` (a start, where None).

    `draw`: what draws in place of the generator's module, where a part of the image is to do.
    Raises `WeightsError` that names `file`; what its network raises is left to `Files.loading`.
    """
    with torch.no_grad():
        image = (draw or generator.module)((generator.initial_code(0) if code is None else code)[None])
    channels = 1 if generator.channels == "L" else 3
    if image.ndim != 4 or image.shape[:2] != (1, channels) or (size is not None and tuple(image.shape[2:]) != size):
        wanted = " x ".join(map(str, size)) if size is not None else "any size"
        raise WeightsError(
            f"{file} draws something of shape {list(image.shape[1:])}, not an image of {channels} channels and {wanted}"
        )
    if not torch.isfinite(image).all():
        raise WeightsError(f"{file} draws images that are not finite")
    return generator


__all__ = ["proven"]
