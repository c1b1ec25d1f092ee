"""`gen-prior calm-prior`: a trained prior unlearns the texture that it draws where a code says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gen_prior.cli import options, training

Prior = Annotated[Path, typer.Argument(metavar="PRIOR", help="The folder that a training, or export, wrote.")]


def run(
    prior: Prior,
    out: training.Out,
    resume: training.Resume = False,
    steps: training.Steps = None,
    others: training.Set = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Calm what a trained prior draws near its mean code, and export it.

    No photograph has a code there, and critics fill it with a woven texture, in which optimisations get stuck. Takes a
    few minutes on a CPU, and neither photographs nor the classifier.

    Example: [bold]gen-prior calm-prior my-prior-flow --out my-prior-calm[/bold]
    """
    from gen_prior.training.stages.texture import CalmSettings, calm_prior

    settings = training.changed(CalmSettings(**options.given(steps=steps)), others or ())
    with training.reporting(out, settings.batch, quiet) as callbacks:
        file = calm_prior(prior, out, settings, device=device, resume=resume, progress=callbacks["progress"])
    training.announce(file, out, as_json, quiet)
