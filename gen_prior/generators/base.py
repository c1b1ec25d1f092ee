"""The one interface of every generator: code -> RGB image in [0, 1].

`Generator` is final. A family is a function that returns one, built from a network or any callable; what is special
about a family (its initial codes, code prior, recipe, encoder) is an argument of the constructor, never a subclass.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError
from gen_prior.generators.code_prior import CodePrior
from gen_prior.generators.shared.own_network import check_values, explain_types
from gen_prior.hub.provenance import Provenance
from gen_prior.recipe import Recipe

Decode = Callable[[Tensor], Tensor]
Start = Callable[[torch.Generator], Tensor]
ClassInit = Callable[[str, Tensor, int], Tensor | None]
Domain = Literal["image", "code"]
CHANNELS = {"RGB": (0, 1, 2), "BGR": (2, 1, 0), "L": (0, 0, 0)}


class Generator:
    """Codes `[B, *code_shape]` -> images `[B, 3, H, W]`, RGB, in [0, 1], differentiable with respect to the code.

    Args:
        module: network or callable that maps codes to images `[B, C, H, W]` in `output_range` with `channels`. The
            parameters of a network are frozen, and it is put in evaluation mode.
        code_shape: shape of one code.
        output_range: the module's values of black and white; values beyond are clamped.
        channels: order of the module's output channels: "RGB", "BGR" or "L" (one grey channel).
        code_mean, code_std, code_min, code_max: the prior of codes, numbers or tensors that broadcast to `code_shape`.
        name: name of this generator in results.
        recipe: default optimisation settings; `Recipe()` if None.
        unit_recipe: default optimisation settings for hidden units; `recipe` if None.
        start: function of a `torch.Generator` that draws one initial code; mean + std * N(0, 1), projected, if None.
        class_init: (class_key, noise, seed) -> code or None: an initial code for the class with that key (WordNet id,
            else name) from standard normal noise `[*code_shape]` of `seed`; None for a class that it does not know.
        unit_init: noise -> code: an initial code for hidden units; the same as for unknown classes if None.
        encode: function from images `[B, 3, H, W]` in [0, 1] to codes, if the family has an encoder.
        redraw: a better, slower module of the same codes, images and `output_range`: codes are optimised through
            `module`, and the images of results are drawn with this one (`final_images`).
        provenance: source, hashes, licence and paper of the weights.
        domain: "image" if the code parametrises the image directly (pixels, Fourier coefficients), "code" if it is
            the latent code of a learnt network.
        fit: (height, width) of a classifier's input -> the generator whose images suit it, called by `fitted_to`;
            None if the images do not depend on the classifier. In the domain "image" it is called as (size, channels).
        options: options with which `load_generator(name, **options)` makes the same generator again.
        notes: other facts for results.
        aim: deprecated name of `class_init`.

    Raises:
        OptionError: a shape that is not of positive integers, an invalid range or channels, or a prior that does
            not broadcast to the code. Also a network whose weights have no values.
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
        unit_recipe: Recipe | None = None,
        start: Start | None = None,
        class_init: ClassInit | None = None,
        unit_init: Callable[[Tensor], Tensor] | None = None,
        encode: Callable[[Tensor], Tensor] | None = None,
        redraw: nn.Module | Decode | None = None,
        provenance: Provenance | None = None,
        domain: Domain = "code",
        fit: Callable[..., Generator] | None = None,
        options: Mapping[str, Any] | None = None,
        notes: Mapping[str, str] | None = None,
        aim: ClassInit | None = None,
    ) -> None:
        if aim is not None:
            warnings.warn("Generator(aim=...) is called class_init since 0.2", DeprecationWarning, stacklevel=2)
        self.code_shape = _check_layout(code_shape, channels, output_range)
        self.prior = CodePrior(code_mean, code_std, code_min, code_max)
        self.prior.check(self.code_shape)
        self.module, self.output_range, self.channels, self.name = module, output_range, channels, name
        self.recipe, self.provenance = recipe or Recipe(), provenance or Provenance()
        self.unit_recipe = unit_recipe or self.recipe
        self.domain: Domain = domain
        self.options, self.notes = dict(options or {}), dict(notes or {})
        self.device = torch.device("cpu")
        self._start, self._class_init, self._unit_init = start, class_init or aim, unit_init
        self._encode, self._fit, self._redraw = encode, fit, redraw
        for network in self.networks:
            check_values(network)
            network.eval()  # a user's own may return None
            network.requires_grad_(False)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.code_shape))
        return f"<Generator {self.name}: codes of {shape}, on {self.device}>"

    def __call__(self, codes: Tensor) -> Tensor:
        """Codes `[B, *code_shape]` -> images `[B, 3, H, W]`, RGB, in [0, 1].

        Raises `OptionError` for codes of another shape, and for a module whose output is not such images.
        """
        return self._images(self.module, codes)

    def final_images(self, codes: Tensor) -> Tensor:
        """As a call, but through the better, slower module, where there is one."""
        return self._images(self._redraw or self.module, codes)

    def _images(self, module: nn.Module | Decode, codes: Tensor) -> Tensor:
        if tuple(codes.shape[1:]) != self.code_shape:
            raise OptionError(
                f"{self.name} takes codes of shape [B, {', '.join(map(str, self.code_shape))}], got {list(codes.shape)}"
            )
        low, high = self.output_range
        try:
            images = module(codes)
        except RuntimeError as error:
            if (explained := explain_types(self.networks, error)) is None:
                raise
            raise explained from error
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
        clamped: Tensor = _StraightThroughClamp.apply(images)
        return clamped

    def initial_code(
        self, seed: int, wanted: str | Mapping[str, float] | None = None, *, hidden_unit: bool = False
    ) -> Tensor:
        """Initial code of `seed`, `[*code_shape]`, float32 on the CPU; the same on every device and in every batch.

        `wanted`: key of the class to be maximised (`Classifier.class_key`), or {key: positive weight} of several. A
        generator that knows the class starts nearer to it, for several at the weighted mean of their starts, which is
        scaled to their mean distance from the prior's mean, because a mean of codes is shorter than codes are. For
        classes it does not know, the code depends on the seed alone. `hidden_unit`: True for the initial code of a
        hidden unit, which some generators draw in another way.
        """
        if isinstance(wanted, Mapping) and len(wanted) > 1:
            return self._mean_start(seed, wanted)
        wanted = next(iter(wanted), None) if isinstance(wanted, Mapping) else wanted
        rng = torch.Generator().manual_seed(seed)
        if self._start is not None:
            return self._start(rng).reshape(self.code_shape).float()
        noise = torch.randn(self.code_shape, generator=rng)
        prior = self.prior.to("cpu")
        code = None
        if hidden_unit and self._unit_init is not None:
            code = self._unit_init(noise)
        elif wanted is not None and self._class_init is not None:
            code = self._class_init(wanted, noise, seed)
        return prior.project((prior.mean + prior.std * noise if code is None else code)[None])[0].float()

    def _mean_start(self, seed: int, weights: Mapping[str, float]) -> Tensor:
        """The mean of several classes' initial codes: as `initial_code` says."""
        prior = self.prior.to("cpu")
        std = torch.as_tensor(prior.std, dtype=torch.float32)
        scale = torch.where(std > 0, std, 1.0)
        away = torch.stack([(self.initial_code(seed, key) - prior.mean) / scale for key in weights]).flatten(1)
        shares = torch.tensor(list(weights.values()))
        shares = shares / shares.sum()
        mean, length = shares @ away, shares @ away.norm(dim=1)
        code = prior.mean + scale * (mean * length / mean.norm().clamp_min(1e-12)).view(self.code_shape)
        return prior.project(code[None])[0]

    @property
    def can_encode(self) -> bool:
        """Return whether `encode` works."""
        return self._encode is not None

    def encode(self, images: Tensor) -> Tensor:
        """Images `[B, 3, H, W]`, RGB, in [0, 1] -> codes `[B, *code_shape]`. Raises `OptionError` if it cannot."""
        if self._encode is None:
            raise OptionError(
                f"{self.name} has no encoder", fix="fit a code instead: gen_prior.fit_code(generator, image)"
            )
        with torch.no_grad():
            return self._encode(images.to(self.device))

    def image_shape(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        with torch.no_grad():
            height, width = self(self.initial_code(0)[None].to(self.device)).shape[-2:]
        return int(height), int(width)

    def to(self, device: torch.device | str) -> Generator:
        """Move the network and the prior to `device`, in place, and return this generator."""
        self.device = torch.device(device)
        for network in self.networks:
            network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.prior = self.prior.to(self.device)
        return self

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks that draw: the module, and the better one for results if there is one."""
        return tuple(network for network in (self.module, self._redraw) if isinstance(network, nn.Module))

    def describe(self) -> dict[str, Any]:
        """Name, options, notes, code shape and provenance, as results record them."""
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

    def with_module(self, module: nn.Module | Decode) -> Generator:
        """A copy that makes all images through `module`, and no longer adapts to a classifier's input size."""
        twin = copy.copy(self)
        twin.module, twin._fit, twin._redraw = module, None, None
        return twin

    def fitted_to(self, input_size: tuple[int, int], channels: int = 3) -> Generator:
        """A copy whose images suit a classifier that takes images of `input_size` (height, width) and so many channels.

        Most families make the same images for every classifier and return this generator; one that crops keeps the
        part that such a classifier would see, and image parameterisations take its size, and are grey for one channel.
        """
        if self._fit is None:
            return self
        fitted = self._fit(input_size, channels) if self.domain == "image" else self._fit(input_size)
        twin = self.with_module(fitted.to(self.device).module)
        twin.code_shape, twin.channels, twin.prior = fitted.code_shape, fitted.channels, fitted.prior
        twin._encode, twin._start, twin.options = fitted._encode, fitted._start, fitted.options
        return twin


class _StraightThroughClamp(torch.autograd.Function):
    """Clamp to [0, 1] that passes the gradient of a pixel beyond the range if descent leads it back inside."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        clamped = images.clamp(0, 1)
        ctx.inside = images.device.type == "cpu" and torch.equal(clamped, images)  # a GPU's host would wait for it
        if not ctx.inside:
            ctx.save_for_backward(images)
        return clamped

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        if ctx.inside:
            return gradient
        (images,) = ctx.saved_tensors
        # The loop descends: a step against the gradient must not lead further out.
        outward = ((images > 1) & (gradient < 0)) | ((images < 0) & (gradient > 0))
        return gradient.masked_fill(outward, 0.0)


def _check_layout(code_shape: Sequence[int], channels: str, output_range: tuple[float, float]) -> tuple[int, ...]:
    """`code_shape` as a tuple of integers. Raises `OptionError` as `Generator` does."""
    shape = tuple(int(size) for size in code_shape)
    if not shape or min(shape) < 1:
        raise OptionError(f"code_shape must hold positive integers, got {tuple(code_shape)}")
    if channels not in CHANNELS:
        raise OptionError(f"channels must be one of {', '.join(CHANNELS)}, got {channels!r}")
    if not output_range[1] > output_range[0]:
        raise OptionError(f"output_range must be (black, white) with black < white, got {output_range}")
    return shape


__all__ = ["CodePrior", "Generator", "Provenance"]
