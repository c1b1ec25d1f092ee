"""`gen-prior train-prior`: a generator prior for any classifier, from any folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options
from gen_prior.cli.output import console, errors, print_json

Images = Annotated[
    Path, typer.Option("--images", "-i", metavar="DIR", help="Photographs: a folder, nested or flat, or .tar shards.")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Checkpoints, log, sample sheets and the result.")
]
Size = Annotated[int, typer.Option("--size", help="Side of the generator's images: 64, 128 or 256.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")]
StartFrom = Annotated[
    Path | None,
    typer.Option("--start-from", metavar="FILE", help="Begin with the networks.safetensors of another run."),
]
Steps = Annotated[int | None, typer.Option("--steps", help="Training steps; the library's default if not given.")]
Width = Annotated[float | None, typer.Option("--width", help="Factor on the channels of the generator.")]
Batch = Annotated[int | None, typer.Option("--batch", help="Photographs per step.")]


def run(
    images: Images,
    out: Out,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    size: Size = 64,
    resume: Resume = False,
    start_from: StartFrom = None,
    steps: Steps = None,
    width: Width = None,
    batch: Batch = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a generator prior that inverts a classifier, and export it as a folder that loads by its path.

    Ctrl-C leaves the last checkpoint; --resume goes on from it along the same trajectory.

    Example: [bold]gen-prior train-prior --classifier efficientnet-lite0 --images photographs --out my-prior[/bold]
    """
    from gen_prior import load_classifier
    from gen_prior.training.checkpoints import checkpoints
    from gen_prior.training.command import train_prior
    from gen_prior.training.trainer import Settings

    settings = Settings(size=size, **options.given(steps=steps, width=width, batch=batch))
    network = load_classifier(classifier, device=device)
    with errors.status("starting", spinner="line") as status:
        if quiet:
            status.stop()

        def reading(done: int, total: int) -> None:
            status.update(f"reading photographs: {done} of {total}")

        def training(record: dict[str, Any]) -> None:
            left = (record["steps"] - record["step"]) * settings.batch / max(record["images_per_second"], 1e-9)
            losses = ", ".join(f"{name} {record[name]:.4g}" for name in ("pixel", "feature", "fool") if name in record)
            status.update(
                f"step {record['step']} of {record['steps']}, {record['images_per_second']:.0f} images/s, "
                f"{losses}, {left / 60:.0f} min left"
            )

        how: dict[str, Any] = {"resume": resume, "start_from": start_from}
        how |= {"reading": reading, "progress": training}
        try:
            file = train_prior(network, images, out, settings, **how)
        except KeyboardInterrupt:
            saved = checkpoints(out)
            kept = f"{saved[0].name} is in {out}; go on with --resume" if saved else "no checkpoint was written yet"
            raise KeyboardInterrupt(f"stopped; {kept}") from None
    if as_json:
        print_json({"out": str(out), "file": str(file), "generator": f"local-dir:{out}"})
    elif not quiet:
        console.print(f"{file}: load it with --generator local-dir:{out}", markup=False, soft_wrap=True)
