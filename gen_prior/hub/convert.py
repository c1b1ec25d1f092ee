"""Pickled state dicts -> safetensors in our cache: read as weights only, converted once for each content."""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import constants
from torch import Tensor

from gen_prior.errors import OutputError, WeightsError
from gen_prior.hub.tensors import describe_bytes, read_shapes, save_safetensors

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where conversions and statistics are kept: `$HF_HOME/gen-prior`."""
    return Path(constants.HF_HOME) / "gen-prior"


def converted_path(sha256: str) -> Path:
    """Where the safetensors conversion of the pickled file with this hash is, or would be."""
    return cache_folder() / "converted" / f"{sha256}.safetensors"


def find_converted(sha256: str) -> Path | None:
    """The conversion of the file with this hash, or None where there is none; a damaged one is removed."""
    usual = converted_path(sha256)
    for path in (usual, *(folder / usual.name for folder in _spare)):
        if path.is_file():
            try:
                read_shapes(path)
                return path
            except WeightsError:
                path.unlink(missing_ok=True)
    return None


def convert(path: Path, sha256: str, source: str, revision: str | None) -> Path:
    """A pickled state dict -> its safetensors conversion in our cache, made once for each content.

    Where the cache cannot be written, the conversion goes to a temporary folder of this process. Raises
    `WeightsError`, `OutputError` where there is no space for it anywhere.
    """
    if (found := find_converted(sha256)) is not None:
        return found
    log.warning("%s is a pickled file: reading tensors only (weights_only=True), converting it to safetensors", source)
    tensors = read_pickled(path)
    metadata = {"format": "pt", "source": source, "sha256": sha256} | ({"revision": revision} if revision else {})
    target = converted_path(sha256)
    try:
        save_safetensors(target, tensors, metadata)
        return target
    except OSError as error:
        log.warning("cannot keep the conversion in %s (%s)", target.parent, error)
    try:
        target = _spare_folder() / target.name
        save_safetensors(target, tensors, metadata)
        return target
    except OSError as error:
        raise OutputError(
            f"no place for the conversion of {source}: {error.strerror or error}",
            fix="free some space, or point HF_HOME to another disk",
        ) from error


_spare: list[Path] = []
"""The temporary folder for conversions that the cache does not take, once there is one."""


def _spare_folder() -> Path:
    if not _spare:
        _spare.append(Path(tempfile.mkdtemp(prefix="gen-prior-")))
        atexit.register(shutil.rmtree, _spare[0], ignore_errors=True)
    return _spare[0]


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickled state dict, read as weights only. Raises `WeightsError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols: what cannot be read raises
            state = torch.load(path, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(path))
    except Exception as error:  # damaged pickles fail in any way
        raise WeightsError(f"{path} is {describe_bytes(path)}, not a pickled dictionary of tensors") from error
    for wrapper in ("state_dict", "generator", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()) or not state:
        raise WeightsError(f"{path} is not a pickled dictionary of tensors")
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if not _is_plain(value):
            raise WeightsError(f"{path}: {key} is a tensor of a kind that no checkpoint needs, or larger than its data")
        storage = value.untyped_storage().data_ptr()
        tensors[str(key)] = value.contiguous() if storage not in seen else value.clone()
        seen.add(storage)
    return tensors


def _is_plain(value: Tensor) -> bool:
    """Whether a tensor's numbers are all there: a few bytes can claim to be a terabyte by strides of zero."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_complex():
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()
