"""(network, layer names) -> (inputs -> activations of these layers), by forward hooks."""

from __future__ import annotations

import threading
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
    """`{layer: [B, ...]}` of one forward pass.

    `units_last`: the layers whose units are their last axis, `[B, tokens, units]` or `[B, H, W, units]` (Swin).
    """

    def __init__(self, values: Mapping[str, Tensor], units_last: Iterable[str] = ()) -> None:
        super().__init__(values)
        self.units_last = frozenset(units_last)

    def select(self, items: slice | Tensor) -> Activations:
        """The activations of some items of the batch."""
        return Activations({layer: values[items] for layer, values in self.items()}, self.units_last)


def units_come_last(shape: Sequence[int], *, module: nn.Module | None = None, square: bool = True) -> bool:
    """True if the units are the last axis of an output of `shape`, which excludes the batch.

    They are for tokens `[tokens, units]`, and for three axes where `module` works on the last one, or where the first
    two are equal and the third is not, as `[H, W, units]` is for a `square` input.
    """
    if len(shape) != 3:
        return len(shape) == 2
    if type(module) in (nn.Linear, nn.LayerNorm):
        return True
    return square and shape[0] == shape[1] != shape[2]


KnownRuns = dict[tuple[str, ...], Counter[str]]
"""Runs of each of these layers in one pass of a network."""


class _Running(threading.local):
    """The hooks whose pass runs in this thread."""

    hooks: LayerHooks | None = None


_running = _Running()


class _StopForwardError(Exception):
    """Ends a forward pass once every wanted layer is recorded."""


class LayerHooks:
    """Runs `network` and returns the activations of `layers`; `record_layers` makes one and removes its hooks.

    A layer that runs several times in one pass (a shared ReLU) is recorded at its last run. The first pass runs to the
    end and counts the runs of each layer; only later ones stop early. Several of these may hook one network, also in
    different threads: each records its own passes only.
    """

    def __init__(
        self, network: nn.Module, layers: Iterable[str], *, stop_early: bool, known_runs: KnownRuns | None = None
    ) -> None:
        self.network = network
        self.layers = tuple(dict.fromkeys(layers))
        self.hooked = [layer for layer in self.layers if layer != LOGITS]
        self.modules = dict(network.named_modules(remove_duplicate=False))
        """By name, of the network as given, also where `network` is replaced by a compiled one."""
        self._stop_early = stop_early and LOGITS not in self.layers
        self._recorded: dict[str, Tensor] = {}
        self._runs: Counter[str] = Counter()
        self._known_runs = {} if known_runs is None else known_runs

    @property
    def runs_per_pass(self) -> Counter[str] | None:
        """Runs of each layer in one pass; None before they are counted in the first."""
        return self._known_runs.get(self.layers)

    @runs_per_pass.setter
    def runs_per_pass(self, runs: Counter[str] | None) -> None:
        if runs is not None:
            self._known_runs[self.layers] = runs

    def __call__(self, inputs: Tensor) -> Activations:
        """Run the network on normalised inputs `[B, C, H, W]`. Raises `OptionError` for a layer that did not run."""
        self._recorded, self._runs = {}, Counter()
        _running.hooks = self
        try:
            output = self.network(inputs)
            if LOGITS in self.layers:
                self._recorded[LOGITS] = as_tensor(output)
            if self._stop_early:
                self.runs_per_pass = self._runs
        except _StopForwardError:
            pass
        finally:  # keep no graph alive between passes or after an exception
            _running.hooks = None
            recorded, self._recorded = self._recorded, {}
        if missing := [layer for layer in self.layers if layer not in recorded]:
            raise OptionError(f"layer {missing[0]!r} did not run in the forward pass")
        square = inputs.shape[-1] == inputs.shape[-2]
        last = [
            layer
            for layer, values in recorded.items()
            if units_come_last(values.shape[1:], module=self.modules.get(layer), square=square)
        ]
        return Activations(recorded, last)

    def hook(self, layer: str) -> Hook:
        """A forward hook that records the output of `layer`, and ends the pass when it is the last one needed."""

        def record(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if _running.hooks is not self:
                return
            original = unfolded(module)  # a convolution with a norm folded into it is recorded without the norm
            values = as_tensor(output if original is None else original(*inputs))
            if not self._stop_early:
                self._recorded[layer] = values.clone()  # the layers that follow may write into their input
                return
            self._runs[layer] += 1
            done = self.runs_per_pass is not None and all(
                self._runs[name] >= self.runs_per_pass[name] for name in self.hooked
            )
            self._recorded[layer] = values if done else values.clone()
            if done:
                raise _StopForwardError

        return record


@contextmanager
def record_layers(
    network: nn.Module, layers: Iterable[str], *, stop_early: bool = True, known_runs: KnownRuns | None = None
) -> Iterator[LayerHooks]:
    """Hook `layers` ("logits" is the output) for the duration of the block, whose variable is a `LayerHooks`.

    `stop_early` ends each forward pass at the last wanted layer; `known_runs` remembers which that is for hooks of the
    same network. Raises `UnknownNameError` for an unknown layer.
    """
    hooks = LayerHooks(network, layers, stop_early=stop_early, known_runs=known_runs)
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
    """Find the tensor in a layer's output: itself, its `logits`, or the first one in a tuple, list or mapping.

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
    """Return `{layer: output shape without the batch}` of all layers, in the order in which they run, "logits" last.

    Layers that do not run on `inputs` are left out, and those whose output is no tensor or does not start with the
    batch (attention over windows, for example), because a unit of theirs has no value per image.
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
