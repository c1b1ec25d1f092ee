"""Loading of networks of diffusers' own classes, with weights that are read and checked here.

No code of a repository is executed: its configuration only sets arguments of the constructor.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from torch import Tensor, nn

from gen_prior.errors import MissingExtraError, WeightsError
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import build_on_meta, check_shapes, load_frozen
from gen_prior.hub.tensors import read_shapes, read_tensors

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
LEGACY = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the parts of an attention block before diffusers 0.16 (2023) -> today's."""
MOST_COMPUTED = 2**26
"""Largest number of elements in buffers that a network computes when built, which no checkpoint's size bounds."""


def read_network(
    files: Files, class_name: str, config: dict[str, Any], folder: str = "", variant: str | None = None
) -> Any:
    """The network of diffusers' class `class_name` with the weights in `folder` of `files`; checks names and shapes.

    `variant`: that of the weights ("fp16" for half precision), as diffusers names files. Raises `MissingExtraError`,
    `WeightsError`, `DownloadError`.
    """
    kind = find_class(class_name)
    file = f"{files.source}/{folder}config.json"
    config = {key: value for key, value in config.items() if key in inspect.signature(kind.__init__).parameters}

    def build() -> nn.Module:
        network: nn.Module = kind.from_config(config)
        return network

    network = build_on_meta(build, file)
    names = [name if variant is None else name.replace(".", f".{variant}.", 1) for name in WEIGHTS]
    path = files.weights(*(folder + name for name in names))
    origin = f"{files.source}/{folder}{path.name}"
    found = read_shapes(path)
    own_names = _names(network, found)
    check_shapes(
        {key: tuple(value.shape) for key, value in network.state_dict().items()},
        {own_names[key]: shape for key, shape in found.items() if key in own_names},
        origin,
        class_name,
    )
    computed = _computed(network, build, file)
    tensors = read_tensors(path)
    load_frozen(
        network, {own_names[key]: tensors.pop(key) for key in list(tensors) if key in own_names}, origin, class_name
    )
    for name, value in computed.items():
        module, _, buffer = name.rpartition(".")
        setattr(network.get_submodule(module), buffer, value)
    return network


def _names(network: nn.Module, found: dict[str, Any]) -> dict[str, str]:
    """Names in the file -> names in the network, as diffusers maps them, without the tensors that it ignores."""
    ignored = getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ()
    own = network.state_dict().keys()
    names = {key: key for key in found if key in own or key not in ignored}
    for path, module in network.named_modules():
        if getattr(module, "_from_deprecated_attn_block", False):
            for old, new in LEGACY.items():
                for part in ("weight", "bias"):
                    key, current = f"{path}.{old}.{part}", f"{path}.{new}.{part}"
                    if key in found and current not in found:
                        names[key] = current
    return names


def _computed(network: nn.Module, build: Any, file: str) -> dict[str, Tensor]:
    """Buffers that no checkpoint holds, such as position tables, from a second network, which is built in memory."""
    stored = network.state_dict().keys()
    wanted = {name: buffer.numel() for name, buffer in network.named_buffers() if name not in stored}
    if sum(wanted.values()) > MOST_COMPUTED:
        largest = max(wanted, key=lambda name: wanted[name])
        raise WeightsError(f"{file} asks for {wanted[largest]} elements in {largest}, the limit is {MOST_COMPUTED}")
    if not wanted:
        return {}
    made = build()
    return {name: buffer for name, buffer in made.named_buffers() if name in wanted}


def find_class(class_name: str) -> Any:
    """diffusers' class of this name. Raises `MissingExtraError` if it or a package that it needs is not installed."""
    diffusers = _import("diffusers")
    if class_name == "AutoencoderRAE":  # whose encoders are transformers' own
        _import("transformers")
    kind = getattr(diffusers, class_name, None)
    if kind is None:
        raise MissingExtraError(
            f"the installed diffusers {diffusers.__version__} has no {class_name}",
            fix="pip install --upgrade diffusers",
        )
    return kind


def require_diffusers() -> None:
    """Raises `MissingExtraError` if diffusers is not installed; called before any download."""
    _import("diffusers")


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(f"this generator needs {package}", fix="pip install 'gen-prior[diffusers]'") from error


__all__ = ["find_class", "read_network", "require_diffusers"]
