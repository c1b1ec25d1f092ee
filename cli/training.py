"""What the training commands share: their options, the progress line, what Ctrl-C and the end say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gen_prior.cli.output import console, errors, print_json
from gen_prior.errors import OptionError, UnknownNameError

if TYPE_CHECKING:
    from gen_prior.training.settings import TrainingSettings

Images = Annotated[
    Path, typer.Option("--images", "-i", metavar="DIR", help="Photographs: a folder, nested or flat, or .tar shards.")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Checkpoints, log, sample sheets and the result.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Training steps; the library's default if not given.")]
Batch = Annotated[int | None, typer.Option("--batch", help="Photographs per step.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other training setting, e.g. adversarial_weight=0.15."),
]

S = TypeVar("S", bound="TrainingSettings")


def changed(settings: S, assignments: Sequence[str]) -> S:
    """`settings` with `NAME=VALUE` assignments made. Raises `UnknownNameError`, `OptionError`."""
    known = {field.name: getattr(settings, field.name) for field in fields(settings)}
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if name not in known:
            raise UnknownNameError("training setting", name, sorted(known))
        try:
            value = json.loads(text) if not isinstance(known[name], str) else text
        except ValueError:
            value = None
        if not equals or not _fits(value, known[name]):
            kind = type(known[name]).__name__
            raise OptionError(
                f"--set takes NAME=VALUE, {name} a value like {known[name]!r} ({kind}), got {assignment!r}"
            )
        values[name] = type(known[name])(value)
    return replace(settings, **values)


def _fits(value: Any, like: Any) -> bool:
    """Whether `value`, read from text, can stand for `like`."""
    if isinstance(like, tuple):
        return isinstance(value, list) and len(value) == len(like) and all(map(_fits, value, like))
    if isinstance(like, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(like)


@contextmanager
def reporting(out: Path, batch: int, quiet: bool, **stages: str) -> Iterator[dict[str, Any]]:
    """The callbacks of a training: `reading`, `progress`, and by name one that counts for each of `stages`.

    `stages` says what is done in each. Ctrl-C is answered with what is kept in `out`.
    """
    from gen_prior.training.checkpoints import checkpoints

    with errors.status("starting", spinner="line") as status:
        if quiet:
            status.stop()

        def counting(what: str) -> Callable[[int, int], None]:
            return lambda done, total: status.update(f"{what}: {done} of {total}")

        def progress(record: dict[str, Any]) -> None:
            left = (record["steps"] - record["step"]) * batch / max(record["images_per_second"], 1e-9)
            losses = ", ".join(
                f"{name} {record[name]:.4g}"
                for name in ("pixel", "feature", "fool", "flow", "held_out", "kept", "coarse", "rough")
                if name in record
            )
            status.update(
                f"step {record['step']} of {record['steps']}, {record['images_per_second']:.0f} images/s, "
                f"{losses}, {left / 60:.0f} min left"
            )

        try:
            named = {"reading": "reading photographs", **stages}
            yield {"progress": progress, **{name: counting(what) for name, what in named.items()}}
        except KeyboardInterrupt:
            saved = checkpoints(out)
            kept = f"{saved[0].name} is in {out}; go on with --resume" if saved else "no checkpoint was written yet"
            raise KeyboardInterrupt(f"stopped; {kept}") from None


def announce(file: Path, out: Path, as_json: bool, quiet: bool) -> None:
    """Say where the trained generator is and how to load it."""
    if as_json:
        print_json({"out": str(out), "file": str(file), "generator": f"local-dir:{out}"})
    elif not quiet:
        console.print(f"{file}: load it with --generator local-dir:{out}", markup=False, soft_wrap=True)
