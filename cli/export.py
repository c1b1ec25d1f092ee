"""`gen-prior export NAME DIR`: write a generator, or an atlas, as a folder for the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gen_prior.cli.shared import options
from gen_prior.cli.shared.output import console, print_json
from gen_prior.errors import OptionError


def run(
    name: Annotated[
        str, typer.Argument(metavar="NAME", show_default=False, help="A generator, or the folder of an atlas.")
    ],
    out: Annotated[Path | None, typer.Argument(metavar="DIR", show_default=False, help="A new folder.")] = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="The same folder, by name.")] = None,
    comparison: Annotated[
        Path | None,
        typer.Option("--comparison", metavar="DIR", help="A folder of gen-prior compare, for the model card."),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Number of sample images.")] = 6,
    settings: options.Settings = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a folder that is ready to be pushed to the Hub.

    Of a generator: its weights, configuration, sample images and model card. Of an atlas: a dataset of its pictures and
    numbers, in Parquet (extra tables), and a card, without any photograph.

    Example: [bold]gen-prior export dgn-lite0 my-prior[/bold]
    """
    from gen_prior.applications.publish import export
    from gen_prior.atlas.hub_export import export_atlas, is_atlas

    if (out is None) == (to is None):
        raise OptionError("export needs one folder", fix=f"gen-prior export {name} --to DIR")
    target = out if out is not None else to
    assert target is not None
    if is_atlas(name):
        folder = export_atlas(name, target)
    else:
        folder = export(name, target, comparison=comparison, samples=samples, options=options.parse_settings(settings))
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    if as_json:
        print_json({"folder": str(folder), "files": files})
        return
    if not quiet:
        console.print(f"{folder}: {', '.join(files)}", markup=False, soft_wrap=True)
