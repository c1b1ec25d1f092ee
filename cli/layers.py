"""`gen-prior layers CLASSIFIER`: the layers whose units can be named."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli.shared import options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import print_json, print_remark, print_table


@with_classifier_options
def run(
    classifier: Annotated[
        str, typer.Argument(metavar="CLASSIFIER", help="A classifier; see gen-prior models.")
    ] = defaults.CLASSIFIER,
    natural: Annotated[
        Path | None,
        typer.Option(
            "--natural",
            metavar="FILE",
            help="A table of gen-prior natural: also list the dictionaries in it, and how many units or latents no "
            "photograph activates (never), and at least half of them do at the layer's centre (mostly).",
        ),
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """List the layers of a classifier with the shapes of their outputs and what the axes are.

    Example: [bold]gen-prior layers efficientnet-lite0[/bold]
    """
    import gen_prior

    layouts = gen_prior.load_classifier(classifier, device=device, **network_options).layouts()
    shapes = {name: list(layout.shape) for name, layout in layouts.items()}
    if natural is None:
        if as_json:
            print_json(shapes)
            return
        rows = [[name, " x ".join(map(str, layout.shape)), layout.axes] for name, layout in layouts.items()]
        print_table("", ["layer", "output", "axes"], rows)
    else:
        table = gen_prior.NaturalStatistics.load(natural)
        counted = [(name, len(table.lowest[name]), *(table.activity(name) or (None, None))) for name in table.tables]
        if as_json:
            keys = ("layer", "units", "never_active", "mostly_active")
            print_json([dict(zip(keys, row, strict=True)) for row in counted])
            return
        rows = [[name, *("-" if value is None else str(value) for value in values)] for name, *values in counted]
        print_table("", ["layer", "units", "never active", "mostly active"], rows)
    known = [name for name, layout in layouts.items() if layout.unit_axis is not None]
    if known:
        print_remark(f"A target is LAYER:UNIT, as in gen-prior synth {known[len(known) // 2]}:0.", quiet=quiet)
