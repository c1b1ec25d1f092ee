"""Types and helpers that edits of codes and of gradients share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gen_prior.errors import OptionError
from gen_prior.generators.base import CodePrior, Generator
from gen_prior.util.devices import as_like
from gen_prior.util.random import Streams


@dataclass(frozen=True)
class Context:
    """The state of the current step that an edit may read."""

    step: int
    steps: int
    rate: float
    gradient: Tensor
    """Gradient of the loss with respect to the code, `[B, *code_shape]`, before gradient edits; updates subtract it."""
    code: Tensor
    """`[B, *code_shape]`, before the update."""
    image: Tensor
    """The image of that code, `[B, 3, H, W]`, RGB in [0, 1]."""
    generator: Generator
    streams: Streams

    @property
    def prior(self) -> CodePrior:
        """The generator's prior over codes."""
        return self.generator.prior


Edit = Callable[[Tensor, Context], Tensor]
"""(code or gradient `[B, *code_shape]`, context) -> a new one of the same shape."""


def denoiser_of(name: str) -> Callable[[Context, Tensor], Tensor]:
    """(context, code) -> denoised code `[B, *code_shape]`."""
    if name not in ("auto", "encoder", "gaussian"):
        raise OptionError(f"denoiser must be auto, encoder or gaussian, got {name!r}")

    def denoised(context: Context, code: Tensor) -> Tensor:
        if name == "encoder" or (name == "auto" and context.generator.can_encode):
            return context.generator.encode(context.image).to(code.dtype)
        return prior_mean(context, code).expand_as(code)

    return denoised


def need_image(name: str, context: Context) -> None:
    """Raise `OptionError` unless the code is the image itself."""
    generator = context.generator
    if generator.domain != "image" or context.code.ndim != 4 or context.code.shape[2:] != context.image.shape[2:]:
        raise OptionError(
            f"{name!r} edits images, but the code of {generator.name} is not its image", fix="use the generator pixel"
        )


def prior_mean(context: Context, code: Tensor) -> Tensor:
    """Mean of the prior over codes, on the device and in the type of `code`."""
    return as_like(context.prior.mean, code)


def blurred(images: Tensor, std: float) -> Tensor:
    """Gaussian blur of `[B, 3, H, W]`, std in pixels, mirrored at the edge, in torchvision's arithmetic.

    The transform `blur` uses `util.resample.gaussian_blur`, which differs in the last digits. Both are kept, because
    published presets replay bit for bit only with their own blur.
    """
    from torchvision.transforms.functional import gaussian_blur  # slow to import

    reach = max(1, min(math.ceil(3 * std), min(images.shape[-2:]) - 1))
    return gaussian_blur(images, [2 * reach + 1] * 2, [std] * 2)
