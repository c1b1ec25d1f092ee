"""Reading a network's inside: which layers it has, and their activations during a forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gen_prior.classifiers.folding import unfolded
from gen_prior.errors import OptionError, UnknownNameError

LOGITS = "logits"
"""Name of the network's output, which is no submodule."""

Hook = Callable[[nn.Module, tuple[object, ...], object], None]


class Activations(dict[str, Tensor]):
    """`{layer: [B, ...]}` of one pass, with the layers whose units are their last axis, as Swin has its maps."""

    def __init__(self, values: Mapping[str, Tensor], units_last: Iterable[str] = ()) -> None:
        super().__init__(values)
        self.units_last = frozenset(units_last)

    def select(self, places: slice | Tensor) -> Activations:
        """Those of some items of the batch."""
        return Activations({layer: values[places] for layer, values in self.items()}, self.units_last)


def units_come_last(shape: Sequence[int], *, module: nn.Module | None = None, square: bool = True) -> bool:
    """Whether a layer's units are its last axis, from its output's `shape` without the batch.

    So it is for token rows, and for maps `[H, W, units]`: those of a layer that works on the last axis, or whose
    first two sides are equal and the third is not, where the input is `square`.
    """
    if len(shape) != 3:
        return len(shape) == 2
    if type(module) in (nn.Linear, nn.LayerNorm):
        return True
    return square and shape[0] == shape[1] != shape[2]


class _StopForwardError(Exception):
    """Stops a forward pass once every wanted layer is read."""


class LayerHooks:
    """Runs a network and returns the activations of some layers; its hooks live as long as `record_layers` is open.

    A layer that runs several times in one pass (a shared ReLU) is read at its last run. The first pass goes to
    the end to learn how often each layer runs; only later ones stop early.
    """

    def __init__(self, network: nn.Module, layers: Iterable[str], *, stop_early: bool) -> None:
        self.network = network
        self.layers = tuple(dict.fromkeys(layers))
        self.hooked = [layer for layer in self.layers if layer != LOGITS]
        self.modules = dict(network.named_modules(remove_duplicate=False))
        """By name; those of the network given, whatever runs in its place."""
        self._stop_early = stop_early and LOGITS not in self.layers
        self._caught: dict[str, Tensor] = {}
        self._runs: Counter[str] = Counter()
        self.runs_per_pass: Counter[str] | None = None
        """How often each layer runs in one pass; learned in the first, or given by a hooks of the same layers."""

    def __call__(self, inputs: Tensor) -> Activations:
        """Normalised inputs -> `{layer: activation}`, batch first.

        Raises `OptionError` for a layer that did not run.
        """
        self._caught, self._runs = {}, Counter()
        try:
            output = self.network(inputs)
            if LOGITS in self.layers:
                self._caught[LOGITS] = as_tensor(output)
            if self._stop_early:
                self.runs_per_pass = self._runs
        except _StopForwardError:
            pass
        finally:  # holds no graph between passes, nor after an exception
            caught, self._caught = self._caught, {}
        if missing := [layer for layer in self.layers if layer not in caught]:
            raise OptionError(f"layer {missing[0]!r} did not run in the forward pass")
        square = inputs.shape[-1] == inputs.shape[-2]
        last = [
            layer
            for layer, values in caught.items()
            if units_come_last(values.shape[1:], module=self.modules.get(layer), square=square)
        ]
        return Activations(caught, last)

    def hook(self, layer: str) -> Hook:
        """A forward hook that catches the output of `layer`."""

        def catch(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            original = unfolded(module)
            values = as_tensor(output if original is None else original(*inputs))
            if not self._stop_early:
                self._caught[layer] = values.clone()  # the layers that follow may write into their input
                return
            self._runs[layer] += 1
            done = self.runs_per_pass is not None and all(
                self._runs[name] >= self.runs_per_pass[name] for name in self.hooked
            )
            self._caught[layer] = values if done else values.clone()
            if done:
                raise _StopForwardError

        return catch


@contextmanager
def record_layers(network: nn.Module, layers: Iterable[str], *, stop_early: bool = True) -> Iterator[LayerHooks]:
    """A `LayerHooks` of `layers` ("logits" is the output); its hooks are removed on leaving, also after an exception.

    `stop_early` ends each forward pass at the last wanted layer. Raises `UnknownNameError` for unknown layers.
    """
    hooks = LayerHooks(network, layers, stop_early=stop_early)
    modules = hooks.modules
    handles = []
    try:
        for layer in hooks.hooked:
            if layer not in modules or not layer:
                raise UnknownNameError("layer", layer, [LOGITS, *filter(None, modules)])
            handles.append(modules[layer].register_forward_hook(hooks.hook(layer)))
        yield hooks
    finally:
        for handle in handles:
            handle.remove()


def as_tensor(output: object) -> Tensor:
    """The tensor in a layer's output: itself, its `logits`, or the first tensor of a tuple, list or mapping.

    Raises `OptionError` where there is none.
    """
    if isinstance(output, Tensor):
        return output
    logits = output.get(LOGITS) if isinstance(output, Mapping) else getattr(output, LOGITS, None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, tuple | list):
        for part in output:
            if isinstance(part, Tensor):
                return part
    raise OptionError(f"the layer's output is a {type(output).__name__}, not a tensor")


def layer_shapes(network: nn.Module, inputs: Tensor) -> dict[str, tuple[int, ...]]:
    """`{layer: output shape without the batch}` of every layer that runs on `inputs`, in order of running.

    "logits" comes last. Left out: layers that do not run, and outputs that are no tensor or do not start with
    the batch (attention over windows, say), since their units cannot be told apart by image.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []

    def watch(name: str) -> Hook:
        def hook(module: nn.Module, args: tuple[object, ...], output: object) -> None:
            try:
                shape = tuple(as_tensor(output).shape)
            except OptionError:
                return
            shapes.pop(name, None)
            if len(shape) > 1 and shape[0] == len(inputs):
                shapes[name] = shape[1:]

        return hook

    try:
        for name, module in network.named_modules(remove_duplicate=False):
            if name and name != LOGITS:
                handles.append(module.register_forward_hook(watch(name)))
        with torch.no_grad():
            output = as_tensor(network(inputs))
    finally:
        for handle in handles:
            handle.remove()
    shapes[LOGITS] = tuple(output.shape[1:])
    return shapes
