"""`Classifier`: RGB images `[B, 3, H, W]` in [0, 1] -> outputs of layers, with its own resize and normalisation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gen_prior.classifiers.arguments import check_interpolation, check_normalisation, checked_axes, checked_size
from gen_prior.classifiers.checkpointing import without_checkpointing
from gen_prior.classifiers.folding import fold_batch_norm
from gen_prior.classifiers.hooks import Activations, KnownRuns, LayerHooks, record_layers
from gen_prior.classifiers.labels import Labels, imagenet
from gen_prior.classifiers.layouts import Layout, probe
from gen_prior.classifiers.outputs import LOGITS, as_tensor, split_run
from gen_prior.classifiers.own_module import has_no_layers, prepared
from gen_prior.classifiers.text_tower import TextTower
from gen_prior.errors import OptionError, TargetError, UnknownNameError
from gen_prior.hub.provenance import IN_PYTHON, Provenance
from gen_prior.util.deprecation import deprecated_alias
from gen_prior.util.resample import resized

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in the grey image that one-channel networks get (ITU-R BT.601)."""


def luma(images: Tensor) -> Tensor:
    """Grey images `[B, 1, H, W]` of RGB `[B, 3, H, W]`."""
    return (images * images.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)


class Classifier:
    """Any network of normalised images `[B, C, H, W]`, and, for classes as targets, with logits `[B, K]`.

    Args:
        module: the network. A copy is used, in float32 and evaluation mode, frozen, with its batch norms folded;
            wrappers of `torch.compile` and `nn.DataParallel` are taken off, and gradient checkpointing does not apply.
        mean, std: normalisation of pixels in [0, 1], one value per input channel C. A network of one channel gets
            the luma of the image; more than three channels repeat RGB.
        input_size: side, or (height, width), in pixels, that images are resized to.
        labels: class names in order, `{number: name}`, a `Labels`, or None for classes known by number only.
        name: name of this classifier in results.
        interpolation: of the resize, "bilinear" or "bicubic".
        provenance: source, hashes and licence, where known.
        fold: True to fold batch norms, see `gen_prior.classifiers.folding`.
        has_classes: False for a network whose output is features, not logits: its units can be targets, classes not.
        text_tower: the text half of a CLIP-like model, for targets that are texts.
        in_place: True to change `module` itself instead of a copy, which saves memory.
        unit_axis: `{layer: axis}`, the axis of the output `[B, ...]` that holds the layer's units, 1 or -1 say, for
            layers where it cannot be found out; see `gen_prior.classifiers.layouts`.

    Raises:
        OptionError: mean and std differ in length or are out of range, or an argument of the wrong kind; a
            network without weights (on "meta"), on several devices, or that cannot be copied; at the first use of a
            class or layer, more or fewer labels than logits, or a network that does not take images of this size.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        input_size: int | tuple[int, int] = 224,
        labels: Sequence[str] | Mapping[int, str] | Labels | None = None,
        name: str = "custom",
        interpolation: str = "bilinear",
        provenance: Provenance | None = None,
        fold: bool = True,
        has_classes: bool = True,
        text_tower: TextTower | None = None,
        in_place: bool = False,
        unit_axis: Mapping[str, int] | None = None,
    ) -> None:
        check_normalisation(mean, std)
        check_interpolation(interpolation)
        self.input_size = checked_size(input_size)
        self.name = name
        self.network = prepared(module, in_place=in_place)
        if fold:
            fold_batch_norm(self.network)
        self.network.requires_grad_(False)
        self.interpolation = interpolation
        self.labels = labels if isinstance(labels, Labels) or labels is None else Labels.plain(labels)
        self.unit_axis = checked_axes(unit_axis)
        self.load_options: Mapping[str, Any] = {}
        """Options of `load_classifier` that it was loaded with, other than for code of the user's own."""
        self.provenance = provenance if provenance is not None else Provenance()
        self.device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        self.mean = torch.tensor(mean, device=self.device).view(-1, 1, 1)
        self.std = torch.tensor(std, device=self.device).view(-1, 1, 1)
        self.has_classes, self.text_tower = has_classes, text_tower
        self.one_image = False
        """True for a network that takes a batch of one image only, known after `layouts`."""
        self._layouts: dict[str, Layout] | None = None
        self._known_runs: KnownRuns = {}

    def __repr__(self) -> str:
        height, width = self.input_size
        classes = f"{len(self.labels)} classes, " if self.labels is not None else ""
        return f"<Classifier {self.name}: {classes}input {height} x {width}, on {self.device}>"

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits `[B, K]` of RGB images `[B, 3, H, W]` in [0, 1], of any H and W."""
        with without_checkpointing():
            return as_tensor(self.network(self.preprocess(images)))

    def resize(self, images: Tensor) -> Tensor:
        """Resize `[B, 3, H, W]` to `[B, 3, *input_size]` in [0, 1]; images of that size are returned as they are."""
        if tuple(images.shape[-2:]) == self.input_size:
            return images
        shrinking = images.shape[-1] > self.input_size[1] or images.shape[-2] > self.input_size[0]
        fitted = resized(images, self.input_size, self.interpolation, shrinking)
        # Bicubic overshoots at edges. The gradient passes as if unclamped, or saturated areas would be stuck.
        return fitted + (fitted.detach().clamp(0, 1) - fitted.detach())

    def normalise(self, images: Tensor) -> Tensor:
        """Map RGB `[B, 3, H, W]` in [0, 1] to the network's channels and range `[B, C, H, W]`, without a resize."""
        channels = len(self.mean)
        if channels == 1:
            images = luma(images)
        elif channels != 3:
            images = images[:, [index % 3 for index in range(channels)]]
        return (images - self.mean) / self.std

    def as_seen(self, images: Tensor) -> Tensor:
        """RGB images `[B, 3, H, W]` as the network sees them: for one of one channel, their luma in all three."""
        return luma(images).expand_as(images) if len(self.mean) == 1 else images

    def preprocess(self, images: Tensor) -> Tensor:
        """`resize`, then `normalise`. Raises `OptionError` for images that are not `[B, 3, H, W]`."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise OptionError(f"images must be RGB, [B, 3, H, W], got {list(images.shape)}")
        return self.normalise(self.resize(images))

    @contextmanager
    def record_layers(self, layers: Iterable[str], *, stop_early: bool = True) -> Iterator[LayerHooks]:
        """Hook `layers`: inside the block, `hooks(normalised)` gives `{layer: activation}`; see `classifiers.hooks`."""
        names = tuple(layers)
        layouts = self.layouts() if names else {}
        with record_layers(self.network, names, layouts, stop_early=stop_early, known_runs=self._known_runs) as hooks:
            yield hooks

    reading = deprecated_alias("Classifier.reading", "Classifier.record_layers", record_layers)

    def activations(self, images: Tensor, layers: Iterable[str]) -> Activations:
        """Return `{layer: [B, ...]}` of RGB images `[B, 3, H, W]` in [0, 1]; "logits" is the output.

        Raises `UnknownNameError` for an unknown layer, `OptionError` for one that does not run.
        """
        with self.record_layers(layers) as hooks:
            return hooks(self.preprocess(images))

    def layers(self) -> dict[str, tuple[int, ...]]:
        """Return `{layer: output shape without the batch}` of every layer that a target can name, "logits" last.

        A layer that runs several times is also listed by run: `relu#0`, `relu#1`; `relu` is the last. "logits" is
        missing where the network's output is no tensor with a row per image.
        """
        return {layer: layout.shape for layer, layout in self.layouts().items()}

    def main_layers(self) -> list[str]:
        """Return the names of `layers` without those of single runs (`relu#0`)."""
        return [layer for layer in self.layouts() if split_run(layer)[1] is None]

    def layouts(self) -> dict[str, Layout]:
        """Return `{layer: Layout}`, with the axis of its units, for the layers of `layers`.

        Raises `OptionError` for a network that does not take images of its input size, or other labels than logits.
        """
        if self._layouts is None:
            with without_checkpointing():
                layouts, images = probe(self.network, self._blank, self.input_size, self.unit_axis)
            self.one_image = images == 1
            for layer in self.unit_axis:
                if layer not in layouts:
                    raise UnknownNameError(f"layer of {self.name} in unit_axis", layer, layouts)
            classes = layouts[LOGITS].shape if LOGITS in layouts else ()
            if self.labels is not None and len(classes) == 1 and len(self.labels) != classes[0]:
                raise OptionError(f"{self.name} has {classes[0]} classes, but {len(self.labels)} labels were given")
            self._layouts = layouts
        return self._layouts

    def _blank(self, count: int, height: int, width: int) -> Tensor:
        """Normalised grey images `[count, C, height, width]`."""
        return self.normalise(torch.full((count, 3, height, width), 0.5, device=self.device))

    def layout(self, layer: str) -> Layout:
        """Return the layout of `layer`.

        Raises `UnknownNameError` with close matches, `TargetError` for a layer that does not run per image.
        """
        layouts = self.layouts()
        if layer in layouts:
            return layouts[layer]
        if layer == LOGITS:
            raise TargetError(
                f"{self.name} has no logits: its output is no tensor with one row per image",
                fix=f"name a unit of a layer, LAYER:UNIT; {self.how_to_list}",
            )
        if has_no_layers(self.network):
            raise TargetError(
                f"{self.name} was compiled by torch.jit or torch.export: its layers cannot be read, only its output",
                fix="make the classifier from the network as it was before",
            )
        name = split_run(layer)[0]
        if layer and name not in layouts and name in dict(self.network.named_modules(remove_duplicate=False)):
            raise TargetError(
                f"layer {layer!r} of {self.name} does not run, or its output has no row per image",
                fix=self.how_to_list,
            )
        raise UnknownNameError(f"layer of {self.name}", layer, layouts, fix=self.how_to_list)

    def layer_shape(self, layer: str) -> tuple[int, ...]:
        """Return the output shape of `layer` without the batch. Raises as `layout`."""
        return self.layout(layer).shape

    @property
    def how_to_list(self) -> str:
        """How to list the layers: a command, or a call where no name loads this classifier."""
        return "list the layers: " + (f"gen-prior layers {self.name}" if self._has_source else "classifier.layers()")

    def _how_to_search(self, name: str) -> str:
        """The command, or the call, that searches the names of the classes."""
        if not self._has_source:
            return f"classifier.labels.search({name!r})"
        same = self.labels is not None and self.labels.entries == imagenet().entries
        return f"gen-prior labels {name!r}" + ("" if same else f" --classifier {self.name}")

    @property
    def _has_source(self) -> bool:
        """False for a classifier made in Python, which commands cannot load by its name."""
        return self.provenance.source != IN_PYTHON

    @property
    def classes(self) -> int:
        """Number of logits. Raises `TargetError` for a network without logits."""
        return self.layout(LOGITS).units(LOGITS)

    def class_index(self, name: str | int) -> int:
        """Return the number of the class with the label, synonym, WordNet id or number `name`.

        Text that is a label means that label, even if it is a number. Raises `TargetError` for one out of range or
        ambiguous, `UnknownNameError` for an unknown one.
        """
        text = str(name).strip()
        if not self.has_classes:
            raise TargetError(
                f"{self.name} has no classes: its output is features; got {text!r}",
                fix=f"name a unit, LAYER:UNIT; {self.how_to_list}",
            )
        classes = self.classes
        if isinstance(name, str) and self.labels is not None and text in self.labels:
            return self.labels.index(text)
        if re.fullmatch(r"[+-]?\d{1,100}", text):
            if not 0 <= int(text) < classes:
                raise TargetError(f"class {text} is out of range: {self.name} has classes 0 to {classes - 1}")
            return int(text)
        if self.labels is None:
            raise TargetError(f"{self.name} has no class names, only classes 0 to {classes - 1}; got {text!r}")
        if not self.labels.knows(text):
            raise self.labels.unknown(text, self._how_to_search(text))
        return self.labels.index(text)

    def class_name(self, index: int) -> str:
        """Return the name of class `index`, or its number where there are no labels."""
        return self.labels[index] if self.labels is not None else str(index)

    def class_key(self, index: int) -> str | None:
        """Return the WordNet id, else the name, of class `index`, to find it in other models; None without labels."""
        return self.labels.key(index) if self.labels is not None else None

    def to(self, device: torch.device | str) -> Classifier:
        """Move the network to `device` in place, in channels_last format, and return this classifier."""
        self.device = torch.device(device)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean, self.std = self.mean.to(self.device), self.std.to(self.device)
        return self

    @property
    def normalisation(self) -> dict[str, list[float]]:
        """Mean and standard deviation of each input channel, as results record them."""
        return {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}

    def describe(self) -> dict[str, Any]:
        """Return name, input size, provenance, and the options it was loaded with if there are any, for results."""
        described = {
            "name": self.name,
            "input_size": list(self.input_size),
            "source": self.provenance.source,
            "revision": self.provenance.revision,
            "sha256": dict(self.provenance.sha256),
            "licence": self.provenance.licence,
        }
        return described | ({"options": dict(self.load_options)} if self.load_options else {})
