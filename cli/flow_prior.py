"""`gen-prior flow-prior`: a trained prior learns which codes photographs of what have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options, training

Prior = Annotated[Path, typer.Argument(metavar="PRIOR", help="The folder that train-prior or refine-prior wrote.")]


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
    """Learn which codes photographs have, by the classifier's features of them, and export the prior with that.

    The prior's decoder does not change. A class then begins at the features that it asks for, so that its image has its
    colours from the start; layout-prior adds the form.

    Example: [bold]gen-prior flow-prior my-prior --images photographs --out my-prior-flow[/bold]
    """
    from gen_prior import load_classifier
    from gen_prior.training.stages.flow import flow_prior
    from gen_prior.training.stages.flow_trainer import FlowSettings

    settings = training.changed(FlowSettings(**options.given(steps=steps, batch=batch)), others or ())
    network = load_classifier(classifier, device=device)
    with training.reporting(out, settings.batch, quiet) as callbacks:
        file = flow_prior(network, prior, images, out, settings, resume=resume, **callbacks)
    training.announce(file, out, as_json, quiet)
