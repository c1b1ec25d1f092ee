"""`gen-prior layers CLASSIFIER`: the layers whose units can be named."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options
from gen_prior.cli.network import takes_network
from gen_prior.cli.output import note, print_json, print_table


@takes_network
def run(
    classifier: Annotated[
        str, typer.Argument(metavar="CLASSIFIER", help="A classifier; see gen-prior models.")
    ] = defaults.CLASSIFIER,
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
    if as_json:
        print_json({name: list(layout.shape) for name, layout in layouts.items()})
        return
    rows = [[name, " x ".join(map(str, layout.shape)), layout.axes] for name, layout in layouts.items()]
    print_table("", ["layer", "output", "axes"], rows)
    note("A target is LAYER:UNIT, as in gen-prior synth blocks.10:42.", quiet=quiet)
