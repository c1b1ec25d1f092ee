"""`gen-prior natural CLASSIFIER --images DIR`: how strongly photographs excite each unit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from gen_prior.cli import options
from gen_prior.cli.output import note, print_json
from gen_prior.cli.progress import ProgressBar
from gen_prior.errors import OptionError
from gen_prior.util.files import as_output_errors


def run(
    classifier: Annotated[str, typer.Argument(metavar="CLASSIFIER", help="A classifier; see gen-prior models.")],
    images: Annotated[Path, typer.Option("--images", metavar="DIR", help="A folder of photographs.")],
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers",
            metavar="PATTERN",
            help="Layers, such as blocks.* or head; repeatable; all if not given. Latents of a sparse autoencoder: "
            "blocks.9/sae:SOURCE.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The table, a safetensors file.")] = Path(
        "natural.safetensors"
    ),
    source: Annotated[
        str, typer.Option("--source", metavar="TEXT", help="Where the photographs come from, for the metadata.")
    ] = "",
    batch: Annotated[int, typer.Option("--batch", help="Photographs at a time.")] = 8,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Count how strongly photographs excite each unit: the table that results are compared with.

    One pass over the folder, in constant memory. An interrupted run goes on where it stopped.

    Example: [bold]gen-prior natural efficientnet-lite0 --images photographs --out natural.safetensors[/bold]
    """
    import gen_prior
    from gen_prior.applications.photograph_pass import matching_layers, statistics_of_units

    if not out.name or os.path.isdir(out):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        raise OptionError(f"the table is one file, got {str(out)!r}", fix="--out natural.safetensors")
    network = gen_prior.load_classifier(classifier, device=device)
    names = matching_layers(network, layers) if layers else None
    state = out.with_name(f".{out.name}.partial")
    with ProgressBar(quiet) as bar:
        table = statistics_of_units(
            network, images, names, source=source, state=state, batch=batch, progress=bar.show,
            on_bad=lambda message: note(message, quiet=quiet),
        )  # fmt: skip
    with as_output_errors(out):
        table.save(out)
    shutil.rmtree(state, ignore_errors=True)
    counted = {"layers": len(table.tables), "units": sum(len(lowest) for lowest in table.lowest.values())}
    activity = {name: found for name in table.tables if (found := table.activity(name)) is not None}
    if as_json:
        shares = {name: {"never_active": never, "mostly_active": most} for name, (never, most) in activity.items()}
        print_json({"out": str(out)} | counted | table.metadata | {"activity": shares})
    elif not quiet:
        print(f"{counted['units']} units of {counted['layers']} layers over {table.metadata['images']} images in {out}")
        for name, (never, most) in activity.items():
            units = len(table.lowest[name])
            print(
                f"{name}: of {units}, {never} never active, {most} active at the centre of at least half of the images"
            )
