"""A user's module -> a copy of it that can be read: on one device, in float32, in evaluation mode, unwrapped."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from gen_prior.errors import OptionError

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def prepared(module: nn.Module, *, in_place: bool = False) -> nn.Module:
    """Return a copy of `module`, or itself, in float32 and evaluation mode, without compilers and parallel wrappers.

    Raises `OptionError` for one that has no weights, lies on several devices, or cannot be copied.
    """
    if isinstance(module, torch.export.ExportedProgram):
        module = module.module()
    if not isinstance(module, nn.Module):
        raise OptionError(
            f"a classifier is made from a torch.nn.Module, got a {type(module).__name__}",
            fix=f"to load one by name: gp.load_classifier({module!r})" if isinstance(module, str) else None,
        )
    _check_devices(module)
    network = _unwrapped(module)
    if not in_place:
        try:
            network = _copied(network)
        except Exception as error:  # a module may hold anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise OptionError(
                f"the network cannot be copied: {reason}",
                fix="gp.Classifier(..., in_place=True), which freezes the network itself and folds its batch norms",
            ) from error
    if isinstance(network, torch.jit.ScriptModule):
        network = Scripted(network)
    _without_checkpoints(network)
    for parent in network.modules():
        if parent._compiled_call_impl is not None:  # of Module.compile(), which bypasses hooks
            parent._compiled_call_impl = None
        for name, child in parent._modules.items():
            if child is not None:
                parent._modules[name] = _unwrapped(child)
    network.eval()  # a user's own may return None
    if any(p.is_floating_point() and p.dtype != torch.float32 for p in (*network.parameters(), *network.buffers())):
        network.float()
    return network


def _without_checkpoints(network: nn.Module) -> None:
    """Switch gradient checkpointing off by the switches of timm and transformers, under which stages are skipped."""
    for part in network.modules():
        if callable(switch := getattr(part, "set_grad_checkpointing", None)):
            with contextlib.suppress(Exception):  # a model may refuse it, and a method of the user take no argument
                switch(False)
        if getattr(part, "gradient_checkpointing", None) is True:
            part.__dict__["gradient_checkpointing"] = False


class Scripted(nn.Module):
    """A network of torch.jit as a module without submodules, since hooks of compiled layers never run."""

    def __init__(self, network: torch.jit.ScriptModule) -> None:
        super().__init__()
        self._network = [network]

    def forward(self, images: Tensor) -> Any:
        return self._network[0](images)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return self._network[0].parameters(recurse)

    def train(self, mode: bool = True) -> Scripted:
        self._network[0].train(mode)
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Scripted:
        self._network[0]._apply(fn)
        return self


def has_no_layers(network: nn.Module) -> bool:
    """True for networks of torch.jit and torch.export, where there may be modules, but none that runs."""
    if isinstance(network, fx.GraphModule):
        run = {str(node.target) for node in network.graph.nodes if node.op == "call_module"}
        return not run - {"_guards_fn"}  # which checks the shape of the input
    return isinstance(network, Scripted)


def _copied(network: nn.Module) -> nn.Module:
    if not isinstance(network, torch.jit.ScriptModule):
        return copy.deepcopy(network)
    buffer = io.BytesIO()  # its deepcopy gives parameters that cannot be frozen
    torch.jit.save(network, buffer)
    buffer.seek(0)
    loaded: nn.Module = torch.jit.load(buffer)
    return loaded


def _unwrapped(module: nn.Module) -> nn.Module:
    """The module inside `torch.compile` and data parallel wrappers, whose names for layers lose the prefix."""
    while True:
        inner = getattr(module, "_orig_mod", module.module if isinstance(module, _WRAPPERS) else None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def _check_devices(module: nn.Module) -> None:
    """Raise `OptionError` for tensors on "meta" or on several devices."""
    devices = sorted({str(tensor.device) for tensor in (*module.parameters(), *module.buffers())})
    if "meta" in devices:
        raise OptionError("the network has tensors without values, on the device 'meta'", fix="load its weights first")
    if len(devices) > 1:
        raise OptionError(
            f"the network lies on several devices, {', '.join(devices)}", fix=f"move it to one: .to({devices[-1]!r})"
        )
