"""`train_prior`: from a classifier's name and a folder of photographs to a generator that loads by its folder.

Glue over the trainer, the reading of photographs and the export; it reports and never prints.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.utils import make_grid

from gen_prior.classifiers import Classifier
from gen_prior.errors import ImageError, OptionError
from gen_prior.files import write_bytes, write_png
from gen_prior.generators.base import Generator
from gen_prior.generators.dgn import RECIPE
from gen_prior.generators.dgn_network import SIZES, WhitenedDecoder
from gen_prior.synthesis import synthesize
from gen_prior.training.checkpoints import checkpoints, latest_checkpoint
from gen_prior.training.export import code_statistics, export, load_networks, principal_directions
from gen_prior.training.images import check_source, open_photographs
from gen_prior.training.networks import Trunk, choose_taps
from gen_prior.training.trainer import Settings, Trainer

SHEET_COLUMNS = 8
LOG = "log.jsonl"
MAY_CHANGE = ("steps",)
"""Settings that a resumed run may change: everything else would make it another run."""


def train_prior(
    classifier: Classifier,
    images: str | Path,
    out: str | Path,
    settings: Settings | None = None,
    *,
    resume: bool = False,
    start_from: str | Path | None = None,
    log_every: int = 50,
    checkpoint_seconds: float = 240.0,
    sheet_steps: int = 32,
    reading: Callable[[int, int], None] | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train a deep generator network that inverts `classifier`, and export it.

    Args:
        classifier: any convolutional classifier; it is read, never changed.
        images: a folder of photographs, nested or flat, or of `.tar` shards of them.
        out: folder for the cache of decoded photographs, checkpoints, `log.jsonl`, sample sheets and the result.
        settings: all that the result is a function of, beside the data and the classifier.
        start_from: the `networks.safetensors` of another run of the same shape, to begin with; the critics then take
            part from the first step.
        resume: go on from the newest undamaged checkpoint in `out`.
        log_every, checkpoint_seconds: steps between records, seconds between checkpoints.
        sheet_steps: steps of the activation maximisation on the sample sheet.
        reading: called as (read, images) while the photographs are decoded.
        progress: called with every record: step, steps, seconds, images_per_second, losses, checkpoint.

    Returns:
        The exported file; `load_generator("local-dir:OUT")` loads it.

    Raises:
        OptionError: settings that make no sense, a classifier without the layers it takes, a folder with another run.
        ImageError: no images, too few, or most of them unreadable.
        OutputError: a folder that cannot be written to.
    """
    settings, out = settings if settings is not None else Settings(), Path(out)
    check_settings(settings)
    check_source(images)
    if checkpoints(out) and not resume:
        raise OptionError(f"{out} holds a training run", fix="go on with --resume, or pass another --out")
    networks = None
    if start_from is not None:
        networks, digest = load_networks(Path(start_from))
        settings = replace(settings, started_from=digest, adversarial_from=0)
    taps = choose_taps(classifier.network, settings.size, len(classifier.mean))
    write_bytes(out / ".gen-prior-probe", b"")
    (out / ".gen-prior-probe").unlink()
    photographs = open_photographs(images, settings.size, out / "cache", reading)
    if len(photographs) < 2 * settings.batch:
        raise ImageError(
            f"{len(photographs)} readable images are too few for batches of {settings.batch}",
            fix="pass more images, or a smaller --batch",
        )
    trainer = Trainer(Trunk(classifier.network, taps), classifier.normalise, photographs, settings, classifier.device)
    if networks is not None:
        trainer.start_from(networks, str(start_from))
    if resume:
        check_same_run(out, settings, taps)
        trainer.resume(out)
    truncate_log(out / LOG, trainer.step)
    for record in trainer.run(out, log_every=log_every, checkpoint_seconds=checkpoint_seconds):
        if record["checkpoint"]:
            sheet = sample_sheet(trainer, classifier, sheet_steps)
            write_png(out / f"sheet-{record['step']:08d}.png", sheet)
            write_png(out / "sheet.png", sheet)
        if progress is not None:
            progress(record | {"steps": settings.steps})
    return export(trainer, out, name=out.resolve().name, classifier=classifier.describe(), extra={})


def check_settings(settings: Settings) -> None:
    """Raises `OptionError` for settings that no run can have."""
    if settings.size not in SIZES:
        raise OptionError(f"size must be one of {', '.join(map(str, SIZES))}, got {settings.size}")
    if settings.steps < 1:
        raise OptionError(f"steps must be at least 1, got {settings.steps}")
    if settings.batch < 2:
        raise OptionError(f"batch must be at least 2, got {settings.batch}")
    if not 0 < settings.width <= 16:
        raise OptionError(f"width must lie in 0 to 16, got {settings.width}")


def check_same_run(out: Path, settings: Settings, taps: list[str]) -> None:
    """Raises `OptionError` where the checkpoint in `out` is of a run with other settings."""
    state = latest_checkpoint(out)
    if state is None:
        return
    ours = asdict(settings) | {"taps": taps}
    theirs = asdict(settings) | state["settings"] | {"taps": state["taps"]}
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


def sample_sheet(trainer: Trainer, classifier: Classifier, steps: int) -> Tensor:
    """`[3, H, W]`: held-out photographs, their reconstructions, imagined codes, fixed targets maximised; a row each."""
    columns = min(SHEET_COLUMNS, len(trainer.held_out))
    photographs = trainer.photographs.batch(trainer.held_out[:columns]).to(trainer.device)
    generator = current_generator(trainer)
    source = torch.Generator().manual_seed(0)
    imagined = torch.randn(columns, *generator.code_shape, generator=source).to(trainer.device)
    with torch.no_grad():
        decoded = trainer.decoder_average(trainer.encode(photographs)).clamp(0, 1)
        rows = [photographs, decoded, generator(imagined)]
    classes = classifier.layer_shape("logits")[0]
    count = min(columns, classes)
    targets = [f"logits:{round(index * (classes - 1) / max(1, count - 1))}" for index in range(count)]
    made = synthesize(classifier, targets, generator, steps=steps).images[:, 0]
    grid: Tensor = make_grid([image.float().cpu() for row in [*rows, made] for image in row], nrow=columns)
    return grid


def current_generator(trainer: Trainer, photographs: int = 512) -> Generator:
    """The generator that an export would make now, its statistics taken from fewer photographs."""
    mean, covariance = code_statistics(trainer, photographs)
    network = WhitenedDecoder(deepcopy(trainer.decoder_average), mean, principal_directions(covariance))
    generator = Generator(network, (network.basis.shape[1],), output_range=(0, 1), name="in training", recipe=RECIPE)
    return generator.to(trainer.device)
