"""Safetensors files <-> `{name: tensor}`, every value finite, written atomically."""

from __future__ import annotations

import errno
import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gen_prior.errors import WeightsError
from gen_prior.util.files import atomic_write


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as a hex digest."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def describe_bytes(path: Path) -> str:
    """Say, for an error message, what a file that cannot be read seems to be."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    if start.lstrip()[:1] == b"<":
        return "a web page"
    return "damaged or of another kind"


def save_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write `tensors` as safetensors, atomically. Raises `OSError`."""
    with atomic_write(path) as (partial,):
        try:
            save_file(dict(tensors), partial, dict(metadata))
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error)) from error


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read `{name: shape}` of a safetensors file, without its data. Raises `WeightsError`."""
    with _open(path) as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


def read_file_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file. Raises `WeightsError`."""
    with _open(path) as file:
        return dict(file.metadata() or {})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read `{name: tensor}` of a safetensors file. Raises `WeightsError` for a damaged file or values not finite."""
    tensors: dict[str, Tensor] = {}
    with _open(path) as file:
        for key in file.keys():  # noqa: SIM118
            value = file.get_tensor(key)
            check_finite(key, value, str(path))
            tensors[key] = value
    return tensors


def check_finite(key: str, value: Tensor, file: str) -> None:
    """Raise `WeightsError` for a tensor with NaN or infinity in it."""
    if not value.is_floating_point() or not value.numel():
        return
    comparable = value if value.element_size() > 1 else value.float()  # torch does not compare 8-bit floats
    if not all(map(math.isfinite, comparable.aminmax())):
        raise WeightsError(f"{file}: {key} holds values that are not finite")


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", backend="pread") as file:  # a mapped file would change under us
            yield file
    except SafetensorError as error:
        raise WeightsError(f"{path} is {describe_bytes(path)}, not a safetensors file ({error})") from error
