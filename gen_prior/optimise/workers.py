"""Independent jobs of several phases each, computed by threads that take one phase of one job at a time.

A kernel on a CPU adds in an order that depends on the shape of its input and on the number of threads that share it,
and an optimisation amplifies the last digits. So on a CPU every job is one item, computed by one thread: its bits do
not depend on what runs beside it, and no core waits for another at every kernel.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")
Job = Callable[[int], None]
"""Called as job(phase), with phases 0, 1, 2, ... in order, by any thread."""


def run_jobs(jobs: Sequence[Job], phases: int, workers: int, after: Callable[[int], None] = lambda phase: None) -> None:
    """Run `phases` phases of every job on `workers` threads, of which the calling one is the first.

    The job that is furthest behind is always the next. `after(phase)` is called in the calling thread, in order, once
    all jobs have done that phase. The first exception of a job or of `after` ends the run and is raised here.
    """
    schedule = _Schedule(len(jobs), phases)
    threads = [
        threading.Thread(target=_work, args=(jobs, schedule), daemon=True) for _ in range(min(workers, len(jobs)) - 1)
    ]
    reported = 0
    try:
        for thread in threads:
            thread.start()
        while (turn := schedule.take()) is not None:
            phase, index = turn
            jobs[index](phase)
            schedule.give_back(phase, index)
            while reported < schedule.completed():
                after(reported)
                reported += 1
    except BaseException as error:
        schedule.stop(error)
        raise
    finally:
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if schedule.error is not None:
        raise schedule.error
    for phase in range(reported, phases):
        after(phase)


def run_each(functions: Sequence[Callable[[], T]], workers: int) -> list[T]:
    """Call each function, on `workers` threads, and return their results."""
    results: list[T | None] = [None] * len(functions)

    def job(index: int) -> Job:
        def call(phase: int) -> None:
            results[index] = functions[index]()

        return call

    run_jobs([job(index) for index in range(len(functions))], 1, workers)
    return results  # type: ignore[return-value]


def _work(jobs: Sequence[Job], schedule: _Schedule) -> None:
    """Take turns until there are none left."""
    torch.set_num_threads(1)  # OpenMP counts them per calling thread
    try:
        while (turn := schedule.take()) is not None:
            phase, index = turn
            jobs[index](phase)
            schedule.give_back(phase, index)
    except BaseException as error:
        schedule.stop(error)


class _Schedule:
    """The next phase of each job, shared by threads."""

    def __init__(self, jobs: int, phases: int) -> None:
        self.jobs, self.phases = jobs, phases
        self.waiting = [(0, index) for index in range(jobs)]
        self.done = [0] * phases
        self.error: BaseException | None = None
        self.lock = threading.Lock()

    def take(self) -> tuple[int, int] | None:
        """The next (phase, job); None if no job waits or the run has been stopped."""
        with self.lock:
            return heapq.heappop(self.waiting) if self.waiting and self.error is None else None

    def give_back(self, phase: int, index: int) -> None:
        """Note that a phase of a job is done; its next one waits."""
        with self.lock:
            self.done[phase] += 1
            if phase + 1 < self.phases:
                heapq.heappush(self.waiting, (phase + 1, index))

    def completed(self) -> int:
        """Number of phases that all jobs have done."""
        with self.lock:
            return next((phase for phase, count in enumerate(self.done) if count < self.jobs), self.phases)

    def stop(self, error: BaseException) -> None:
        """Let no more turns be taken, because of `error`; the first one counts."""
        with self.lock:
            self.error = self.error or error
