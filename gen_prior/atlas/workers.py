"""Engines on one machine: this process, or worker processes that keep their networks loaded.

A worker is `python -m gen_prior.atlas.workers`: it loads the networks and says so, reads numbers of shards from stdin,
makes each, and answers with a line of JSON. When stdin ends, because the driver stops or was killed, it finishes its
neuron and ends.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import gen_prior.errors as errors
from gen_prior.atlas.make_shard import make_shard, networks_of
from gen_prior.atlas.networks import Networks
from gen_prior.errors import GenPriorError, OptionError
from gen_prior.util.devices import free_memory
from gen_prior.util.reading import first_line

WORKER_BYTES = 1_500_000_000
"""Memory of a worker with networks of the size of the embedded ones."""


class WorkerDiedError(Exception):
    """A worker process that ended.

    Attributes:
        began: True if it was making a shard, which may be why; False if it was still starting.
    """

    def __init__(self, message: str, *, began: bool = True) -> None:
        super().__init__(message)
        self.began = began


class ThisProcess(Executor):
    """Makes shards in a thread of this process, with networks that are loaded."""

    width = 1

    def __init__(self, networks: Networks) -> None:
        self.networks, self._stop = networks, threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="atlas")

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Run `make_shard` after what was submitted before."""
        return self._pool.submit(function, *arguments, networks=self.networks, stop=self._stop.is_set, **options)

    def stop(self) -> None:
        """End after the neuron that is being made."""
        self._stop.set()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop, and wait for the thread."""
        self.stop()
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


class LocalWorkers(Executor):
    """Worker processes, one a GPU, or on a CPU with one thread each.

    A worker that dies is replaced; its shard fails with a `WorkerDiedError`.
    """

    def __init__(self, folder: Path, count: int, device: str) -> None:
        self.width, self.folder, self.device = count, folder, device
        self._jobs: queue.Queue[tuple[Future[Any], int] | None] = queue.Queue()
        self._stop, self._workers = threading.Event(), dict[int, subprocess.Popen[str]]()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._serve, args=(n,), daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def process_ids(self) -> list[int]:
        """Process numbers of the workers that run now."""
        return [worker.pid for worker in list(self._workers.values()) if worker.poll() is None]

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Have a worker run `make_shard(folder, index)`; other functions raise `TypeError`."""
        if function is not make_shard or options or Path(arguments[0]) != self.folder:
            raise TypeError("local workers make shards of one atlas")
        future: Future[Any] = Future()
        self._jobs.put((future, int(arguments[1])))
        return future

    def stop(self) -> None:
        """End all workers after the neurons that they make."""
        with self._lock:
            self._stop.set()
            for worker in self._workers.values():
                _close(worker)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop, and wait for all workers."""
        self.stop()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _serve(self, number: int) -> None:
        """Pass jobs to worker `number`, one after the other."""
        while (job := self._jobs.get()) is not None:
            future, index = job
            if not future.set_running_or_notify_cancel():
                continue
            if self._stop.is_set():
                future.set_result({"shard": index, "state": "stopped", "made": 0, "seconds": 0.0})
                continue
            try:
                settle(future, self._ask(number, index))
            except WorkerDiedError as error:
                future.set_exception(error)
        self._reap(number)

    def _reap(self, number: int) -> int:
        """Wait for worker `number` to end; its exit code."""
        worker = self._workers.get(number)
        if worker is None:
            return 0
        _close(worker)
        code = worker.wait()
        if worker.stdout is not None:
            worker.stdout.close()
        return code

    def _ask(self, number: int, index: int) -> dict[str, Any]:
        """The answer of worker `number`, started if need be, for a shard. Raises `WorkerDiedError`."""
        worker = self._workers.get(number)
        if worker is None or worker.poll() is not None:
            self._reap(number)
            worker = self._start(number)
            self._answer(number, worker, began=False)
        assert worker.stdin is not None
        with suppress(OSError, ValueError):
            worker.stdin.write(f"{index}\n")
            worker.stdin.flush()
        return self._answer(number, worker, began=True)

    def _answer(self, number: int, worker: subprocess.Popen[str], *, began: bool) -> dict[str, Any]:
        """The next line of worker `number`. Raises `WorkerDiedError`."""
        assert worker.stdout is not None
        line = worker.stdout.readline()
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            code = self._reap(number)
            cause = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            when = "" if began else " while it started"
            raise WorkerDiedError(f"worker process {worker.pid} ended {cause}{when}", began=began) from None
        return found

    def _start(self, number: int) -> subprocess.Popen[str]:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # the user's own code is found as here
        if self.device == "cpu":
            environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        elif self.device == "cuda":
            visible = environment.get("CUDA_VISIBLE_DEVICES", "")
            devices = visible.split(",") if visible else [str(gpu) for gpu in range(torch.cuda.device_count())]
            environment["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
        with self._lock:
            worker = subprocess.Popen(
                [sys.executable, "-m", "gen_prior.atlas.workers", str(self.folder)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True,  # Ctrl-C is the driver's
            )  # fmt: skip
            self._workers[number] = worker
            if self._stop.is_set():
                _close(worker)
        return worker


def worker_count(workers: int | None, device: torch.device, shards: int) -> int:
    """Worker processes: as many as asked for, else one a GPU, or one a core as far as the free memory goes.

    Raises `OptionError` for less than one.
    """
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        free = free_memory(torch.device("cpu"))
        fitting = cores if free is None else max(1, min(cores, free // WORKER_BYTES))
        workers = {"cpu": fitting, "cuda": torch.cuda.device_count()}.get(device.type, 1)
    if workers < 1:
        raise OptionError(f"workers must be at least 1, got {workers}")
    return max(1, min(workers, shards))


def _close(worker: subprocess.Popen[str]) -> None:
    """Let a worker read the end of its stdin."""
    if worker.stdin is not None:
        with suppress(OSError, ValueError):
            worker.stdin.close()


def answer(folder: str, index: int, stop: Callable[[], bool] | None = None) -> dict[str, Any]:
    """Result of `make_shard`, or the error that it raises, as plain values for `settle`."""
    try:
        return make_shard(folder, index, stop=stop)
    except Exception as error:
        ours = isinstance(error, GenPriorError)
        message, fix = (error.message, error.fix) if ours else (first_line(error), None)  # type: ignore[attr-defined]
        return {"shard": index, "kind": type(error).__name__, "message": message, "fix": fix}


def settle(future: Future[Any], answered: dict[str, Any]) -> None:
    """Give a future the result or the exception that a worker answered with."""
    if "state" in answered:
        future.set_result(answered)
        return
    kind = getattr(errors, answered["kind"], None)
    if isinstance(kind, type) and issubclass(kind, GenPriorError):
        try:
            future.set_exception(kind(answered["message"], fix=answered["fix"]))
        except TypeError:  # errors that are made of other arguments
            future.set_exception(GenPriorError(answered["message"], fix=answered["fix"]))
    else:
        future.set_exception(RuntimeError(f"{answered['kind']}: {answered['message']}"))


def main(folder: str) -> None:
    """Make the shards whose numbers come on stdin; answer each on what was stdout, which others may now print to."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    stop, jobs = threading.Event(), queue.Queue[int | None]()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def read() -> None:
        with suppress(ValueError, OSError):
            for line in sys.stdin:
                jobs.put(int(line))
        stop.set()
        jobs.put(None)

    threading.Thread(target=read, daemon=True).start()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    with suppress(Exception):  # make_shard meets the same error, and answers with it
        networks_of(folder)
    with suppress(OSError):  # the driver is gone
        print("{}", file=answers, flush=True)
    while (index := jobs.get()) is not None:
        with suppress(OSError):
            print(json.dumps(answer(folder, index, stop.is_set)), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
