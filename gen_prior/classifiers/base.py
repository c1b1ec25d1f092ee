"""A classifier: RGB images in [0, 1] of any size -> logits. It owns its resize and its normalisation."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gen_prior.classifiers.folding import fold_batch_norm
from gen_prior.classifiers.hooks import LOGITS, Activations, LayerHooks, as_tensor, layer_shapes, record_layers
from gen_prior.classifiers.labels import Labels
from gen_prior.errors import OptionError, TargetError, UnknownNameError
from gen_prior.hub.provenance import Provenance
from gen_prior.util.deprecation import deprecated_alias
from gen_prior.util.resample import resized

INTERPOLATIONS = ("bilinear", "bicubic")
LUMA = (0.299, 0.587, 0.114)


class Classifier:
    """Wraps any network that maps normalised images `[B, C, H, W]` to logits `[B, K]`.

    Args:
        module: the network. It is frozen, put in evaluation mode, and its batch norms are folded in place.
        mean, std: per input channel, of pixels in [0, 1]. Their number is the number of input channels:
            one channel takes the luma of the image; more than three repeat RGB.
        input_size: side (or height, width) of the images the network takes.
        labels: class names in order, a `Labels`, or None for classes known by number only.
        name: how results name this classifier.
        interpolation: of the resize, "bilinear" or "bicubic".
        provenance: source, hashes and licence, where known.
        fold: fold batch norms, see `gen_prior.classifiers.folding`.

    Raises:
        OptionError: mean and std differ in length, or the size makes no sense; on first use of a class or
            layer, where the labels do not match the logits in number.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        input_size: int | tuple[int, int] = 224,
        labels: Sequence[str] | Labels | None = None,
        name: str = "custom",
        interpolation: str = "bilinear",
        provenance: Provenance | None = None,
        fold: bool = True,
    ) -> None:
        if len(mean) != len(std) or not mean:
            raise OptionError(f"mean and std need one number per input channel, got {len(mean)} and {len(std)}")
        if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
            raise OptionError(f"mean must be finite and std positive, got {tuple(mean)} and {tuple(std)}")
        size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
        if len(size) != 2 or min(size) < 1:
            raise OptionError(f"input_size must be a side or (height, width) in pixels, got {input_size!r}")
        if interpolation not in INTERPOLATIONS:
            raise OptionError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}")
        self.name = name
        self.network = fold_batch_norm(module.eval()) if fold else module.eval()
        self.network.requires_grad_(False)
        self.input_size: tuple[int, int] = (int(size[0]), int(size[1]))
        self.interpolation = interpolation
        self.labels = labels if isinstance(labels, Labels) or labels is None else Labels.plain(labels)
        self.provenance = provenance if provenance is not None else Provenance()
        self.device = next((p.device for p in module.parameters()), torch.device("cpu"))
        self.mean = torch.tensor(mean, device=self.device).view(-1, 1, 1)
        self.std = torch.tensor(std, device=self.device).view(-1, 1, 1)
        self._shapes: dict[str, tuple[int, ...]] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """RGB images `[B, 3, H, W]` in [0, 1], any H and W -> logits `[B, K]`."""
        return as_tensor(self.network(self.preprocess(images)))

    def resize(self, images: Tensor) -> Tensor:
        """Images of any size -> `[B, 3, *input_size]`, in [0, 1]; those of that size pass untouched."""
        if tuple(images.shape[-2:]) == self.input_size:
            return images
        shrinking = images.shape[-1] > self.input_size[1] or images.shape[-2] > self.input_size[0]
        fitted = resized(images, self.input_size, self.interpolation, shrinking)
        # Bicubic overshoots at edges. The gradient passes as if unclamped, or saturated areas would be stuck.
        return fitted + (fitted.detach().clamp(0, 1) - fitted.detach())

    def normalise(self, images: Tensor) -> Tensor:
        """RGB `[B, 3, H, W]` in [0, 1] -> the network's own channels and range, without resizing."""
        channels = len(self.mean)
        if channels == 1:
            images = (images * images.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
        elif channels != 3:
            images = images[:, [index % 3 for index in range(channels)]]
        return (images - self.mean) / self.std

    def preprocess(self, images: Tensor) -> Tensor:
        """`resize`, then `normalise`."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise OptionError(f"images must be RGB, [B, 3, H, W], got {list(images.shape)}")
        return self.normalise(self.resize(images))

    @contextmanager
    def record_layers(self, layers: Iterable[str], *, stop_early: bool = True) -> Iterator[LayerHooks]:
        """A hooks of `layers` that takes normalised inputs; see `gen_prior.classifiers.hooks.record_layers`."""
        with record_layers(self.network, layers, stop_early=stop_early) as hooks:
            yield hooks

    reading = deprecated_alias("Classifier.reading", "Classifier.record_layers", record_layers)

    def activations(self, images: Tensor, layers: Iterable[str]) -> Activations:
        """RGB images in [0, 1] -> `{layer: activation}`; "logits" is the output."""
        with self.record_layers(layers) as hooks:
            return hooks(self.preprocess(images))

    def layers(self) -> dict[str, tuple[int, ...]]:
        """`{layer: output shape without the batch}` of every addressable layer, "logits" last."""
        if self._shapes is None:
            blank = torch.full((2, 3, *self.input_size), 0.5, device=self.device)  # two tell a batch from other axes
            shapes = layer_shapes(self.network, self.preprocess(blank))
            if not shapes[LOGITS]:
                raise OptionError(f"{self.name} gives one number per image, not logits [B, K]")
            classes = shapes[LOGITS][0]
            if self.labels is not None and len(self.labels) != classes:
                raise OptionError(f"{self.name} has {classes} classes, but {len(self.labels)} labels were given")
            self._shapes = shapes
        return self._shapes

    def layer_shape(self, layer: str) -> tuple[int, ...]:
        """Output shape of `layer` without the batch.

        Raises `UnknownNameError` with near matches, `TargetError` for a layer that cannot be addressed.
        """
        shapes = self.layers()
        if layer and layer not in shapes and layer in dict(self.network.named_modules(remove_duplicate=False)):
            raise TargetError(
                f"layer {layer!r} of {self.name} does not run, or does not put out one tensor row per image",
                fix=f"list the layers that can be read: gen-prior layers {self.name}",
            )
        if layer not in shapes:
            raise UnknownNameError(
                f"layer of {self.name}", layer, shapes, fix=f"list them: gen-prior layers {self.name}"
            )
        return shapes[layer]

    def class_index(self, name: str | int) -> int:
        """The class called `name`: a label, a synonym, a WordNet id or a number. Raises `GenPriorError`s."""
        classes = self.layer_shape(LOGITS)[0]
        text = str(name).strip()
        if re.fullmatch(r"[+-]?\d+", text):
            if not 0 <= int(text) < classes:
                raise TargetError(f"class {text} is out of range: {self.name} has classes 0 to {classes - 1}")
            return int(text)
        if self.labels is None:
            raise TargetError(f"{self.name} has no class names, only classes 0 to {classes - 1}; got {text!r}")
        return self.labels.index(text)

    def class_name(self, index: int) -> str:
        """Name of class `index`, or its number where there are no labels."""
        return self.labels[index] if self.labels is not None else str(index)

    def class_key(self, index: int) -> str | None:
        """WordNet id or name of class `index`, which says the same everywhere; None where there are no labels."""
        return self.labels.key(index) if self.labels is not None else None

    def to(self, device: torch.device | str) -> Classifier:
        """Moves the network in place (channels_last); returns itself."""
        self.device = torch.device(device)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean, self.std = self.mean.to(self.device), self.std.to(self.device)
        return self

    def describe(self) -> dict[str, Any]:
        """Name and provenance, as they go into results."""
        return {
            "name": self.name,
            "input_size": list(self.input_size),
            "source": self.provenance.source,
            "revision": self.provenance.revision,
            "sha256": dict(self.provenance.sha256),
            "licence": self.provenance.licence,
        }
