"""What training a prior and refining one have in common around the run itself: checks, data, records, sheets."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from gen_prior.errors import ImageError, OptionError
from gen_prior.training.base_trainer import Training
from gen_prior.training.checkpoints import checkpoints, latest_checkpoint
from gen_prior.training.photographs import Count, Photographs, check_source, open_photographs
from gen_prior.training.settings import EnlargingSettings, RunSettings, TrainingSettings
from gen_prior.util.files import write_bytes
from gen_prior.util.image_io import write_png

LOG = "log.jsonl"
MAY_CHANGE = ("steps",)
"""Settings that a resumed run may change: everything else would make it another run."""
Progress = Callable[[dict[str, Any]], None]


def check_run(images: str | Path, out: Path, settings: TrainingSettings, resume: bool) -> None:
    """Early refusals. Raises `OptionError` for impossible settings or a folder with another run, `ImageError`."""
    if settings.steps < 1:
        raise OptionError(f"steps must be at least 1, got {settings.steps}")
    if settings.batch < 2:
        raise OptionError(f"batch must be at least 2, got {settings.batch}")
    if isinstance(settings, RunSettings) and not 0 <= settings.rehearsed <= 4:
        raise OptionError(f"rehearsed must lie in 0 to 4, got {settings.rehearsed}")
    if isinstance(settings, EnlargingSettings):
        for name in ("coring", "grain"):
            if not 0 <= getattr(settings, name) < math.inf:
                raise OptionError(f"{name} must be a finite number, not negative, got {getattr(settings, name)}")
    check_source(images)
    if checkpoints(out) and not resume:
        raise OptionError(f"{out} holds a training run", fix="go on with --resume, or pass another --out")


def read_photographs(
    images: str | Path,
    out: Path,
    batch: int,
    size: int,
    reading: Count | None,
    crops: int = 1,
) -> Photographs:
    """The photographs below `images` as a run takes them, cached in `out`. Raises `ImageError`, `OutputError`."""
    write_bytes(out / ".gen-prior-probe", b"")
    (out / ".gen-prior-probe").unlink()
    photographs = open_photographs(images, size, out / "cache", reading, crops)
    if len(photographs) < 2 * batch:
        raise ImageError(
            f"{len(photographs)} readable images are too few for batches of {batch}",
            fix="pass more images, or a smaller --batch",
        )
    return photographs


def conduct(
    trainer: Training,
    out: Path,
    *,
    resume: bool,
    sheet: Callable[[], Tensor],
    log_every: int,
    checkpoint_seconds: float,
    progress: Progress | None,
) -> None:
    """Run `trainer` to its end, from its newest checkpoint if `resume`; `sheet` draws one at every checkpoint."""
    if resume:
        check_same_run(out, trainer)
        trainer.resume(out)
    truncate_log(out / LOG, trainer.step)
    for record in trainer.run(out, log_every=log_every, checkpoint_seconds=checkpoint_seconds):
        if record["checkpoint"]:
            picture = sheet()
            write_png(out / f"sheet-{record['step']:08d}.png", picture)
            write_png(out / "sheet.png", picture)
        if progress is not None:
            progress(record | {"steps": trainer.settings.steps})


def check_same_run(out: Path, trainer: Training) -> None:
    """Raises `OptionError` where the checkpoint in `out` is of a run with other settings."""
    state = latest_checkpoint(out)
    if state is None:
        return
    ours = asdict(trainer.settings) | {"taps": list(trainer.taps)}
    theirs = asdict(trainer.settings) | state["settings"] | {"taps": state["taps"]}
    different = [name for name in ours if name not in MAY_CHANGE and ours[name] != theirs[name]]
    if different:
        name = different[0]
        raise OptionError(
            f"the run in {out} has {name} {theirs[name]!r}, not {ours[name]!r}",
            fix="pass the same settings, or another --out",
        )


def truncate_log(path: Path, step: int) -> None:
    """Drop the records after `step`, which a resumed run makes again, and a torn last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, LookupError, TypeError):
            continue
    write_bytes(path, "".join(kept).encode())
