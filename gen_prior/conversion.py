"""Pickled state dicts -> safetensors in our cache: read as weights only, converted once for each content."""

from __future__ import annotations

import logging
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import constants
from torch import Tensor

from gen_prior.errors import WeightsError
from gen_prior.tensor_files import describe_bytes, read_shapes, save_safetensors

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where conversions and statistics are kept: `$HF_HOME/gen-prior`."""
    return Path(constants.HF_HOME) / "gen-prior"


def converted_path(sha256: str) -> Path:
    """Where the safetensors conversion of the pickled file with this hash is, or would be."""
    return cache_folder() / "converted" / f"{sha256}.safetensors"


def convert(path: Path, sha256: str, source: str, revision: str | None) -> Path:
    """A pickled state dict -> its safetensors conversion in our cache, made once for each content.

    Where the cache cannot be written, the conversion goes to a temporary folder. Raises `WeightsError`.
    """
    target = converted_path(sha256)
    if target.is_file():
        try:
            read_shapes(target)
            return target
        except WeightsError:
            target.unlink(missing_ok=True)
    log.warning("%s is a pickled file: reading tensors only (weights_only=True), converting it to safetensors", source)
    tensors = _unpickle(path)
    metadata = {"format": "pt", "source": source, "sha256": sha256} | ({"revision": revision} if revision else {})
    try:
        save_safetensors(target, tensors, metadata)
    except OSError as error:
        log.warning("cannot keep the conversion in %s (%s)", target.parent, error)
        target = Path(tempfile.mkdtemp(prefix="gen-prior-")) / target.name
        save_safetensors(target, tensors, metadata)
    return target


def _unpickle(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols: what cannot be read raises
            state = torch.load(path, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(path))
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        raise WeightsError(f"{path} is {describe_bytes(path)}, not a pickled dictionary of tensors") from error
    for wrapper in ("state_dict", "generator", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()) or not state:
        raise WeightsError(f"{path} is not a pickled dictionary of tensors")
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        storage = value.untyped_storage().data_ptr()
        tensors[str(key)] = value.contiguous() if storage not in seen else value.clone()
        seen.add(storage)
    return tensors
