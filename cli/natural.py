"""`gen-prior natural CLASSIFIER --images DIR`: how strongly photographs excite each unit."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from gen_prior.cli.shared import options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import print_json, print_remark
from gen_prior.cli.shared.progress import ProgressBar
from gen_prior.errors import OptionError
from gen_prior.util.files import as_output_errors, is_file
from gen_prior.util.words import counted


@with_classifier_options
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
    *,
    network_options: dict[str, Any],
) -> None:
    """Count how strongly photographs excite each unit: the table that results are compared with.

    One pass over the folder, in constant memory. An interrupted run goes on where it stopped.

    Example: [bold]gen-prior natural efficientnet-lite0 --images photographs --out natural.safetensors[/bold]
    """
    import gen_prior
    from gen_prior.applications.photograph_pass import matching_layers, statistics_of_units

    is_other = os.path.lexists(out) and not is_file(out)
    if not out.name or is_other:
        raise OptionError(f"the table is one file, got {str(out)!r}", fix="--out natural.safetensors")
    if is_file(out):
        _check_table(out)
    network = gen_prior.load_classifier(classifier, device=device, **network_options)
    names = matching_layers(network, layers) if layers else None
    state = out.with_name(f".{out.name}.partial")
    with as_output_errors(out), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        state.stat()  # a name may be too long
    with ProgressBar(quiet) as bar:
        table = statistics_of_units(
            network, images, names, source=source, state=state, batch=batch, progress=bar.show,
            on_bad=lambda message: print_remark(message, quiet=quiet),
        )  # fmt: skip
    with as_output_errors(out):
        table.save(out)
    shutil.rmtree(state, ignore_errors=True)
    size = {"layers": len(table.tables), "units": sum(len(lowest) for lowest in table.lowest.values())}
    activity = {name: found for name in table.tables if (found := table.activity(name)) is not None}
    if as_json:
        shares = {name: {"never_active": never, "mostly_active": most} for name, (never, most) in activity.items()}
        print_json({"out": str(out)} | size | table.metadata | {"activity": shares})
    elif not quiet:
        units, of = counted(size["units"], "unit"), counted(size["layers"], "layer")
        print(f"{units} of {of} over {counted(int(table.metadata['images']), 'photograph')}, in {out}")
        for name, (never, most) in activity.items():
            number = len(table.lowest[name])
            print(
                f"{name}: of {number}, {never} never active, {most} active at the centre of at least half of the images"
            )


def _check_table(path: Path) -> None:
    """Raise `OptionError` unless `path` is a table, which a new one may replace."""
    from gen_prior.errors import WeightsError
    from gen_prior.objectives.natural_statistics import NaturalStatistics

    try:
        NaturalStatistics.load(path)
    except WeightsError as error:
        raise OptionError(f"{path} is there, and no table of gen-prior natural", fix="pass another --out") from error
