"""`gen-prior detail-prior`: a trained prior with a second level of the code, at twice its side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options, training

Prior = Annotated[
    Path,
    typer.Argument(metavar="PRIOR", help="The folder that train-prior, refine-prior, flow-prior or calm-prior wrote."),
]


def run(
    prior: Prior,
    images: training.Images,
    out: training.Out,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    resume: training.Resume = False,
    steps: training.Steps = None,
    batch: training.Batch = None,
    others: training.Set = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Give a prior's code details: four times as many places, for images of twice the side, drawn by one decoder.

    What of the finer code follows from the coarse one is fitted, the rest is left to the details. A few hundred
    photographs are enough, since many squares are cut out of each. A stage of refine-prior is left out;
    run that again afterwards.

    Example: [bold]gen-prior detail-prior my-prior --images large-photographs --out my-prior-detailed[/bold]
    """
    from gen_prior import load_classifier
    from gen_prior.training.stages.fine_code import detail_prior
    from gen_prior.training.stages.fine_code_trainer import DetailSettings

    settings = training.changed(DetailSettings(**options.given(steps=steps, batch=batch)), others or ())
    network = load_classifier(classifier, device=device)
    stages = {"encoding": "encoding photographs", "fitting": "fitting what follows from the coarse code, step"}
    with training.reporting(out, settings.batch, quiet, **stages) as callbacks:
        file = detail_prior(network, prior, images, out, settings, resume=resume, **callbacks)
    training.announce(file, out, as_json, quiet)
