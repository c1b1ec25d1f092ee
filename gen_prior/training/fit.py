"""Run a training stage: refuse impossible runs early, read the photographs, train, report, draw contact sheets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor
from torchvision.utils import make_grid

from gen_prior.errors import ImageError, OptionError
from gen_prior.training.base_trainer import BaseTrainer, ReportCallback
from gen_prior.training.checkpoints import checkpoints, latest_checkpoint
from gen_prior.training.photographs import Photographs, check_sources, open_photographs
from gen_prior.training.settings import TrainingSettings
from gen_prior.util.files import write_bytes
from gen_prior.util.image_io import write_png
from gen_prior.util.progress import ProgressCallback

LOG = "log.jsonl"
SHEET_COLUMNS = 8
MAY_CHANGE = ("steps",)
"""Settings that a resumed run may change; with any other it would be another run."""


class RunOptions(TypedDict, total=False):
    """Options of `fit` that each stage passes on."""

    log_every: int
    """Steps between reports; 50 if not given."""
    checkpoint_seconds: float
    """Least seconds between checkpoints; 240 if not given."""
    report: ReportCallback | None
    """Called with each report: step, steps, seconds, images_per_second, losses, checkpoint."""


def fit(
    trainer: BaseTrainer,
    out: Path,
    sheet: Callable[[], Tensor],
    *,
    resume: bool,
    log_every: int = 50,
    checkpoint_seconds: float = 240.0,
    report: ReportCallback | None = None,
) -> None:
    """Train to the end, from the newest checkpoint in `out` if `resume`; write `sheet` with each checkpoint.

    Raises `OptionError` if the run in `out` has other settings, `OutputError` if `out` cannot be written to.
    """
    if resume and (state := latest_checkpoint(out)) is not None:
        _check_same_run(out, trainer, state)
        trainer.load_state(state)
    truncate_log(out / LOG, trainer.step)
    for record in trainer.run(out, log_every=log_every, checkpoint_seconds=checkpoint_seconds):
        if record["checkpoint"]:
            picture = sheet()
            write_png(out / f"sheet-{record['step']:08d}.png", picture)
            write_png(out / "sheet.png", picture)
        if report is not None:
            report(record)


def check_run(images: str | Path | None, out: Path, settings: TrainingSettings, resume: bool) -> None:
    """Early refusals.

    Raises `OptionError` for impossible settings or a folder with another run, `ImageError` if `images` does not exist.
    """
    settings.check()
    if images is not None:
        check_sources(images)
    if checkpoints(out) and not resume:
        raise OptionError(f"{out} holds a training run", fix="go on with --resume, or pass another --out")


def read_photographs(
    images: str | Path, out: Path, batch: int, size: int, progress: ProgressCallback | None, crops: int = 1
) -> Photographs:
    """The photographs below `images`, cached in `out`.

    Raises `ImageError` if there are fewer than two batches of them, `OutputError` if `out` cannot be written to.
    """
    write_bytes(out / ".gen-prior-probe", b"")
    (out / ".gen-prior-probe").unlink()
    photographs = open_photographs(images, size, out / "cache", progress, crops)
    if len(photographs) < 2 * batch:
        raise ImageError(
            f"{len(photographs)} readable images are too few for batches of {batch}",
            fix="pass more images, or a smaller --batch",
        )
    return photographs


def contact_sheet(rows: Sequence[Tensor]) -> Tensor:
    """One picture `[3, H, W]` in [0, 1] of rows of images, `[N, 3, S, S]` each."""
    images = torch.cat([row.clamp(0, 1).float().cpu() for row in rows])
    grid: Tensor = make_grid(images, nrow=len(rows[0]))
    return grid


def _check_same_run(out: Path, trainer: BaseTrainer, state: dict[str, Any]) -> None:
    """Raises `OptionError` if the checkpoint in `out` is of a run with other settings."""
    ours = asdict(trainer.settings) | {"hook_layers": list(trainer.hook_layers)}
    theirs = ours | state["settings"] | {"hook_layers": state["hook_layers"]}
    different = [name for name in ours if name not in MAY_CHANGE and ours[name] != theirs[name]]
    if different:
        name = different[0]
        raise OptionError(
            f"the run in {out} has {name} {theirs[name]!r}, not {ours[name]!r}",
            fix="pass the same settings, or another --out",
        )


def truncate_log(path: Path, step: int) -> None:
    """Drop the reports after `step`, which a resumed run makes again, and a torn last line."""
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
