"""SIGKILL of the driver and of the workers of an atlas: nothing finished is lost, made twice, or different."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from gen_prior.atlas.reader import load_atlas

WORDS = (
    "atlas", "atlas_stand_in:build", "--layers", "0", "2", "-g", "pixel-raw", "--steps", "1500", "--device", "cpu",
    "-q",
)  # fmt: skip
TESTS = Path(__file__).parent.parent


def start(out: Path, workers: int) -> subprocess.Popen[bytes]:
    """A driver of its own."""
    command = [sys.executable, "-c", "from gen_prior.cli import main; main()", *WORDS]
    path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    return subprocess.Popen([*command, "--workers", str(workers), "--out", out], env=os.environ | {"PYTHONPATH": path})


def workers_of(driver: int) -> list[int]:
    with suppress(OSError):  # each is the child of the thread that started it
        return [int(w) for path in Path(f"/proc/{driver}/task").glob("*/children") for w in path.read_text().split()]
    return []


def finished(out: Path) -> dict[str, int]:
    """Files of finished neurons, and records of finished shards -> when they were written."""
    found = {}
    for path in [*out.glob("shards/.*.partial/[0-9]*.safetensors"), *out.glob("records/[0-9]*.json")]:
        with suppress(FileNotFoundError):  # published since
            found[str(path.relative_to(out))] = path.stat().st_mtime_ns
    return found


def files(out: Path) -> dict[str, bytes]:
    """All that an atlas holds but the times."""
    found = [path for path in out.rglob("*") if path.is_file() and path.parent.name != "records"]
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def check_nothing_lost(out: Path, before: dict[str, int], figures: Counter[str]) -> None:
    """Every neuron that was finished still is, as it was written then, or its shard is."""
    now = finished(out)
    for name, written in before.items():
        shard = Path(name).parent.name[1:6]
        if name.startswith("shards/") and name not in now and f"records/{shard}.json" in now:
            continue
        figures["lost or made twice"] += now.get(name) != written
    assert not figures["lost or made twice"]


def wait_for_a_neuron(driver: subprocess.Popen[bytes], out: Path, source: random.Random) -> None:
    """Wait until one more neuron is finished, and a little longer; one time in five, only a little."""
    before, limit = finished(out), time.monotonic() + (120 if source.random() > 0.2 else 0)
    while finished(out) == before and driver.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    with suppress(subprocess.TimeoutExpired):
        driver.wait(source.uniform(0, 0.6))


@pytest.mark.chaos
def test_killed_drivers_and_workers(tmp_path: Path, figures: Counter[str]) -> None:
    source, kills = random.Random(5), 30
    assert start(tmp_path / "whole", 1).wait() == 0
    expected, trial = files(tmp_path / "whole"), 0
    while figures["tried"] < kills:
        out, trial = tmp_path / f"killed-{trial}", trial + 1
        driver = start(out, 2)
        while figures["tried"] < kills:
            wait_for_a_neuron(driver, out, source)
            if driver.poll() is not None:
                break
            before, workers = finished(out), workers_of(driver.pid)
            kind = source.choice(["driver", "worker"]) if workers else "driver"
            with suppress(ProcessLookupError):
                os.kill(driver.pid if kind == "driver" else source.choice(workers), signal.SIGKILL)
            figures["tried"] += 1
            figures[f"{kind}s killed"] += 1
            if kind == "driver":
                driver.wait()
                time.sleep(source.uniform(0, 0.5))  # its workers are finishing their neurons, or have ended
                driver = start(out, 2)
            check_nothing_lost(out, before, figures)
        if driver.wait() != 0:  # three workers killed over one shard in a row, as if it were to blame
            figures["shards set aside"] += len(load_atlas(out).status()["failed"])
            assert load_atlas(out).retry_failed()
            assert start(out, 2).wait() == 0
        assert files(out) == expected
        assert not load_atlas(out).status()["failed"]
        figures["survived"] += 1
