"""Devices that exist, precisions that exist, memory that is known."""

from __future__ import annotations

import logging
import platform
from pathlib import Path

import pytest
import torch

from gen_prior.errors import DeviceError, OptionError
from gen_prior.util.devices import _warn_of_slow_bfloat16, autocast, free_memory, resolve_device


def test_cpu_and_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("mps")
    assert resolve_device("mps") == torch.device("mps")


def test_cuda_devices_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert resolve_device("auto") == torch.device("cuda", 1)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match="this machine has 2 CUDA devices"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("device", "match"),
    [
        ("cuda", "this machine has 0 CUDA devices"),
        ("cuda:1", "--device auto or --device cpu"),
        ("mps", "no device 'mps'"),
        ("gpu", "unknown device 'gpu'; allowed: auto, cpu"),
        ("cuda:x", "unknown device"),
        ("", "unknown device"),
        ("meta", "unsupported device 'meta'"),
    ],
)
def test_devices_that_are_not_there(device: str, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=match) as caught:
        resolve_device(device)
    assert "\n" not in str(caught.value)


def test_precision() -> None:
    cpu = torch.device("cpu")
    left, right = torch.rand(2, 3), torch.rand(3, 2)
    for precision, dtype in (("fp32", torch.float32), ("auto", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(precision, cpu):
            assert (left @ right).dtype == dtype
    with pytest.raises(OptionError, match="fp32, bf16, auto"):
        autocast("fp16", cpu)


def test_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    texts = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   4000 kB\n"}

    def read(path: Path, *arguments: object) -> str:
        if str(path) not in texts:
            raise FileNotFoundError(path)
        return texts[str(path)]

    monkeypatch.setattr(Path, "read_text", read)
    assert free_memory(cpu) == 4_096_000
    texts |= {"/sys/fs/cgroup/memory.max": "3000\n", "/sys/fs/cgroup/memory.current": "1000\n"}
    assert free_memory(cpu) == 2000
    texts["/sys/fs/cgroup/memory.max"] = "max\n"
    assert free_memory(cpu) == 4_096_000
    texts.clear()
    assert free_memory(cpu) is None
    assert free_memory(torch.device("mps")) is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 10))
    assert free_memory(torch.device("cuda")) == 5


@pytest.mark.parametrize("supported", [True, False])
def test_emulated_bfloat16_is_warned_of_once(
    supported: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    _warn_of_slow_bfloat16.cache_clear()
    with caplog.at_level(logging.WARNING):
        for precision in ("fp32", "bf16", "bf16"):
            autocast(precision, torch.device("cpu"))
    _warn_of_slow_bfloat16.cache_clear()
    assert [record.message.partition(",")[0] for record in caplog.records] == (
        [] if supported else ["this processor has no bfloat16 instructions"]
    )
