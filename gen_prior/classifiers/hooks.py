"""(network, layer names) -> (inputs -> activations of these layers), by forward hooks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from gen_prior.classifiers.checkpointing import without_checkpointing
from gen_prior.classifiers.folding import unfolded
from gen_prior.classifiers.layouts import Layout
from gen_prior.classifiers.outputs import LOGITS, as_tensor, split_run
from gen_prior.errors import OptionError, TargetError, UnknownNameError

Hook = Callable[[nn.Module, tuple[object, ...], object], None]


class Activations(dict[str, Tensor]):
    """`{layer: [B, ...]}` of one forward pass, with the layouts of the layers where they are known."""

    def __init__(self, values: Mapping[str, Tensor], layouts: Mapping[str, Layout] | None = None) -> None:
        super().__init__(values)
        self.layouts = dict(layouts or {})

    def select(self, items: slice | Tensor) -> Activations:
        """The activations of some items of the batch."""
        return Activations({layer: values[items] for layer, values in self.items()}, self.layouts)

    def units_first(self, layer: str) -> Tensor:
        """A layer's activations as `[B, units, *positions]`. Raises `TargetError` where their axis is not known."""
        values = self[layer]
        if values.ndim == 2:
            return values
        if layer not in self.layouts:
            raise TargetError(f"it is not known which axis of layer {layer!r} holds its units")
        return values.movedim(self.layouts[layer].known_axis(layer), 1)


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

    A layer that runs several times in one pass (a shared ReLU) is recorded at its last run, and as `relu#0` at its
    first. The first pass runs to the end and counts the runs of each layer; only later ones stop early. Several of
    these may hook one network, also in different threads: each records its own passes only.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Iterable[str],
        layouts: Mapping[str, Layout],
        *,
        stop_early: bool,
        known_runs: KnownRuns | None = None,
    ) -> None:
        self.network = network
        self.layers = tuple(dict.fromkeys(layers))
        self.hooked = [layer for layer in self.layers if layer != LOGITS]
        self.modules = dict(network.named_modules(remove_duplicate=False))
        """By name, of the network as given, also where `network` is replaced by a compiled one."""
        self._layouts = {layer: layouts[layer] for layer in self.layers if layer in layouts}
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
            with without_checkpointing():
                output = self.network(inputs)
            if LOGITS in self.layers:
                logits = as_tensor(output)
                self._recorded[LOGITS] = logits[:, None] if logits.ndim == 1 else logits
            if self._stop_early:
                self.runs_per_pass = self._runs
        except _StopForwardError:
            pass
        finally:  # keep no graph alive between passes or after an exception
            _running.hooks = None
            recorded, self._recorded = self._recorded, {}
        if missing := [layer for layer in self.layers if layer not in recorded]:
            raise OptionError(f"layer {missing[0]!r} did not run in the forward pass")
        return Activations(recorded, self._layouts)

    def hook(self, layer: str) -> Hook:
        """A forward hook that records the output of `layer`, and ends the pass when it is the last one needed."""
        run = split_run(layer)[1]

        def record(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if _running.hooks is not self:
                return
            self._runs[layer] += 1
            if run is not None and self._runs[layer] != run + 1:
                return
            original = unfolded(module)  # a convolution with a norm folded into it is recorded without the norm
            values = as_tensor(output if original is None else original(*inputs))
            done = self._stop_early and all(map(self._is_recorded, self.hooked))
            # The layers that follow may write into their input.
            self._recorded[layer] = values if done else values.clone()
            if done:
                raise _StopForwardError

        return record

    def _is_recorded(self, layer: str) -> bool:
        """True if the wanted run of `layer` is behind; never in the first pass, which has to count runs."""
        runs = self.runs_per_pass
        if runs is None:
            return False
        run = split_run(layer)[1]
        return self._runs[layer] >= (runs[layer] if run is None else run + 1)


@contextmanager
def record_layers(
    network: nn.Module,
    layers: Iterable[str],
    layouts: Mapping[str, Layout] | None = None,
    *,
    stop_early: bool = True,
    known_runs: KnownRuns | None = None,
) -> Iterator[LayerHooks]:
    """Hook `layers` ("logits" is the output) for the duration of the block, whose variable is a `LayerHooks`.

    `layouts`: `{layer: layout}`, which the activations then carry. `stop_early` ends each forward pass at the last
    wanted layer; `known_runs` remembers which that is for hooks of the same network. Raises `UnknownNameError` for an
    unknown layer.
    """
    hooks = LayerHooks(network, layers, layouts or {}, stop_early=stop_early, known_runs=known_runs)
    modules = hooks.modules
    handles = []
    try:
        for layer in hooks.hooked:
            module = modules.get(split_run(layer)[0]) if layer else None
            if module is None:
                raise UnknownNameError("layer", layer, [LOGITS, *filter(None, modules)])
            handles.append(module.register_forward_hook(hooks.hook(layer)))
        yield hooks
    finally:
        for handle in handles:
            handle.remove()
