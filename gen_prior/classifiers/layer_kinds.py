"""Runs of layers, and what the kind of a layer says of the axes of its input and output."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass

from torch import Tensor, nn, no_grad
from torch.nn.modules import batchnorm, conv, pooling
from torch.utils.weak import WeakIdKeyDictionary

from gen_prior.classifiers.outputs import LOGITS, as_tensor
from gen_prior.errors import OptionError

_UNITS_FIRST = (
    *(conv._ConvNd, batchnorm._NormBase, nn.GroupNorm, nn.LocalResponseNorm),
    *(pooling._MaxPoolNd, pooling._AvgPoolNd, pooling._AdaptiveMaxPoolNd, pooling._AdaptiveAvgPoolNd),
    *(pooling._LPPoolNd, pooling._MaxUnpoolNd, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d),
    *(nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle),
)
_UNITS_LAST: dict[type[nn.Module], str] = {
    nn.Linear: "out_features",
    nn.LayerNorm: "normalized_shape",
    nn.RMSNorm: "normalized_shape",
    nn.MultiheadAttention: "embed_dim",
}
"""Kind -> attribute that holds its number of units, or its shape where it works on several axes."""
_ELEMENTWISE = ("torch.nn.modules.activation", "torch.nn.modules.dropout")


@dataclass
class Call:
    """One run of a layer: names and number of the run, its module (None: the network), its input and output."""

    names: list[str]
    run: int
    module: nn.Module | None
    read: int | None
    read_shape: tuple[int, ...]
    made: int
    shape: tuple[int, ...]
    moved: int | None = None
    """Axis of the units as changes in two corners of the image tell it; None where they do not, or were not made."""

    def is_per_image(self, batch: int) -> bool:
        """True if the output has one row per image."""
        first = not isinstance(self.module, nn.MultiheadAttention) or self.module.batch_first
        return first and len(self.shape) > 1 and self.shape[0] == batch

    @property
    def keeps_axes(self) -> bool:
        """True for an elementwise layer: each axis of the output is that of the input."""
        kind = type(self.module)
        return kind is nn.Identity or (kind.__module__ in _ELEMENTWISE and kind is not nn.MultiheadAttention)


def observe(network: nn.Module, inputs: Tensor, calls: list[Call], *, corners: bool = False) -> list[Call]:
    """Run the network; append the runs of its layers that make tensors in order, that of the network itself last.

    `corners`: the inputs are three images that differ in two corners, see `axis_by_corners`.
    """
    numbers: WeakIdKeyDictionary = WeakIdKeyDictionary()
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if name and name != LOGITS:
            names.setdefault(module, []).append(name)
    runs: dict[nn.Module, int] = {}
    count = 0

    def number(tensor: Tensor) -> int:
        """Number of a tensor of this shape; an operation in place may give a tensor another one."""
        nonlocal count
        known = numbers.get(tensor)
        if known is None or known[1] != tensor.shape:
            known = numbers[tensor] = (count := count + 1), tensor.shape
        return int(known[0])

    def hook(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], output: object) -> None:
        run = runs[module] = runs.get(module, -1) + 1
        read = next((part for part in (*args, *kwargs.values()) if isinstance(part, Tensor)), None)
        with contextlib.suppress(OptionError):
            made = as_tensor(output)
            before, shape = (None, ()) if read is None else (number(read), tuple(read.shape))
            moved = axis_by_corners(made) if corners else None
            calls.append(Call(names[module], run, module, before, shape, number(made), tuple(made.shape), moved))

    handles = [module.register_forward_hook(hook, with_kwargs=True) for module in names]
    try:
        with no_grad():
            output = network(inputs)
            with contextlib.suppress(OptionError):
                logits = as_tensor(output)
                logits = logits[:, None] if logits.ndim == 1 else logits
                calls.append(Call([LOGITS], 0, None, None, (), number(logits), tuple(logits.shape)))
    finally:
        for handle in handles:
            handle.remove()
    return calls


def axis_by_corners(values: Tensor) -> int | None:
    """Axis of the units in a layer's output for three images: one, and it with another corner, and the opposite one.

    An axis of positions is reached by the two changes at different indices, that of the units at the same ones. None
    unless this tells every axis, as behind attention or in the middle of the image.
    """
    if values.ndim < 3 or len(values) != 3:
        return None
    least = 1e-5 * values.abs().amax()
    changed = [(other - values[0]).abs() > least for other in values[1:]]
    units = []
    for axis in range(values.ndim - 1):
        rest = tuple(other for other in range(values.ndim - 1) if other != axis)
        first, second = (part.any(rest) for part in changed)
        if not (first.any() and second.any()):
            return None
        if (first & second).any():
            units.append(axis + 1)
    return units[0] if len(units) == 1 else None


def made_axis(call: Call) -> int | None:
    """Axis of the units in a layer's output, by its kind; None where that does not tell."""
    module, shape = call.module, call.shape
    if len(shape) == 2:
        return 1
    if isinstance(module, _UNITS_FIRST):
        count = getattr(module, "out_channels", getattr(module, "num_features", None))
        return 1 if _rank(module) in (None, len(shape)) and count in (None, shape[1]) else None
    for kind, units in _UNITS_LAST.items():
        if isinstance(module, kind):
            count = _units_of(module, units)
            if type(module).forward is kind.forward:
                return len(shape) - 1 if count is not None else None
            # A subclass may move axes, as `LayerNorm2d` does: only its number of units tells.
            fitting = [axis for axis, size in enumerate(shape) if axis and size == count]
            return fitting[0] if len(fitting) == 1 else None
    return None


def read_axis(call: Call) -> int | None:
    """Axis of the units in a layer's input, by the layer's kind; None where that does not tell."""
    module, shape = call.module, call.read_shape
    if isinstance(module, _UNITS_FIRST):  # layers of one dimension are also run along tokens, or along units
        return 1 if _rank(module) in (4, 5) and _rank(module) == len(shape) else None
    if module is not None and len(shape) > 2 and (units := _UNITS_LAST.get(type(module))):
        return len(shape) - 1 if _units_of(module, units) is not None else None
    return None


def _rank(module: nn.Module) -> int | None:
    """Number of axes of a module's output with the batch, by the name of its class in torch (Conv2d: 4)."""
    for kind in type(module).__mro__:
        if kind.__module__.startswith("torch.nn.") and (digit := re.search(r"([123])d$", kind.__name__)):
            return int(digit[1]) + 2
    return None


def _units_of(module: nn.Module, attribute: str) -> int | None:
    """The module's number of units, None if it works on several axes."""
    value: int | tuple[int, ...] = getattr(module, attribute)
    if isinstance(value, int):
        return value
    return value[0] if len(value) == 1 else None
