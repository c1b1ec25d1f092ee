"""Reading a network's inside: which layers it has, and their activations during a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError, UnknownNameError

LOGITS = "logits"
"""Name of the network's output, which is no submodule."""


class _DeepEnoughError(Exception):
    """Stops a forward pass once every wanted layer is read."""


class Reader:
    """Runs a network and returns the activations of some layers; its hooks live as long as `reading` is open."""

    def __init__(self, network: nn.Module, layers: Iterable[str], *, stop_early: bool) -> None:
        self.network = network
        self.layers = tuple(dict.fromkeys(layers))
        self._inner = [layer for layer in self.layers if layer != LOGITS]
        self._stop_early = stop_early and LOGITS not in self.layers
        self._caught: dict[str, Tensor] = {}

    def __call__(self, inputs: Tensor) -> dict[str, Tensor]:
        """Normalised inputs -> `{layer: activation}`, batch first."""
        self._caught = {}
        try:
            output = self.network(inputs)
            if LOGITS in self.layers:
                self._caught[LOGITS] = as_tensor(output)
        except _DeepEnoughError:
            pass
        caught, self._caught = self._caught, {}
        if missing := [layer for layer in self.layers if layer not in caught]:
            raise OptionError(f"layer {missing[0]!r} did not run in the forward pass, or its output is no tensor")
        return caught

    def _hook(self, layer: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            self._caught[layer] = as_tensor(output)
            if self._stop_early and len(self._caught) == len(self._inner):
                raise _DeepEnoughError

        return hook


@contextmanager
def reading(network: nn.Module, layers: Iterable[str], *, stop_early: bool = True) -> Iterator[Reader]:
    """A `Reader` of `layers` ("logits" is the output); its hooks are removed on leaving, also after an exception.

    `stop_early` ends each forward pass at the last wanted layer. Raises `UnknownNameError` for unknown layers.
    """
    reader = Reader(network, layers, stop_early=stop_early)
    modules = dict(network.named_modules())
    handles = []
    try:
        for layer in reader._inner:
            if layer not in modules or not layer:
                raise UnknownNameError("layer", layer, [LOGITS, *filter(None, modules)])
            handles.append(modules[layer].register_forward_hook(reader._hook(layer)))
        yield reader
    finally:
        for handle in handles:
            handle.remove()


def as_tensor(output: object) -> Tensor:
    """The tensor in a layer's output: itself, the first of a tuple, or a model output's `logits`."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return output[0]
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    raise OptionError(f"the layer's output is a {type(output).__name__}, not a tensor")


def layer_shapes(network: nn.Module, inputs: Tensor) -> dict[str, tuple[int, ...]]:
    """`{layer: output shape without the batch}` of every layer that runs on `inputs`, in order of running."""
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            try:
                shapes[name] = tuple(as_tensor(output).shape[1:])
            except OptionError:
                return

        return hook

    try:
        for name, module in network.named_modules():
            if name:
                handles.append(module.register_forward_hook(watch(name)))
        with torch.no_grad():
            shapes[LOGITS] = tuple(as_tensor(network(inputs)).shape[1:])
    finally:
        for handle in handles:
            handle.remove()
    return shapes
