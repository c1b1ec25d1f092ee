"""`gen-prior train-prior`: a generator prior for any classifier, from any folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options, training

Size = Annotated[int, typer.Option("--size", help="Side of the generator's images: 64, 128 or 256.")]
StartFrom = Annotated[
    Path | None,
    typer.Option("--start-from", metavar="FILE", help="Begin with the networks.safetensors of another run."),
]
Width = Annotated[float | None, typer.Option("--width", help="Factor on the channels of the generator.")]


def run(
    images: training.Images,
    out: training.Out,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    size: Size = 64,
    resume: training.Resume = False,
    start_from: StartFrom = None,
    steps: training.Steps = None,
    width: Width = None,
    batch: training.Batch = None,
    others: training.Set = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a generator prior that inverts a classifier, and export it as a folder that loads by its path.

    Ctrl-C leaves the last checkpoint; --resume goes on from it along the same trajectory.

    Example: [bold]gen-prior train-prior --classifier efficientnet-lite0 --images photographs --out my-prior[/bold]
    """
    from gen_prior import load_classifier
    from gen_prior.training.stages.decoder import train_prior
    from gen_prior.training.stages.decoder_trainer import Settings

    settings = Settings(size=size, **options.given(steps=steps, width=width, batch=batch))
    settings = training.changed(settings, others or ())
    network = load_classifier(classifier, device=device)
    with training.reporting(out, settings.batch, quiet) as callbacks:
        file = train_prior(network, images, out, settings, resume=resume, start_from=start_from, **callbacks)
    training.announce(file, out, as_json, quiet)
