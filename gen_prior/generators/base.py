"""The one interface of every generator: code -> RGB image in [0, 1].

`Generator` is final. A family is a function that returns one, built from a network or any callable; what
is special about a family (its start, its prior, its recipe, its encoder) is passed in, never subclassed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError
from gen_prior.hub.provenance import Provenance
from gen_prior.recipe import Recipe
from gen_prior.util.devices import as_like

Decode = Callable[[Tensor], Tensor]
Start = Callable[[torch.Generator], Tensor]
ClassInit = Callable[[str, Tensor, int], Tensor | None]
Domain = Literal["image", "code"]
CHANNELS = {"RGB": (0, 1, 2), "BGR": (2, 1, 0), "L": (0, 0, 0)}


@dataclass(frozen=True)
class CodePrior:
    """What is known of natural codes: mean and deviation per unit, and hard bounds where there are any.

    Each field broadcasts against the code's shape; None means unbounded. A unit of deviation 0 never varied:
    it carries no penalty.
    """

    mean: Tensor | float = 0.0
    std: Tensor | float = 1.0
    minimum: Tensor | float | None = None
    maximum: Tensor | float | None = None

    def project(self, code: Tensor, sigmas: float | None = None) -> Tensor:
        """Nearest code `[B, *shape]` inside the bounds and, where given, within `sigmas` deviations of the mean."""
        for bound, limit in ((self.minimum, torch.maximum), (self.maximum, torch.minimum)):
            if bound is not None:
                code = limit(code, as_like(bound, code))
        if sigmas is not None:
            mean, reach = as_like(self.mean, code), sigmas * as_like(self.std, code)
            code = torch.minimum(torch.maximum(code, mean - reach), mean + reach)
        return code

    def penalty(self, code: Tensor) -> Tensor:
        """Half the mean squared number of deviations from the mean, `[B]`: the Gaussian's negative log density."""
        std = as_like(self.std, code)
        z = (code - as_like(self.mean, code)) / torch.where(std > 0, std, 1.0)
        return 0.5 * torch.where(std > 0, z, 0.0).square().flatten(1).mean(1)

    def to(self, device: torch.device | str) -> CodePrior:
        """The same prior with its tensors on `device`."""
        moved = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in (
                ("mean", self.mean),
                ("std", self.std),
                ("minimum", self.minimum),
                ("maximum", self.maximum),
            )
        }
        return CodePrior(**moved)  # type: ignore[arg-type]


