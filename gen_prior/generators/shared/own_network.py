"""Checks of a user's own network as a generator: weights without values, and weights of another type than codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError


def check_values(network: nn.Module) -> None:
    """Raise `OptionError` for a network with tensors on the device "meta"."""
    if any(tensor.is_meta for tensor in _tensors(network)):
        raise OptionError("the network has tensors without values, on the device 'meta'", fix="load its weights first")


def explain_types(networks: Iterable[nn.Module], error: RuntimeError) -> OptionError | None:
    """An error about weights that are not in float32, as codes are, if that may be what torch's `error` is of."""
    types = {str(t.dtype) for network in networks for t in _tensors(network) if t.is_floating_point()}
    others = sorted(types - {"torch.float32"})
    if not others or "type" not in str(error) or isinstance(error, torch.OutOfMemoryError):
        return None
    return OptionError(
        f"the network's weights are {', '.join(others)}, its codes torch.float32",
        fix="pass network.float(); to compute in less, precision='bf16'",
    )


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()


__all__ = ["check_values", "explain_types"]
