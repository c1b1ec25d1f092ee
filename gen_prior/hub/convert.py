"""Pickled state dict -> safetensors in our cache, read with `weights_only=True`, converted once for each content."""

from __future__ import annotations

import argparse
import atexit
import hashlib
import logging
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from torch import Tensor

from gen_prior.errors import OutputError, WeightsError
from gen_prior.hub.tensors import HashedPath, describe_bytes, hashed, read_shapes, save_safetensors
from gen_prior.util.reading import open_regular

log = logging.getLogger(__name__)


WRAPPERS = ("state_dict", "model_state_dict", "generator", "model", "net")
"""Keys under which checkpoints of training keep the weights."""
SAFE: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [argparse.Namespace]
"""Classes in checkpoints of training that hold settings; to make one runs no code of the file."""


def cache_folder() -> Path:
    """Folder of converted weights and code statistics, `$HF_HOME/gen-prior`."""
    return Path(constants.HF_HOME) / "gen-prior"


def converted_path(sha256: str) -> Path:
    """Path in the cache for the conversion of the pickled file with this hash."""
    return cache_folder() / "converted" / f"{sha256}.safetensors"


def find_converted(sha256: str) -> Path | None:
    """Find the conversion of the file with this hash, None where there is none; a damaged one is deleted."""
    usual = converted_path(sha256)
    for path in (usual, *(folder / usual.name for folder in _temporary)):
        if path.is_file():
            try:
                read_shapes(path)
                return path
            except WeightsError:
                path.unlink(missing_ok=True)
    return None


def convert(path: Path, sha256: str, source: str, revision: str | None) -> Path:
    """Convert the pickled state dict `path`, of hash `sha256`, to safetensors, once for each content.

    Returns the new file. Where the cache cannot be written, it goes to a temporary folder that ends with the process.
    Raises `WeightsError` for a file without a state dict, `OutputError` where it cannot be written anywhere.
    """
    if (found := find_converted(sha256)) is not None:
        return found
    log.warning("%s is a pickled file: reading tensors only (weights_only=True), converting it to safetensors", source)
    tensors = read_pickled(hashed(path, sha256))
    metadata = {"format": "pt", "source": source, "sha256": sha256} | ({"revision": revision} if revision else {})
    target = converted_path(sha256)
    try:
        try:
            save_safetensors(target, tensors, metadata)
        except OSError as error:
            log.warning("cannot keep the conversion in %s (%s)", target.parent, error)
            target = _temporary_folder() / target.name
            save_safetensors(target, tensors, metadata)
        return target
    except OSError as error:
        raise OutputError(
            f"cannot write the conversion of {source}: {error.strerror or error}",
            fix="free some space, or point HF_HOME to another disk",
        ) from error


_temporary: list[Path] = []
"""At most one temporary folder, for conversions that cannot be written to the cache."""


def _temporary_folder() -> Path:
    if not _temporary:
        _temporary.append(Path(tempfile.mkdtemp(prefix="gen-prior-")))
        atexit.register(shutil.rmtree, _temporary[0], ignore_errors=True)
    return _temporary[0]


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Read `{name: tensor}` of a pickled state dict with `weights_only=True`.

    A copy of our own is hashed and parsed, since the tensors are mapped from it: another process may rewrite `path`.
    Raises `WeightsError`, also for another hash than that of a `HashedPath`.
    """
    expected = path.sha256 if isinstance(path, HashedPath) else None
    with tempfile.TemporaryDirectory(prefix="gen-prior-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "copy"
        digest = _copy(path, copy)
        if expected not in (None, digest):
            raise WeightsError(f"{path} was changed while it was read", fix="load it again when nobody writes to it")
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(SAFE):
                warnings.simplefilter("ignore")  # about pickle protocols; a file that cannot be read raises anyway
                state = torch.load(copy, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(copy))
        except Exception as error:  # damaged pickles fail in any way
            raise _why_not(path, copy, error) from error
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"{path} is not a pickled dictionary of tensors: it holds a {type(state).__name__}")
    if others := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        kind = type(state[others[0]]).__name__
        raise WeightsError(f"{path} is not a pickled dictionary of tensors: {others[0]!r} in it is of type {kind}")
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if not _is_plain(value):
            raise WeightsError(f"{path}: {key} is sparse, quantised or larger than its data")
        storage = value.untyped_storage().data_ptr()
        tensors[str(key)] = value.contiguous() if storage not in seen else value.clone()
        seen.add(storage)
    return tensors


def _why_not(path: Path, copy: Path, error: Exception) -> WeightsError:
    """The reason why a pickled file is not read."""
    if forbidden := re.search(r"GLOBAL (\S+) was not an allowed", str(error)):
        return WeightsError(
            f"{path} is not a pickled dictionary of tensors: it holds a {forbidden[1]}, which could run code when read",
            fix="if you trust the file: torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW_FILE)",
        )
    if "TorchScript" in str(error):
        return WeightsError(
            f"{path} is a TorchScript archive, not a pickled dictionary of tensors",
            fix="gp.Classifier(torch.jit.load(FILE)), whose output can be read",
        )
    return WeightsError(f"{path} is {describe_bytes(copy)}, not a pickled dictionary of tensors")


def _copy(path: Path, copy: Path) -> str:
    """Copy a regular file and return the SHA-256 of the copy. Raises `WeightsError` and `OutputError`."""
    digest = hashlib.sha256()
    try:
        source = open_regular(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        with source, copy.open("wb") as out:
            while block := source.read(1 << 20):
                digest.update(block)
                out.write(block)
    except OSError as error:
        raise OutputError(
            f"cannot copy {path} to {copy.parent}: {error.strerror or error}",
            fix="free some space, or point HF_HOME and TMPDIR to another disk",
        ) from error
    return digest.hexdigest()


def _is_plain(value: Tensor) -> bool:
    """True if a tensor is dense and stores all its values: with strides of zero, few bytes can claim a terabyte."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()
