"""Safetensors files <-> `{name: tensor}`, every value finite, written atomically."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from gen_prior.errors import WeightsError
from gen_prior.util.devices import free_memory
from gen_prior.util.files import atomic_write
from gen_prior.util.reading import open_regular

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8, "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64,
    "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "C64": torch.complex64,
}  # fmt: skip
"""Types of safetensors files, https://github.com/huggingface/safetensors."""
MAX_HEADER_BYTES = 100_000_000
"""Bytes; the limit of the safetensors library too."""


class HashedPath(Path if TYPE_CHECKING else type(Path())):  # type: ignore[misc]
    """A path with the SHA-256 that its content must have when it is read: another process may rewrite the file."""

    sha256: str | None = None


def hashed(path: Path, sha256: str | None = None) -> HashedPath:
    """`path` with the hash that its content has now, or must have."""
    found = HashedPath(path)
    found.sha256 = sha256 if sha256 is not None else file_sha256(path)
    return found


def file_sha256(path: Path) -> str:
    """SHA-256 of a regular file as a hex digest. Raises `OSError`."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def describe_bytes(path: Path) -> str:
    """Say, for an error message, what a file that cannot be read seems to be."""
    with open_regular(path) as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    if start.lstrip()[:1] == b"<":
        return "a web page"
    with suppress(zipfile.BadZipFile, OSError, ValueError, NotImplementedError), zipfile.ZipFile(path) as archive:
        if not any(name.endswith("data.pkl") for name in archive.namelist()):
            return "a zip archive that PyTorch did not write, perhaps of another framework"
    return "damaged or of another kind"


def save_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write `tensors` as safetensors, atomically; the same content gives the same bytes. Raises `OSError`."""
    with atomic_write(path) as (partial,):
        try:
            save_file(dict(tensors), partial, dict(metadata))
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error)) from error
        with partial.open("r+b") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            header["__metadata__"] = dict(sorted(metadata.items()))  # safetensors writes it in a random order
            text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode(errors="backslashreplace")
            if len(text) <= size:
                file.seek(8)
                file.write(text.ljust(size))


class _Entry(NamedTuple):
    """A tensor in a safetensors file: bytes `begin` to `end` after the header."""

    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class _Header(NamedTuple):
    metadata: dict[str, str]
    entries: list[_Entry]
    """In the order of their bytes, which they cover without gaps."""
    data: bytes
    """The header as it is in the file."""


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read `{name: shape}` of a safetensors file, without its data. Raises `WeightsError`."""
    return {entry.key: entry.shape for entry in _header_of(path).entries}


def read_file_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file. Raises `WeightsError`."""
    return _header_of(path).metadata


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read `{name: tensor}` of a safetensors file, of the very bytes that have the hash of a `HashedPath`.

    Raises `WeightsError` for a damaged file, values that are not finite, and a file that changed since it was hashed.
    """
    tensors: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    expected = path.sha256 if isinstance(path, HashedPath) else None
    try:
        with open_regular(path) as file:
            header = _read_header(path, file)
            digest.update(header.data)
            for entry in header.entries:
                data = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
                into = memoryview(data.numpy())  # type: ignore[arg-type]
                if file.readinto(into) != len(into):  # type: ignore[attr-defined]
                    raise WeightsError(f"{path} was cut while it was read", fix="load it again")
                digest.update(into)
                tensors[entry.key] = data.view(entry.dtype).view(entry.shape)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    if expected is not None and digest.hexdigest() != expected:
        raise WeightsError(f"{path} was changed while it was read", fix="load it again when nobody writes to it")
    for key, value in tensors.items():
        check_finite(key, value, str(path))
    return tensors


def check_finite(key: str, value: Tensor, file: str) -> None:
    """Raise `WeightsError` for a tensor with NaN or infinity in it."""
    if not value.is_floating_point() or not value.numel():
        return
    comparable = value if value.element_size() > 1 else value.float()  # torch does not compare 8-bit floats
    if not all(map(math.isfinite, comparable.aminmax())):
        raise WeightsError(f"{file}: {key} holds values that are not finite")


def _header_of(path: Path) -> _Header:
    try:
        with open_regular(path) as file:
            return _read_header(path, file)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_header(path: Path, file: BinaryIO) -> _Header:
    """Read and check everything before the data. Raises `WeightsError`."""
    size = file.seek(0, 2)
    file.seek(0)
    free = free_memory(torch.device("cpu"))
    if free is not None and size > free:
        raise WeightsError(f"{path} has {size} bytes, and {free} bytes of memory are free", fix="use another machine")
    try:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        text = file.read(length)
        content = json.loads(text, object_pairs_hook=_unique_keys)
        metadata = content.pop("__metadata__", {}) or {}
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("metadata that is not text")
        entries = sorted((_entry(key, found) for key, found in content.items()), key=lambda entry: entry[3:])
        end = 0
        for entry in entries:
            if entry.begin != end:
                raise ValueError(f"{entry.key} begins at {entry.begin}, not at {end}")
            end = entry.end
        if end != size - 8 - length:
            raise ValueError(f"{size - 8 - length} bytes of data where {end} are described")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} is {describe_bytes(path)}, not a safetensors file ({error})") from error
    return _Header(metadata, entries, length.to_bytes(8, "little") + text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a name that occurs twice")
    return dict(pairs)


def _entry(key: str, found: dict[str, Any]) -> _Entry:
    """The entry of one tensor. Raises `ValueError`, `TypeError`, `LookupError` or `AttributeError` for a bad one."""
    begin, end = found["data_offsets"]
    shape = found["shape"]
    if not all(type(number) is int and 0 <= number < 2**63 for number in (begin, end, *shape)):
        raise ValueError(f"{key} has sizes that are not whole numbers")
    dtype = DTYPES[found["dtype"]]
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise ValueError(f"{key} has shape {shape} and {end - begin} bytes")
    return _Entry(key, dtype, tuple(shape), begin, end)
