"""The axis of a layer's output that holds its units, decided by kinds of modules and by evidence, never by equal sides.

In order: the kind of the layer itself (a convolution puts units first, a linear layer last), layers that share its
tensor, another input size, which moves positions and not units, the layers that read its output, and last changes in
two corners of the image, which reach different positions and the same units. Where all of these are silent, the axis
stays unknown, and asking for a unit of the layer is an error until the user says the axis.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gen_prior.classifiers.layer_kinds import Call, made_axis, observe, read_axis
from gen_prior.classifiers.outputs import run_name
from gen_prior.errors import GenPriorError, OptionError, TargetError

SIDES = {0: (), 1: ("positions",), 2: ("height", "width"), 3: ("time", "height", "width")}


@dataclass(frozen=True)
class Layout:
    """The axes of a layer's output `[B, *shape]`.

    `unit_axis`: the axis of the units in it, from 1; None where it is not known.
    """

    shape: tuple[int, ...]
    unit_axis: int | None

    def known_axis(self, layer: str) -> int:
        """Return the axis of the units. Raises `TargetError` where it is not known."""
        if self.unit_axis is None:
            axes = ", ".join(f"{axis} with {size}" for axis, size in enumerate(self.shape, 1))
            raise TargetError(
                f"layer {layer!r} has the output [B, {', '.join(map(str, self.shape))}], and neither the layer's kind "
                f"nor another input size tells which axis holds its units: {axes}",
                fix=f"say it: --unit-axis {layer}=1, or in Python unit_axis={{{layer!r}: 1}}",
            )
        return self.unit_axis

    def units(self, layer: str) -> int:
        """Return the number of units. Raises `TargetError` where their axis is not known."""
        return self.shape[self.known_axis(layer) - 1]

    @property
    def sides(self) -> tuple[int, ...]:
        """Number of positions along each axis but that of the units."""
        return tuple(size for axis, size in enumerate(self.shape, 1) if axis != self.unit_axis)

    @property
    def centre(self) -> tuple[int, ...]:
        """The central position; of tokens, the class token (number 0), or the central one where they fill a square."""
        if len(self.sides) == 1 and self.unit_axis == len(self.shape):
            side = math.isqrt(self.sides[0])
            return (side // 2 * side + side // 2 if side * side == self.sides[0] else 0,)
        return tuple(side // 2 for side in self.sides)

    @property
    def axes(self) -> str:
        """Names of the axes, as "units x height x width"."""
        if self.unit_axis is None:
            return "axes that are not known"
        last = self.unit_axis == len(self.shape)
        names = list(SIDES.get(len(self.sides), ("positions",) * len(self.sides)))
        names = ["tokens"] if last and len(names) == 1 else names
        names.insert(self.unit_axis - 1, "units")
        return " x ".join(names)

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.shape))} {self.axes}"


def find_layouts(
    network: nn.Module,
    inputs: Tensor,
    other_inputs: Tensor | None = None,
    given: Mapping[str, int] | None = None,
    corners: Tensor | None = None,
) -> dict[str, Layout]:
    """Return `{layer: layout}` of all layers in the order in which they run; the output, "logits", last.

    A layer that runs several times has an entry for each run (`relu#0`, `relu#1`), and its own name means the last.
    Left out are layers that do not run on `inputs`, and those whose output is no tensor or does not start with the
    batch (attention over windows, for example), because a unit of theirs has no value per image. An output of one
    number per image `[B]` is one unit.

    Args:
        inputs: normalised images `[B, C, H, W]`.
        other_inputs: one image of another height and width, used where kinds of layers do not decide.
        corners: three images of the size of `inputs`, two of them with another corner, used for what is left.
        given: layer -> axis of its units, as the user says.

    Raises:
        OptionError: an axis in `given` that the layer's output does not have.
    """
    calls = observe(network, inputs, [])
    axes = _Axes(calls)
    axes.learn((call.made, made_axis(call)) for call in calls)
    if other_inputs is not None and not axes.complete:
        others: list[Call] = []
        with contextlib.suppress(Exception):  # many networks take one size only; what ran before still counts
            observe(network, other_inputs, others)
        shapes = {(call.names[0], call.run): call.shape for call in others}
        axes.learn((call.made, _still_axis(call.shape, shapes.get((call.names[0], call.run)))) for call in calls)
    axes.learn((call.read, read_axis(call)) for call in calls)
    if corners is not None and not axes.complete:
        found: list[Call] = []
        with contextlib.suppress(Exception):
            observe(network, corners, found, corners=True)
        moved = {(call.names[0], call.run): call.moved for call in found}
        axes.learn((call.made, moved.get((call.names[0], call.run))) for call in calls)
    runs = {name: call.run for call in calls for name in call.names}
    layouts: dict[str, Layout] = {}
    for call in calls:
        for name in call.names:
            layouts.pop(name, None)
            if not call.is_per_image(len(inputs)):
                continue
            own = run_name(name, call.run)
            axis = _given_axis(given or {}, name, own, call.shape)
            layout = Layout(call.shape[1:], axis or made_axis(call) or axes.of.get(call.made))
            layouts |= ({own: layout} if runs[name] else {}) | {name: layout}
    return layouts


class _Axes:
    """Unit axes of tensors by number: what layers say of them, passed along layers that keep axes."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.of: dict[int, int] = {call.made: 1 for call in calls if len(call.shape) == 2}

    @property
    def complete(self) -> bool:
        """True if the axis of every layer is known."""
        return all(call.made in self.of for call in self.calls)

    def learn(self, said: Iterable[tuple[int | None, int | None]]) -> None:
        """Take (tensor, axis) pairs on tensors that are not known yet; contradictions leave them unknown."""
        votes: dict[int, set[int]] = {}
        for tensor, axis in said:
            if tensor is not None and axis is not None and tensor not in self.of:
                votes.setdefault(tensor, set()).add(axis)
        self.of |= {tensor: axes.pop() for tensor, axes in votes.items() if len(axes) == 1}
        while sum(self._pass_along(call) for call in self.calls):
            pass

    def _pass_along(self, call: Call) -> bool:
        """Pass a layer's known axis between its input and output where it keeps axes; True if one was learnt."""
        first, second = (self.of.get(tensor) if tensor is not None else None for tensor in (call.read, call.made))
        axis = first or second
        if axis is None or call.read is None or (first and second) or call.read_shape != call.shape:
            return False
        # Any layer that keeps a shape keeps its axes, unless two of them could have been swapped.
        if not call.keeps_axes and call.shape[1:].count(call.shape[axis]) > 1:
            return False
        self.of.setdefault(call.read, axis)
        self.of.setdefault(call.made, axis)
        return True


