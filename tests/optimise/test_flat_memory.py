"""Memory of a synthesis into a folder: that of one batch, however many targets there are; and too little of it."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import os
import resource
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gen_prior as gp
from gen_prior.optimise import engine
from gen_prior.optimise.loop import Loop

M_MMAP_THRESHOLD = -3
"""An option of `mallopt`, which sets the size from which the C library asks the system for each block."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Python's garbage collector, which would free a cycle of references some time, is off."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_nothing_of_a_batch_outlives_it(
    monkeypatch: pytest.MonkeyPatch,
    no_collector: None,
    tiny_classifier: gp.Classifier,
    tiny_generator: gp.Generator,
    tmp_path: Path,
) -> None:
    alive: list[int] = []
    loops: list[weakref.ref[Loop]] = []

    class Watched(Loop):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            loops.append(weakref.ref(self))
            alive.append(sum(loop() is not None for loop in loops))

    monkeypatch.setattr(engine, "Loop", Watched)
    targets = ["bee", "conv2:3", "ant", "cup"] * 3
    gp.synthesize(tiny_classifier, targets, tiny_generator, batch=2, steps=2, out=tmp_path)
    assert len(loops) >= len(targets)
    assert max(alive) <= 2  # those of one batch, or of the trials of one


def in_fork(limit: int | None, **options: Any) -> dict[str, Any]:
    """Synthesise in a fork of this process, which may have `limit` bytes more of addresses than it has."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        answer: dict[str, Any] = {"error": "ended early"}
        try:
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**20)  # what is freed goes back at once
            before = status("VmSize")
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_AS, (before + limit, before + limit))
            result = gp.synthesize(options.pop("classifier"), ["bee", "cup"], large(), seeds=2, steps=2, **options)
            digest = hashlib.sha256(result.images.numpy().tobytes()).hexdigest()
            answer = {"batches": result.settings["batches"], "images": digest, "used": status("VmPeak") - before}
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        finally:
            os.write(writer, json.dumps(answer).encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        found: dict[str, Any] = json.loads(pipe.read())
    os.waitpid(child, 0)
    return found


def large() -> gp.Generator:
    """Images of 7 MB, so that the states of several are more than the rest of the process needs."""
    return gp.load_generator("pixel-raw", image_size=768)


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def test_a_batch_that_does_not_fit_is_halved(tiny_classifier: gp.Classifier) -> None:
    whole, single = (in_fork(None, classifier=tiny_classifier, batch=batch) for batch in (4, 1))
    assert whole["batches"] == [4]
    assert whole["used"] > single["used"] + 40 * 2**20
    halved = in_fork(single["used"] + (whole["used"] - single["used"]) // 3, classifier=tiny_classifier, batch=4)
    assert halved["batches"] in ([2, 2], [1, 1, 1, 1])
    assert halved["images"] == whole["images"] == single["images"]
    for batch in (None, 4):
        refused = in_fork(single["used"] // 3, classifier=tiny_classifier, batch=batch)
        assert "DeviceError: even one image at a time does not fit in the memory of cpu" in refused["error"]
