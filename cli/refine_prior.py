"""`gen-prior refine-prior`: a trained prior at twice its side, from a few hundred large photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options, training

Prior = Annotated[
    Path,
    typer.Argument(metavar="PRIOR", help="The folder that train-, refine-, flow-, calm- or detail-prior wrote."),
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
    """Train a last stage that doubles the side of a prior's images; both are exported as one generator.

    A few hundred photographs are enough, since many squares are cut out of each. A prior that has such a stage already
    learns on, with a flow (flow-prior) on the codes that come of it. After detail-prior, which leaves such a stage out,
    a new one doubles the side once more.

    Example: [bold]gen-prior refine-prior my-prior --images large-photographs --out my-prior-128[/bold]
    """
    from gen_prior import load_classifier
    from gen_prior.training.stages.larger_images import refine_prior
    from gen_prior.training.stages.larger_images_trainer import RefinerSettings

    settings = training.changed(RefinerSettings(**options.given(steps=steps, batch=batch)), others or ())
    network = load_classifier(classifier, device=device)
    with training.reporting(out, settings.batch, quiet) as callbacks:
        file = refine_prior(network, prior, images, out, settings, resume=resume, **callbacks)
    training.announce(file, out, as_json, quiet)
