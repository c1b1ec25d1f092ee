"""(network, tensors) -> network with its weights, only where names and shapes fit exactly and values are finite."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gen_prior.errors import GenPriorError, WeightsError
from gen_prior.hub.tensors import check_finite

PREFIXES = ("module.", "_orig_mod.", "model.")
LARGEST_NUMBER, MOST_LAYERS = 2**20, 512
MOST_TIMES = 2
"""Weights of a network for each number in its file, which would be 1 if all names fitted."""
COUNTS = re.compile("layers|blocks|depth|repeat")
"""Keys whose values count layers."""
BUILDS = re.compile("layer|block|depth|repeat|channels|widths|mult")
"""Keys whose lists have an entry for each layer."""


def check_config(config: Mapping[str, Any], file: str) -> None:
    """Raise `WeightsError` for a configuration with sizes, depths or lists beyond any real network."""

    def check(key: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for inner, content in value.items():
                check(f"{key}.{inner}", content)
        elif isinstance(value, list):
            if len(value) > (most := MOST_LAYERS if BUILDS.search(key) else LARGEST_NUMBER):
                raise WeightsError(f"{file}: {key} has {len(value)} entries, the limit is {most}")
            for content in value:
                check(key, content)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            limit = MOST_LAYERS if COUNTS.search(key) else LARGEST_NUMBER
            if not abs(value) <= limit:
                raise WeightsError(f"{file}: {key} is {value}, the limit is {limit}")

    for key, value in config.items():
        check(key, value)


def check_shapes(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], file: str, network: str
) -> None:
    """Raise `WeightsError`, listing the differences, unless `{name: shape}` are `expected`, those of `network`."""
    problems = []
    if missing := [key for key in expected if key not in found]:
        problems.append(f"lacks {_some(missing)}")
    if unexpected := [key for key in found if key not in expected]:
        problems.append(f"has unexpected {_some(unexpected)}")
    differing = [
        f"{key} {list(found[key])} where {list(shape)} is expected"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    if differing:
        problems.append(f"has {_some(differing)}")
    if problems:
        raise WeightsError(f"{file} does not fit {network}: it {'; it '.join(problems)}", layout=dict(found))


def build_on_meta(build: Callable[[], nn.Module], file: str) -> nn.Module:
    """Build a network on the meta device, without memory for weights; any failure raises `WeightsError`."""
    try:
        with torch.device("meta"):
            return build()
    except GenPriorError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{file} describes a network that cannot be built: {reason}") from error


def check_size(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], file: str) -> None:
    """Raise `WeightsError` where a network has many times more weights than `file`, before it takes their memory.

    A network that cannot be built on the meta device is not checked.
    """
    try:
        with torch.device("meta"):
            wanted = sum(parameter.numel() for parameter in build().parameters())
    except Exception:
        return
    given = sum(tensor.numel() for tensor in tensors.values())
    if wanted > MOST_TIMES * (given + 1000):
        raise WeightsError(f"{file} holds {given} numbers for a network of {wanted} weights")


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], file: str, name: str = "this network") -> None:
    """Load `tensors` in float32 into `network`, after all names, shapes and values were checked.

    A network on the meta device takes the tensors over; one in memory copies their values. Raises `WeightsError`
    that names `file`, the network's `name`, and the differences.
    """
    _load(network, dict(tensors), file, name)


def rename_tensors(published: dict[str, Tensor], name: Callable[[str], str], file: str) -> dict[str, Tensor]:
    """Move tensors out of `published` to the names that `name` gives. Raises `WeightsError` for a name given twice."""
    tensors: dict[str, Tensor] = {}
    for key in list(published):
        if name(key) in tensors:
            raise WeightsError(f"{file} has {name(key)} twice, one as {key}")
        tensors[name(key)] = published.pop(key)
    return tensors


def without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take prefixes that all names share off them: those of data parallel, compiled and Lightning training."""
    found = dict(tensors)
    while prefix := next((p for p in PREFIXES if found and all(key.startswith(p) for key in found)), None):
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


def load_frozen(network: nn.Module, tensors: dict[str, Tensor], file: str, name: str) -> nn.Module:
    """Load as `load_strictly` does and return the network frozen, in evaluation mode.

    Empties `tensors`, so that a half-precision file and its float32 copy are never in memory together.
    """
    _load(network, tensors, file, name)
    return network.eval().requires_grad_(False)


def _load(network: nn.Module, tensors: dict[str, Tensor], file: str, name: str) -> None:
    own = network.state_dict()
    shapes = {key: tuple(value.shape) for key, value in own.items()}
    check_shapes(shapes, {key: tuple(value.shape) for key, value in tensors.items()}, file, name)
    for key, value in tensors.items():
        check_finite(key, value, file)
    largest_first = sorted(tensors, key=lambda key: tensors[key].numel(), reverse=True)
    weights = {
        key: pop_float(tensors, key, file) if own[key].is_floating_point() else tensors.pop(key)
        for key in largest_first
    }
    network.load_state_dict(weights, assign=any(value.is_meta for value in own.values()))


def pop_float(tensors: dict[str, Tensor], key: str, file: str) -> Tensor:
    """Remove `tensors[key]` and return it in float32. Raises `WeightsError` for a tensor that is not floating-point."""
    value = tensors.pop(key)
    if not value.is_floating_point():
        raise WeightsError(f"{file}: {key} is of type {value.dtype}, not torch.float32")
    return value.float()


def _some(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
