"""`gen-prior doctor GENERATOR`: examine a generator and write a report that can be sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gen_prior.cli.shared import options
from gen_prior.cli.shared.output import console, print_json
from gen_prior.cli.shared.progress import ProgressBar


def run(
    generator: Annotated[str, typer.Argument(metavar="GENERATOR", show_default=False, help="A generator.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the report.")] = Path(
        "gen-prior-doctor"
    ),
    device: options.Device = "auto",
    settings: options.Settings = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Download and load a generator, draw an image, measure it, and report what succeeded and what failed, and why.

    Example: [bold]gen-prior doctor titok:ll32[/bold]
    """
    from gen_prior.applications.doctor import JSON, MARKDOWN, examine

    with ProgressBar(quiet) as bar:
        report = examine(generator, out, device=device, options=options.parse_settings(settings), progress=bar.show)
    if as_json:
        print_json(report)
    elif not quiet:
        for name, step in report["steps"].items():
            reason = f": {step['reason']}" if "reason" in step else ""
            console.print(f"{name}: {step['status']}{reason}", markup=False, soft_wrap=True)
        console.print(f"Report: {out / MARKDOWN} and {out / JSON}", markup=False, soft_wrap=True)
    if not report["ok"]:
        raise typer.Exit(1)
