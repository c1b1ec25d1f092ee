"""Output of the commands that train a prior: their progress, and where the result is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen_prior.cli.shared.output import console, errors, print_json

if TYPE_CHECKING:
    from gen_prior.util.progress import Progress

LOSSES = ("pixel", "feature", "fool", "flow", "held_out", "kept", "coarse", "rough")
"""The losses that the progress line shows."""


@contextmanager
def reporting(out: Path, quiet: bool) -> Iterator[dict[str, Any]]:
    """The callbacks `progress` and `report` of training, shown as one line; Ctrl-C says what `out` holds."""
    from gen_prior.training.checkpoints import checkpoints

    with errors.status("starting", spinner="line") as status:
        if quiet:
            status.stop()

        def progress(done: Progress) -> None:
            status.update(f"{done.label}: {done.done} of {done.total}")

        def report(record: dict[str, Any]) -> None:
            left = (record["steps"] - record["step"]) * record["seconds"] / record["step"]
            losses = ", ".join(f"{name} {record[name]:.4g}" for name in LOSSES if name in record)
            status.update(
                f"step {record['step']} of {record['steps']}, {record['images_per_second']:.0f} images/s, "
                f"{losses}, {left / 60:.0f} min left"
            )

        try:
            yield {"progress": progress, "report": report}
        except KeyboardInterrupt:
            saved = [path for folder in (out, *out.glob("*-*/")) for path in checkpoints(folder)]
            kept = f"{saved[0].name} is in {out}; go on with --resume" if saved else "no checkpoint was written yet"
            raise KeyboardInterrupt(f"stopped; {kept}") from None


def announce(file: Path, out: Path, as_json: bool, quiet: bool) -> None:
    """Print where the trained generator is and how to load it."""
    if as_json:
        print_json({"out": str(out), "file": str(file), "generator": f"local-dir:{out}"})
    elif not quiet:
        console.print(f"{file}: load it with --generator local-dir:{out}", markup=False, soft_wrap=True)
