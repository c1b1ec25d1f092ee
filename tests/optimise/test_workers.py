"""Jobs shared between threads: each in order, the one furthest behind first, one thread per kernel, errors raised."""

from __future__ import annotations

import threading

import pytest
import torch

from gen_prior.optimise.workers import run_each, run_jobs
from gen_prior.util.devices import one_thread


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_phase_of_every_job_runs_once_and_in_order(workers: int) -> None:
    done: list[list[int]] = [[], [], []]
    reports: list[tuple[int, threading.Thread, int]] = []

    def after(phase: int) -> None:
        reports.append((phase, threading.current_thread(), min(map(len, done))))

    run_jobs([phases.append for phases in done], 20, workers, after)
    assert done == [list(range(20))] * 3
    assert [phase for phase, _, _ in reports] == list(range(20))
    assert {thread for _, thread, _ in reports} == {threading.current_thread()}
    assert all(least > phase for phase, _, least in reports)


def test_two_threads_work_at_the_same_time_each_with_kernels_of_one_thread() -> None:
    both = threading.Barrier(2, timeout=20)
    threads: set[tuple[int, int]] = set()

    def job(phase: int) -> None:
        both.wait()  # passed only if the other job runs meanwhile
        threads.add((threading.get_ident(), torch.get_num_threads()))

    before = torch.get_num_threads()
    with one_thread(torch.device("cpu")) as allowed:
        run_jobs([job, job], 3, 2)
    assert allowed == torch.get_num_threads() == before
    assert len(threads) == 2
    assert {count for _, count in threads} == {1}


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_ends_the_run(workers: int) -> None:
    reached: list[int] = []

    def broken(phase: int) -> None:
        reached.append(phase)
        if phase == 2:
            raise ValueError("broken")

    others: list[list[int]] = [[], []]
    with pytest.raises(ValueError, match="broken"):
        run_jobs([broken, *(phases.append for phases in others)], 50, workers)
    assert reached == [0, 1, 2]
    assert max(map(len, others)) < 50

    def interrupted(phase: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([phases.append for phases in others], 50, workers, interrupted)
    assert not [thread for thread in threading.enumerate() if "_work" in thread.name], "no thread is left behind"


def test_results_come_in_the_order_of_the_functions() -> None:
    assert run_each([lambda n=n: n * n for n in range(7)], 3) == [n * n for n in range(7)]  # type: ignore[misc]
    assert run_each([], 3) == []
