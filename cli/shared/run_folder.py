"""The folder of a run: that of --out, or one of its own; after Ctrl-C the message says what is in it."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import gen_prior.defaults as defaults
from gen_prior.cli.shared.progress import keeping
from gen_prior.util.files import as_output_errors
from gen_prior.util.folders import only_writer, run_writer


@contextlib.contextmanager
def run_folder(out: Path | None, command: str, names: Sequence[str] = (), *, numbered: bool = True) -> Iterator[Path]:
    """Yield the folder `out`, or without it `gen-prior-out/COMMAND-NAMES`, of which this is the only writer.

    With `numbered`, a folder that exists is left alone, and the next number is taken; the files of its run are listed,
    so that another one can replace it. A folder into which nothing was
    written is removed. Raises `OutputError` for one that cannot be written to, or that another process writes to.
    """
    base = Path(defaults.OUT)
    folder = out if out is not None else _own(base, command, names, numbered)
    try:
        with (run_writer if numbered else only_writer)(folder), keeping(folder):
            yield folder
    finally:
        if out is None:
            with contextlib.suppress(OSError):
                folder.rmdir()
                base.rmdir()


def _own(base: Path, command: str, names: Sequence[str], numbered: bool) -> Path:
    """`gen-prior-out/COMMAND-NAMES`; with `numbered`, a new folder, made here so that no other run takes it."""
    name = re.sub(r"[^A-Za-z0-9.@]+", "-", "-".join([command, *names]))[:80].strip("-.")
    if not numbered:
        return base / name
    with as_output_errors(base):
        base.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            folder = base / (name if number == 1 else f"{name}-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
    raise AssertionError
