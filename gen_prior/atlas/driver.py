"""The sweep: hands the shards of an atlas that are missing to an engine, and keeps count of what comes back.

The engine is any `concurrent.futures.Executor`; it only dispatches. What is done is what the records on the disk say.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from contextlib import suppress
from typing import Any

from gen_prior.atlas.make_shard import DONE, make_shard
from gen_prior.atlas.records import Records
from gen_prior.atlas.workers import WorkerDiedError
from gen_prior.errors import DeviceError, GenPriorError
from gen_prior.util.folders import InUseError, only_writer
from gen_prior.util.progress import Progress, ProgressCallback
from gen_prior.util.reading import first_line
from gen_prior.util.words import counted

WIDTH = 8
"""Shards that an engine without a `width` works on at once."""
POLL = 0.5
"""Seconds between two looks at the folders of the shards that are being made."""
AGAIN = 2.0
"""Seconds before a shard that another process makes, or that failed, is tried again."""

IN_A_ROW = 20
"""Failures without a finished neuron between them that end the sweep: something ails every shard."""


class Sweep:
    """One run of the driver over the shards of an atlas.

    Args:
        share: (k, n) to make only every n-th shard, beginning with number k - 1.
        stop: asked all the time; once it returns True, what runs is ended after its neuron.
        progress: called with a `Progress` in neurons.
    """

    def __init__(
        self,
        records: Records,
        executor: Executor,
        *,
        share: tuple[int, int] = (1, 1),
        stop: Callable[[], bool] = lambda: False,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.records, self.executor, self.stop, self.progress = records, executor, stop, progress
        self.indices = range(share[0] - 1, records.manifest.shards, share[1])
        self.total = sum(map(records.manifest.neurons_of, self.indices))
        self.set_aside = 0
        self._finished = 0
        """Neurons of finished shards."""
        self._partial: dict[int, int] = {}
        """Finished neurons of the shards that are begun."""
        self._running: dict[Future[dict[str, Any]], int] = {}
        self._waiting: deque[int] = deque()
        self._failures, self._done_then = 0, -1
        """Failures since the last finished neuron, and how many neurons were done then."""
        self._later: dict[int, float] = {}
        """Shard -> when it is to be tried again."""

    @property
    def done(self) -> int:
        """Neurons that are on the disk."""
        return self._finished + sum(self._partial.values())

    def run(self) -> None:
        """Make all missing shards. Raises what every other shard would meet too: a full disk, other networks."""
        self._waiting.extend(self._missing())
        self._began, self._before = time.monotonic(), self.done
        width = 2 * int(getattr(self.executor, "width", WIDTH))
        try:
            while (self._waiting or self._later or self._running) and not self.stop():
                self._wake()
                while self._waiting and len(self._running) < width:
                    index = self._waiting.popleft()
                    self._running[self.executor.submit(make_shard, str(self.records.folder), index)] = index
                if self._running:
                    wait(self._running, timeout=POLL, return_when=FIRST_COMPLETED)
                else:
                    time.sleep(POLL)
                self._collect()
                self._report()
        finally:
            self._end()
        self._report()

    def _missing(self) -> Iterator[int]:
        """Shards that are neither done nor set aside; clears what killed processes left of finished ones."""
        records = self.records
        recorded, failed, begun = records.indices("records"), records.indices("failed"), records.begun()
        for index in self.indices:
            if index in recorded and records.is_done(index):
                self._finished += records.manifest.neurons_of(index)
                if index in begun:
                    _clear(records, index)
                continue
            if index in begun:
                self._partial[index] = records.finished_neurons(index)
            if index in failed and records.is_set_aside(index):
                self.set_aside += 1
            else:
                yield index

    def _wake(self) -> None:
        """Let shards that have waited long enough be tried again, unless another process has finished them."""
        for index in [index for index, when in self._later.items() if when <= time.monotonic()]:
            del self._later[index]
            if self.records.is_done(index):
                self._finish(index)
            else:
                self._waiting.append(index)

    def _collect(self) -> None:
        """Take what has ended."""
        for future in [future for future in self._running if future.done()]:
            index = self._running.pop(future)
            try:
                if future.result()["state"] == DONE:
                    self._finish(index)
                else:
                    self._later[index] = time.monotonic() + AGAIN
            except CancelledError:
                self._later[index] = time.monotonic()
            except GenPriorError as error:
                if not isinstance(error, DeviceError):
                    raise
                self._fail(index, error)
            except Exception as error:
                self._fail(index, error)

    def _finish(self, index: int) -> None:
        self._partial.pop(index, None)
        self._finished += self.records.manifest.neurons_of(index)

    def _fail(self, index: int, error: Exception) -> None:
        """Note a failure, after which the shard is set aside or tried again; one of a worker's start is not its own."""
        self._failures = self._failures + 1 if self.done == self._done_then else 1
        self._done_then = self.done
        if self._failures >= IN_A_ROW:
            raise GenPriorError(
                f"{IN_A_ROW} shards failed in a row, the last one with {type(error).__name__}: {first_line(error)}",
                fix="mend the cause, then gen-prior atlas --retry-failed DIR",
            ) from error
        began = not isinstance(error, WorkerDiedError) or error.began
        if began and self.records.fail(index, f"{type(error).__name__}: {first_line(error)}"):
            self.set_aside += 1
        else:
            self._later[index] = time.monotonic()

    def _report(self) -> None:
        """Count the neurons that are on the disk, and tell."""
        for index in self._running.values():
            if count := self.records.finished_neurons(index):
                self._partial[index] = count
        if self.progress is not None:
            self.progress(Progress(self.done, self.total, self._label()))

    def _label(self) -> str:
        """As "12 of 64 neurons, 850 an hour, 4 min left, 1 shard failed"."""
        parts = [f"{self.done} of {self.total} neurons"]
        elapsed, made = time.monotonic() - self._began, self.done - self._before
        if made > 0 and elapsed > 0:
            parts.append(f"{made / elapsed * 3600:.0f} an hour")
            if left := self.total - self.done:
                parts.append(f"{in_words(left / made * elapsed)} left")
        if self.set_aside:
            parts.append(f"{counted(self.set_aside, 'shard')} failed")
        return ", ".join(parts)

    def _end(self) -> None:
        """End what runs: each process finishes its neuron."""
        for future in self._running:
            future.cancel()
        if (stop := getattr(self.executor, "stop", None)) is not None:
            stop()
        wait(self._running)
        for future in list(self._running):
            with suppress(BaseException):
                if future.result()["state"] == DONE:
                    self._finish(self._running[future])
        self._running.clear()


def _clear(records: Records, index: int) -> None:
    """Delete what is left of the making of a finished shard, unless another process is about to."""
    with suppress(InUseError), only_writer(records.partial(index)) as folder:
        shutil.rmtree(folder, ignore_errors=True)


def in_words(seconds: float) -> str:
    """A time such as "3 h 20 min"."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(0, round(seconds))} s"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
