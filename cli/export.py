"""`gen-prior export NAME DIR`: write a generator as a folder for the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gen_prior.cli import options
from gen_prior.cli.output import console, print_json


def run(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="A generator.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", show_default=False, help="A new folder.")],
    comparison: Annotated[
        Path | None,
        typer.Option("--comparison", metavar="DIR", help="A folder of gen-prior compare, for the model card."),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Number of sample images.")] = 6,
    settings: options.Settings = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a generator's weights, configuration, sample images and model card, ready to be pushed to the Hub.

    Example: [bold]gen-prior export dgn-lite0 my-prior[/bold]
    """
    from gen_prior.applications.publish import export

    folder = export(name, out, comparison=comparison, samples=samples, options=options.parse_settings(settings))
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    if as_json:
        print_json({"folder": str(folder), "files": files})
        return
    if not quiet:
        console.print(f"{folder}: {', '.join(files)}", markup=False, soft_wrap=True)
