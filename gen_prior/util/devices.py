"""Devices, precision and free memory."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from gen_prior.errors import DeviceError, OptionError
from gen_prior.util.words import counted

log = logging.getLogger(__name__)
PRECISIONS = ("fp32", "bf16", "auto")
OUT_OF_MEMORY = ("allocate memory", "out of memory", "ALLOC_FAILED", "could not create a primitive")
"""Parts of the messages of plain `RuntimeError`s that report missing memory (CPU allocator, cuBLAS, cuDNN, oneDNN)."""


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device that "auto" (CUDA, then MPS, then CPU), "cpu", "cuda", "cuda:N" or "mps" stands for.

    Raises `DeviceError` for a device that does not exist on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {str(device)!r}; allowed: auto, cpu, cuda, cuda:N, mps") from error
    if resolved.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (resolved.index or 0) >= count:
            found = f"this machine has {counted(count, 'CUDA device')}"
            raise DeviceError(f"no device {str(device)!r}: {found}", fix="use --device auto or --device cpu")
    elif resolved.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("no device 'mps' here", fix="use --device auto or --device cpu")
    elif resolved.type != "cpu":
        raise DeviceError(f"unsupported device {str(device)!r}; allowed: auto, cpu, cuda, cuda:N, mps")
    return resolved


def as_like(value: Tensor | float, other: Tensor) -> Tensor:
    """`value` as a tensor with the type and device of `other`; a float is filled in there, without a host sync."""
    if isinstance(value, Tensor):
        return value.to(other)
    return torch.full((), value, dtype=other.dtype, device=other.device)


@contextmanager
def one_thread(device: torch.device) -> Iterator[int]:
    """On a CPU, kernels in this block run on one thread, so that their bits do not depend on how many there are.

    The block's variable is how many threads they may use outside it; 1 on other devices, where nothing changes.
    """
    if device.type != "cpu":
        yield 1
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def is_missing_memory(error: MemoryError | RuntimeError) -> bool:
    """True for an error that reports that memory, of the machine or of an accelerator, has run out."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(text in str(error) for text in OUT_OF_MEMORY)


def free_memory(device: torch.device) -> int | None:
    """Free bytes on `device`, None where unknown. On the CPU, the least that the machine and its cgroup have left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    left = []
    with suppress(OSError, ValueError, IndexError):
        meminfo = Path("/proc/meminfo").read_text().split("MemAvailable:")[1]
        left.append(int(meminfo.split()[0]) * 1024)
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        left.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, min(left)) if left else None


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision for a forward pass; "auto" is bf16 on CUDA devices with native bf16, else fp32.

    Raises `OptionError` for another precision.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    wanted = precision == "bf16" or (precision == "auto" and device.type == "cuda" and has_bfloat16(device))
    if wanted and device.type == "cpu":
        _warn_of_slow_bfloat16()
    return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()


def has_bfloat16(device: torch.device) -> bool:
    """Return whether `device` has bfloat16 instructions; emulating them takes several times longer than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


@cache
def _warn_of_slow_bfloat16() -> None:
    """Say once if this processor has to emulate bfloat16."""
    if platform.machine().lower() in ("x86_64", "amd64") and not has_bfloat16(torch.device("cpu")):
        log.warning("this processor has no bfloat16 instructions, so bf16 is slower than fp32. Fix: precision='fp32'")


def environment(device: torch.device) -> dict[str, str]:
    """Device and versions that bit-identity depends on."""
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "gen-prior": _version(),
        "python": platform.python_version(),
    }


@cache
def _version() -> str:
    """The version of this package; reading it takes a millisecond, which every synthesis would pay."""
    return metadata.version("gen-prior")
