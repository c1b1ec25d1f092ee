"""Very many neurons of a network that costs next to nothing: the memory of driver and workers, and a restart."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gen_prior.atlas.reader import load_atlas

COMMAND = [sys.executable, "-c", "from gen_prior.cli import main; main()", "atlas"]
TESTS = Path(__file__).resolve().parent.parent / "tests"
EVERY = 0.5
"""Seconds between two looks."""


def simulation(folder: Path, count: int) -> dict[str, Any]:
    """Make `count` neurons by two workers, with a SIGKILL of the driver after nine tenths of them, and measure.

    Memory is resident memory in MB, at each tenth of the shards, and the highest of each process up to its end. A
    restart ends when the first neuron of the new workers is on the disk; the pages are those of the whole atlas.
    """
    run = _Run(folder, count)
    found: dict[str, Any] = {"neurons": count, "shards": run.shards, "memory": []}
    began, kill_at, killed = time.time(), run.shards * 9 // 10, False
    while run.process.poll() is None:
        time.sleep(EVERY)
        done = run.published()
        run.watch()
        if done < run.shards and done >= len(found["memory"]) * run.shards / 10:
            found["memory"].append({"shards": done, "seconds": time.time() - began} | run.memory())
        if not killed and done >= kill_at:
            killed = True
            found["restart"] = run.restart()
    found["seconds"] = time.time() - began
    found["highest_mb"] = run.highest
    found["exit_code"] = run.process.returncode
    found["finished"] = load_atlas(run.out).status()["finished"]
    return found | size_of(run.out)


def restarts(folder: Path, count: int, kills: int = 5) -> dict[str, Any]:
    """Seconds of several restarts of a simulation that was stopped and lies in `folder`, each after a SIGKILL."""
    run = _Run(folder, count)
    found: list[dict[str, Any]] = []
    while len(found) < kills:
        before = run.neurons()
        while run.neurons() <= before and run.process.poll() is None:
            time.sleep(EVERY)
        if run.process.poll() is not None:
            raise SystemExit("the simulation ended before it was killed often enough")
        found.append(run.restart())
    run.process.send_signal(signal.SIGKILL)
    return {"neurons": count, "load": os.getloadavg()[0], "restarts": found}


class _Run:
    """The command that makes the atlas, and what is seen of it from outside."""

    def __init__(self, folder: Path, count: int) -> None:
        self.out, self.log = folder / "simulation", folder / "log.txt"
        self.count, self.shards = count, 2 * -(-(count // 2) // 64)
        self.highest: dict[str, float] = {"driver": 0.0, "driver_with_pages": 0.0, "worker": 0.0}
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        words = ["atlas_stand_in:build_wide", "--layers", "1", "3", "--units", f"0-{self.count // 2 - 1}"]
        words += ["--steps", "1", "-g", "pixel-raw", "--workers", "2", "--device", "cpu", "--out", str(self.out)]
        paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.log.open("a") as log:
            return subprocess.Popen([*COMMAND, *words], env=os.environ | {"PYTHONPATH": paths}, stdout=log, stderr=log)

    def published(self) -> int:
        """Finished shards."""
        return sum(1 for _ in (self.out / "records").glob("*.json"))

    def neurons(self) -> set[Path]:
        """Neurons of shards that are being made, and records of those that are finished."""
        return {*self.out.glob("shards/.*.partial/[0-9]*.safetensors"), *self.out.glob("records/[0-9]*.json")}

    def memory(self) -> dict[str, Any]:
        """Resident memory of the driver and of its workers now."""
        return {
            "driver_mb": resident(self.process.pid),
            "workers_mb": [resident(pid) for pid in children(self.process.pid)],
        }

    def watch(self) -> None:
        """Note the highest memory; once there are no workers, the driver writes the pages."""
        now = self.memory()
        kind = "driver" if now["workers_mb"] else "driver_with_pages"
        self.highest[kind] = max(self.highest[kind], now["driver_mb"])
        self.highest["worker"] = max([self.highest["worker"], *now["workers_mb"]])

    def restart(self) -> dict[str, Any]:
        """Kill the driver, run the same command again, and time it until the first neuron that it adds.

        `processor_seconds` are those of the driver and of its busiest worker, one after the other: what remains on a
        quiet machine.
        """
        workers = children(self.process.pid)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in workers):  # each finishes its neuron
            time.sleep(0.02)
        before, began = self.neurons(), time.time()
        self.process = self._start()
        while self.neurons() <= before and self.process.poll() is None:
            time.sleep(0.02)
        seconds = time.time() - began
        used = processor_seconds(self.process.pid) + max(map(processor_seconds, children(self.process.pid)), default=0)
        return {"after_shards": self.published(), "seconds": seconds, "processor_seconds": used}


def size_of(folder: Path) -> dict[str, int]:
    """Number of files below `folder`, their bytes, and the bytes of the disk that they take; pages apart."""
    found = {"files": 0, "bytes": 0, "bytes_on_disk": 0, "bytes_of_pages": 0}
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            found["files"] += 1
            found["bytes"] += status.st_size
            found["bytes_on_disk"] += 512 * status.st_blocks
            found["bytes_of_pages"] += status.st_size * (path.parent.name in ("data", "assets"))
    return found


def resident(process: int) -> float:
    """Resident memory of a process in MB; 0 if it is gone."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    match = re.search(r"VmRSS:\s+(\d+)", text)
    return int(match[1]) * 1024 / 1e6 if match else 0.0


def processor_seconds(process: int) -> float:
    """Processor time that a process has used; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(process: int) -> list[int]:
    """Processes that the threads of a process started."""
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found += [int(text) for text in path.read_text().split()]
        except OSError:
            continue
    return found