class Generator:
    """Codes `[B, *code_shape]` -> images `[B, 3, H, W]`, RGB, in [0, 1], differentiable in the code.

    Args:
        module: network or callable from codes to images in `output_range` with `channels`; its
            parameters are frozen and it is put in evaluation mode.
        code_shape: shape of one code.
        output_range: what the module's outputs mean black and white by; outputs beyond are clamped.
        channels: order of the module's output channels: "RGB", "BGR" or "L" (one grey channel).
        code_mean, code_std, code_min, code_max: the code's prior, floats or tensors that broadcast to the shape.
        name: how results name this generator.
        recipe: default optimisation settings; those of a Gaussian code where None.
        start: draws one initial code from a `torch.Generator`; mean + std * N(0, 1), projected, where None.
        class_init: from a class's key (its WordNet id or name), standard normal noise `[*code_shape]` and the seed that this
            came of, a code to begin with for that class; None for a class that it does not know.
        encode: images `[B, 3, H, W]` in [0, 1] -> codes; where the family has an encoder.
        fit: (height, width) of a classifier's input -> the generator that draws for it; where the family has such.
        options: what `load_generator(name, **options)` has to be given to make the same generator again.
        notes: what else results should state of it.

    Raises:
        OptionError: the shape is not of positive integers, the range or channels make no sense, or the prior does
            not broadcast to the code.
    """

    def __init__(
        self,
        module: nn.Module | Decode,
        code_shape: Sequence[int],
        *,
        output_range: tuple[float, float] = (-1.0, 1.0),
        channels: str = "RGB",
        code_mean: Tensor | float = 0.0,
        code_std: Tensor | float = 1.0,
        code_min: Tensor | float | None = None,
        code_max: Tensor | float | None = None,
        name: str = "custom",
        recipe: Recipe | None = None,
        start: Start | None = None,
        class_init: ClassInit | None = None,
        encode: Callable[[Tensor], Tensor] | None = None,
        provenance: Provenance | None = None,
        domain: Domain = "code",
        fit: Callable[[tuple[int, int]], Generator] | None = None,
        options: Mapping[str, Any] | None = None,
        notes: Mapping[str, str] | None = None,
        aim: ClassInit | None = None,
    ) -> None:
        if aim is not None:
            warnings.warn("Generator(aim=...) is called class_init since 0.2", DeprecationWarning, stacklevel=2)
        shape = tuple(int(size) for size in code_shape)
        if not shape or min(shape) < 1:
            raise OptionError(f"code_shape must hold positive integers, got {tuple(code_shape)}")
        if channels not in CHANNELS:
            raise OptionError(f"channels must be one of {', '.join(CHANNELS)}, got {channels!r}")
        if not output_range[1] > output_range[0]:
            raise OptionError(f"output_range must be (black, white) with black < white, got {output_range}")
        for label, value in (("mean", code_mean), ("std", code_std), ("min", code_min), ("max", code_max)):
            if value is not None and not _fits(value, shape):
                raise OptionError(
                    f"code_{label} must be a number or broadcast to {list(shape)}, got {_shape_of(value)}"
                )
        if bool((torch.as_tensor(code_std) < 0).any()):
            raise OptionError("code_std must not be negative")
        self.name = name
        self.code_shape = shape
        self.output_range = output_range
        self.channels = channels
        self.prior = CodePrior(code_mean, code_std, code_min, code_max)
        self.recipe = recipe if recipe is not None else Recipe()
        self.provenance = provenance if provenance is not None else Provenance()
        self.domain: Domain = domain
        self.options = dict(options or {})
        self.notes = dict(notes or {})
        self.device = torch.device("cpu")
        self._start, self._class_init = start, class_init if class_init is not None else aim
        self._encode = encode
        self._fit = fit
        self.module = module
        if isinstance(module, nn.Module):
            module.eval().requires_grad_(False)

    def __call__(self, codes: Tensor) -> Tensor:
        """Codes `[B, *code_shape]` -> images `[B, 3, H, W]`, RGB, in [0, 1].

        Raises `OptionError` where the codes have another shape, or the network makes something else than images.
        """
        if tuple(codes.shape[1:]) != self.code_shape:
            raise OptionError(
                f"{self.name} takes codes of shape [B, {', '.join(map(str, self.code_shape))}], got {list(codes.shape)}"
            )
        low, high = self.output_range
        images = self.module(codes)
        expected = 1 if self.channels == "L" else 3
        if images.ndim != 4 or images.shape[:2] != (len(codes), expected):
            raise OptionError(
                f"{self.name} with channels={self.channels!r} must make images of shape "
                f"[{len(codes)}, {expected}, H, W], got {list(images.shape)}"
            )
        order = CHANNELS[self.channels]
        if order != (0, 1, 2):
            images = images[:, list(order)]
        if (low, high) != (0.0, 1.0):
            images = (images - low) / (high - low)
        return _clamp(images)

    def initial_code(self, seed: int, wanted: str | None = None) -> Tensor:
        """The code that seed `seed` starts from, `[*code_shape]`, the same on every device and in every batch.

        `wanted`: key of a class (`Classifier.class_key`); a generator that knows it begins nearer to it.
        """
        source = torch.Generator().manual_seed(seed)
        if self._start is not None:
            return self._start(source).reshape(self.code_shape).float()
        noise = torch.randn(self.code_shape, generator=source)
        prior = self.prior.to("cpu")
        if self._class_init is not None and wanted is not None:
            code = self._class_init(wanted, noise, seed)
            if code is not None:
                return prior.project(code[None])[0].float()
        return prior.project((prior.mean + prior.std * noise)[None])[0].float()

    @property
    def can_encode(self) -> bool:
        """Whether `encode` works."""
        return self._encode is not None

    def encode(self, images: Tensor) -> Tensor:
        """Images `[B, 3, H, W]`, RGB, in [0, 1] -> codes. Raises `OptionError` where there is no encoder."""
        if self._encode is None:
            raise OptionError(
                f"{self.name} has no encoder", fix="fit a code instead: gen_prior.fit_code(generator, image)"
            )
        with torch.no_grad():
            return self._encode(images.to(self.device))

    def image_shape(self) -> tuple[int, int]:
        """Height and width of the images."""
        with torch.no_grad():
            height, width = self(self.initial_code(0)[None].to(self.device)).shape[-2:]
        return int(height), int(width)

    def to(self, device: torch.device | str) -> Generator:
        """Moves the network and the prior in place; returns itself."""
        self.device = torch.device(device)
        if isinstance(self.module, nn.Module):
            self.module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.prior = self.prior.to(self.device)
        return self

    def describe(self) -> dict[str, Any]:
        """Name, options, notes and provenance, as they go into results."""
        provenance = self.provenance
        return {
            "name": self.name,
            "options": self.options,
            "notes": self.notes,
            "code_shape": list(self.code_shape),
            "code_numbers": math.prod(self.code_shape),
            "source": provenance.source,
            "revision": provenance.revision,
            "sha256": dict(provenance.sha256),
            "licence": provenance.licence,
            "paper": provenance.paper,
        }

    def with_recipe(self, recipe: Recipe) -> Generator:
        """The same generator with another default recipe (shares the network)."""
        return self._twin(recipe=recipe)

    def with_module(self, module: nn.Module | Decode) -> Generator:
        """The same generator that draws through `module`, and so for no classifier in particular."""
        return self._twin(module=module, _fit=None)

    def fitted_to(self, input_size: tuple[int, int]) -> Generator:
        """The same generator, drawing for a classifier that takes images of `input_size` (height, width).

        Most draw the same for all, and return themselves; one that crops keeps what such a classifier would see.
        """
        if self._fit is None:
            return self
        fitted = self._fit(input_size)
        return self._twin(module=fitted.module, _encode=fitted._encode, options=fitted.options, _fit=None)

    def _twin(self, **changes: Any) -> Generator:
        twin = object.__new__(Generator)
        twin.__dict__ = self.__dict__ | changes
        return twin


class _StraightThroughClamp(torch.autograd.Function):
    """Clamp to [0, 1] that lets a gradient pass where it leads back inside, so no pixel is ever stuck."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.save_for_backward(images)
        return images.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (images,) = ctx.saved_tensors
        # The loop descends: a step against the gradient must not lead further out.
        outward = ((images > 1) & (gradient < 0)) | ((images < 0) & (gradient > 0))
        return gradient.masked_fill(outward, 0.0)


def _fits(value: Tensor | float, shape: tuple[int, ...]) -> bool:
    try:
        return tuple(torch.broadcast_shapes(_shape_of(value), shape)) == shape
    except RuntimeError:
        return False


def _shape_of(value: Tensor | float) -> list[int]:
    return list(value.shape) if isinstance(value, Tensor) else []


def _clamp(images: Tensor) -> Tensor:
    clamped: Tensor = _StraightThroughClamp.apply(images)
    return clamped


__all__ = ["CodePrior", "Generator", "Provenance"]
