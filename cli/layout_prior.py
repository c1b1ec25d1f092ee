"""`gen-prior layout-prior`: each class begins with the form of photographs that the classifier takes for it most."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options, training

Prior = Annotated[Path, typer.Argument(metavar="PRIOR", help="The folder that flow-prior or a later training wrote.")]
Layouts = Annotated[int | None, typer.Option("--layouts", help="Photographs for each class; 8 if not given.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The result, and a cache to begin again from.")]


def run(
    prior: Prior,
    images: training.Images,
    out: Out,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    layouts: Layouts = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Keep for each class the codes of photographs that look most like it, and export the prior with them.

    Nothing is trained. Each seed of a class then begins with the coarse form of one of these photographs, which need
    not be of that class: its image is composed like a photograph from the start.

    Example: [bold]gen-prior layout-prior my-prior-flow --images photographs --out my-prior-layouts[/bold]
    """
    from gen_prior import load_classifier
    from gen_prior.training.stages.class_exemplars import LayoutSettings, layout_prior

    settings = LayoutSettings(**options.given(layouts=layouts))
    network = load_classifier(classifier, device=device)
    with training.reporting(out, 1, quiet, encoding="encoding photographs") as callbacks:
        callbacks.pop("progress")
        file = layout_prior(network, prior, images, out, settings, **callbacks)
    training.announce(file, out, as_json, quiet)
