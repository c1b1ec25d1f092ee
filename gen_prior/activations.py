"""Reading a network's inside: which layers it has, and their activations during a forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.folding import unfolded

LOGITS = "logits"
"""Name of the network's output, which is no submodule."""

Hook = Callable[[nn.Module, tuple[object, ...], object], None]


class _DeepEnoughError(Exception):
    """Stops a forward pass once every wanted layer is read."""


class Reader:
    """Runs a network and returns the activations of some layers; its hooks live as long as `reading` is open.

    A layer that runs several times in one pass (a shared ReLU) is read at its last run. The first pass goes to
    the end to learn how often each layer runs; only later ones stop early.
    """

    def __init__(self, network: nn.Module, layers: Iterable[str], *, stop_early: bool) -> None:
        self.network = network
        self.layers = tuple(dict.fromkeys(layers))
        self.inner = [layer for layer in self.layers if layer != LOGITS]
        self._stop_early = stop_early and LOGITS not in self.layers
        self._caught: dict[str, Tensor] = {}
        self._runs: Counter[str] = Counter()
        self.expected: Counter[str] | None = None
        """How often each layer runs in one pass; learned in the first, or given by a reader of the same layers."""

    def __call__(self, inputs: Tensor) -> dict[str, Tensor]:
        """Normalised inputs -> `{layer: activation}`, batch first.

        Raises `OptionError` for a layer that did not run.
        """
        self._caught, self._runs = {}, Counter()
        try:
            output = self.network(inputs)
            if LOGITS in self.layers:
                self._caught[LOGITS] = as_tensor(output)
            if self._stop_early:
                self.expected = self._runs
        except _DeepEnoughError:
            pass
        finally:  # holds no graph between passes, nor after an exception
            caught, self._caught = self._caught, {}
        if missing := [layer for layer in self.layers if layer not in caught]:
            raise OptionError(f"layer {missing[0]!r} did not run in the forward pass")
        return caught

    def hook(self, layer: str) -> Hook:
        """A forward hook that catches the output of `layer`."""

        def catch(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            original = unfolded(module)
            values = as_tensor(output if original is None else original(*inputs))
            if not self._stop_early:
                self._caught[layer] = values.clone()  # the layers that follow may write into their input
                return
            self._runs[layer] += 1
            done = self.expected is not None and all(self._runs[name] >= self.expected[name] for name in self.inner)
            self._caught[layer] = values if done else values.clone()
            if done:
                raise _DeepEnoughError

        return catch


@contextmanager
def reading(network: nn.Module, layers: Iterable[str], *, stop_early: bool = True) -> Iterator[Reader]:
    """A `Reader` of `layers` ("logits" is the output); its hooks are removed on leaving, also after an exception.

    `stop_early` ends each forward pass at the last wanted layer. Raises `UnknownNameError` for unknown layers.
    """
    reader = Reader(network, layers, stop_early=stop_early)
    modules = dict(network.named_modules(remove_duplicate=False))
    handles = []
    try:
        for layer in reader.inner:
            if layer not in modules or not layer:
                raise UnknownNameError("layer", layer, [LOGITS, *filter(None, modules)])
            handles.append(modules[layer].register_forward_hook(reader.hook(layer)))
        yield reader
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