def _still_axis(shape: tuple[int, ...], other: tuple[int, ...] | None) -> int | None:
    """The one axis of a layer's output that another input size does not move; None where there is not exactly one."""
    if other is None or len(other) != len(shape):
        return None
    still = [axis for axis in range(1, len(shape)) if shape[axis] == other[axis]]
    return still[0] if len(still) == 1 else None


def _given_axis(given: Mapping[str, int], name: str, run: str, shape: tuple[int, ...]) -> int | None:
    """The axis that the user says. Raises `OptionError` for one that is no axis of the output but the first."""
    axis = given.get(run, given.get(name))
    if axis is None:
        return None
    if not (1 <= axis < len(shape) or 1 - len(shape) <= axis <= -1):
        raise OptionError(
            f"unit_axis of {name!r} must be 1 to {len(shape) - 1}, or -1 for the last axis of its output "
            f"[B, {', '.join(map(str, shape[1:]))}], got {axis}"
        )
    return axis % len(shape)


def probe(
    network: nn.Module, images: Callable[[int, int, int], Tensor], size: tuple[int, int], given: Mapping[str, int]
) -> tuple[dict[str, Layout], int]:
    """Return the layouts of a network that takes images of `size`, and the number of images that it was run on.

    They are two, so that one row for the whole batch is not taken for one row per image, and one only for networks that
    fail on two. `images(count, height, width)` makes normalised ones.

    Raises `OptionError` for a network that does not run on such images either.
    """
    height, width = size
    larger = images(1, height + 32 * math.ceil(height / 64), width + 32 * math.ceil(width / 64))
    inputs, corners = images(2, height, width), images(3, height, width).clone()
    corners[1, :, : height // 4, : width // 4] += 1
    corners[2, :, height - height // 4 :, width - width // 4 :] += 1
    try:
        return find_layouts(network, inputs, larger, given, corners), 2
    except (GenPriorError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # a foreign forward may raise anything
        with contextlib.suppress(Exception):
            return find_layouts(network, inputs[:1], larger, given), 1
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise OptionError(
            f"the network does not run on images {list(inputs.shape)}: {reason}",
            fix="give its own input_size=(height, width), and one mean and std per input channel",
        ) from error
