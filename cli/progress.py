"""Progress on stderr, and what Ctrl-C leaves behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gen_prior.cli.output import errors

if TYPE_CHECKING:
    from torch import Tensor

INTERVAL = 0.25
"""Seconds between looks at the activations: they are on the device, and reading them makes the host wait."""


class StepBar:
    """A bar with steps, activation and time left: `bar.steps` for `synthesize`, `bar.work` for `compare`."""

    def __init__(self, quiet: bool = False) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[step]}"),
            TextColumn("{task.fields[activation]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=errors,
            disable=quiet,
        )
        self._task = self._bar.add_task("starting", total=None, step="", activation="")
        self._looked = 0.0

    def __enter__(self) -> StepBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def steps(self, item: int, items: int, step: int, steps: int, activations: Tensor) -> None:
        """After a step of the batch that starts at `item`; activations `[B]`, on the device."""
        batch = len(activations)
        last = min(item + batch, items)
        what = f"image {item + 1}" + (f"-{last}" if batch > 1 else "") + f" of {items}"
        self._show(what, item * steps + batch * step, items * steps, f"step {step}/{steps}", activations)

    def work(self, what: str, done: int, total: int, activations: Tensor | None) -> None:
        """After `done` of `total` classifier evaluations; activations `[B]`, on the device, where there are any."""
        self._show(what, done, total, f"{done}/{total} evaluations", activations)

    def _show(self, what: str, done: int, total: int, step: str, activations: Tensor | None) -> None:
        due = activations is None or done == total or time.monotonic() - self._looked > INTERVAL
        if self._bar.disable or not due:
            return
        self._looked = time.monotonic()
        self._bar.start()  # only at the first step, so that an error before it leaves no empty bar
        self._bar.update(self._task, description=what, completed=done, total=total, step=step)
        if activations is not None:
            self._bar.update(self._task, activation=f"activation {activations.mean().item():.4g}")


@contextmanager
def keeping(out: Path) -> Iterator[None]:
    """Around work that writes to `out` as it goes: on Ctrl-C, says what is finished and where."""
    before = _stamps(out)
    try:
        yield
    except KeyboardInterrupt:
        fresh = [path for path, stamp in _stamps(out).items() if before.get(path) != stamp]
        finished = f"{len(fresh)} finished image{'s' * (len(fresh) != 1)} in {out}" if fresh else "nothing was finished"
        raise KeyboardInterrupt(f"stopped; {finished}") from None


def _stamps(folder: Path) -> dict[Path, int]:
    """When each image below `folder` was written; contact sheets and strips are not counted as images."""
    made_of_others = ("contact-sheet", "-sheet.", "-strip.")
    paths = (path for path in folder.rglob("*.png") if not any(part in path.name for part in made_of_others))
    return {path: path.stat().st_mtime_ns for path in paths}
