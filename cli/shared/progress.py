"""Progress on stderr as a bar or as lines, and the message after Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich import progress as bars
from rich.table import Column

from gen_prior.cli.shared.output import errors, print_remark, printable
from gen_prior.util.words import counted

if TYPE_CHECKING:
    from gen_prior.util.progress import Progress, ProgressCallback

WIDE, MIDDLE = 100, 70
"""Letters in a line that have room for a bar, and for the activation."""
INTERVAL = 0.25
"""Seconds between two reads of the activations: they are on the device, and reading them makes the host wait."""
LINE_EVERY = 60.0
"""Seconds between two lines of progress where there is no terminal."""


class ProgressBar:
    """A bar with label, activation and time left: `synthesize(..., progress=bar.show)`."""

    def __init__(self, quiet: bool = False) -> None:
        self._bar = bars.Progress(*_columns(errors.width), console=errors, disable=quiet)
        self._task = self._bar.add_task("starting", total=None, activation="")
        self._last_read = 0.0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Show `progress`, at most every `INTERVAL` seconds if it has activations."""
        activations = progress.activations
        due = activations is None or progress.done >= progress.total or time.monotonic() - self._last_read > INTERVAL
        if self._bar.disable or not due:
            return
        self._last_read = time.monotonic()
        self._bar.start()  # not before the first step, so that an error before it leaves no empty bar
        self._bar.update(
            self._task, description=printable(progress.label), completed=progress.done, total=progress.total
        )
        if activations is not None:
            self._bar.update(self._task, activation=f"activation {activations.mean().item():.4g}")


def _columns(width: int) -> list[bars.ProgressColumn]:
    """Text that fits into a line of `width` letters: always the label, cut, the share, and how long it still takes."""
    shown: list[tuple[int, bars.ProgressColumn]] = [(4, bars.TaskProgressColumn())]
    if width >= MIDDLE:
        shown.append((20, bars.TextColumn("{task.fields[activation]}")))
    shown += [(7, bars.TimeRemainingColumn()), (4, bars.TextColumn("left"))]
    if width >= WIDE:
        shown.insert(0, (20, bars.BarColumn(20)))
    room = max(8, width - sum(1 + letters for letters, _ in shown))
    label = bars.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=room))
    return [label, *(column for _, column in shown)]


class _Lines:
    """Progress as a line a minute, for logs."""

    def __init__(self) -> None:
        self._last, self._label = -LINE_EVERY, ""

    def show(self, progress: Progress) -> None:
        kind = progress.label.partition(",")[0]  # without the rate, which a last report of the same work changes
        ended = progress.done >= progress.total and kind != self._label
        if time.monotonic() - self._last >= LINE_EVERY or ended:
            self._last, self._label = time.monotonic(), kind
            counts = "" if str(progress.total) in progress.label else f" ({progress.done} of {progress.total})"
            print_remark(f"{time.strftime('%H:%M:%S')} {progress.label}{counts}")


@contextmanager
def bar_or_lines(quiet: bool) -> Iterator[ProgressCallback]:
    """Callback that shows the progress of long work: a bar on a terminal, lines elsewhere, nothing if `quiet`."""
    if quiet:
        yield lambda progress: None
    elif sys.stderr.isatty() and errors.is_terminal:
        with ProgressBar() as bar:
            yield bar.show
    else:
        yield _Lines().show


@contextmanager
def keeping(out: Path) -> Iterator[None]:
    """Context of work that writes images to `out`: after Ctrl-C, the message says how many are finished."""
    before = _write_times(out)
    try:
        yield
    except KeyboardInterrupt:
        new = [path for path, written in _write_times(out).items() if before.get(path) != written]
        finished = f"{counted(len(new), 'finished image')} in {out}" if new else "nothing was finished"
        raise KeyboardInterrupt(f"stopped; {finished}") from None


def _write_times(folder: Path) -> dict[Path, int]:
    """Image below `folder` -> when it was written, without sheets and strips, which are made of other images."""
    made_of_others = ("contact-sheet", "-sheet.", "-strip.", "exemplars", "figure.")
    others = ("inversion.png", "original.png", "photograph.png")
    paths = (
        path
        for path in folder.rglob("*.png")
        if path.name not in others
        and not any(part in path.name for part in made_of_others)
        and not (path.name == "dream.png" and any(path.parent.glob("frame-*.png")))  # a copy of the last frame
    )
    return {path: path.stat().st_mtime_ns for path in paths}
